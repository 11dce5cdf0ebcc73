/* The memory: engine/memory.py function by function, where each is explained. */
#define STORED_LEVELS 90.0f
#define QUERY_LEVELS 127
#define WEIGHT_LEVELS 8192.0f
#define EVENT_UNITS (EVENT_HEADS * FINGERPRINT)
#define GROUP_UNITS (GROUP_HEADS * FINGERPRINT)
#define PENDING_OF_EVENTS (EVENT_TAPS * EVENT_UNITS)
#define PENDING (PENDING_OF_EVENTS + (GROUP_TAPS + 1) * GROUP_UNITS)
#define MASS_WIDTH 8 /* heads, rounded up to a vector */

enum { ENTRY_SHIFT, ENTRY_VELOCITY, ENTRY_DURATION, ENTRY_START, ENTRY_KEY, ENTRY_STEP, ENTRY_GROUP_STEP, ROLLED_COLUMNS };

/* ---- taking in */

/* Scale each of `heads` fingerprints to a length of 1. */
static void normalize(const float *restrict x, int heads, float *restrict y)
{
    for (int head = 0; head < heads; head++, x += FINGERPRINT, y += FINGERPRINT) {
        float sum = x[0] * x[0];
        for (int i = 1; i < FINGERPRINT; i++)
            sum += x[i] * x[i];
        float length = __builtin_sqrtf(sum);
        length = length > 1e-12f ? length : 1e-12f;
        for (int i = 0; i < FINGERPRINT; i++)
            y[i] = x[i] / length;
    }
}

/* Add a row of a table, (taps, width), to registers that are `stride` wide. */
static void add_taps(float *restrict registers, const float *restrict row, int taps, int width, int stride)
{
    for (int tap = 0; tap < taps; tap++)
        for (int i = 0; i < width; i++)
            registers[tap * stride + i] += row[tap * width + i];
}

static void shift_taps(float *registers, int taps, int stride) /* the next state's become this one's */
{
    for (int i = 0; i < (taps - 1) * stride; i++)
        registers[i] = registers[i + stride];
    for (int i = (taps - 1) * stride; i < taps * stride; i++)
        registers[i] = 0.0f;
}

static int entries_of(const Memories *memories)
{
    return memories->fixed + memories->ring;
}

static void begin_memory(const Model *model, const Memories *memories, int64_t slot)
{
    MemoryState *state = &memories->state[slot];
    float *pending = memories->pending + slot * PENDING;
    const int half = EVENT_UNITS / 2, num_keys = model->config.num_keys;
    state->written = 0, state->last_key = -1, state->last_note = -NO_ONSET;
    state->low = state->below = state->below_two = LOW_BEFORE;
    for (int i = 0; i < PENDING; i++)
        pending[i] = 0.0f;
    const int64_t width = (int64_t)EVENT_TAPS * half;
    add_taps(pending, model->memory.event_keys.kinds + (num_keys + 1) * width, EVENT_TAPS, half, EVENT_UNITS);
    add_taps(pending + half, model->memory.event_intervals.kinds + (2 * INTERVAL_REACH + 2) * width, EVENT_TAPS, half,
             EVENT_UNITS);
}

static void store_fingerprint(const Model *model, const Memories *memories, int64_t slot, int head, int entry, const float *x)
{
    const int64_t entries = entries_of(memories), row = slot * MEMORY_HEADS + head;
    const int64_t at = row * entries * FINGERPRINT + (int64_t)(entry / TILE_OUTPUTS) * TILE_OUTPUTS * FINGERPRINT;
    const int place = entry % TILE_OUTPUTS;
    if (model->config.precision == FLOAT32) {
        for (int i = 0; i < FINGERPRINT; i++)
            ((float *)memories->fingerprints)[at + i * TILE_OUTPUTS + place] = x[i];
        return;
    }
    int32_t sum = 0;
    for (int i = 0; i < FINGERPRINT; i++) {
        int8_t value = (int8_t)clamp(round_even(x[i] * STORED_LEVELS), -STORED_LEVELS, STORED_LEVELS); /* of NaN: a number */
        ((int8_t *)memories->fingerprints)[at + (i / 4) * 4 * TILE_OUTPUTS + place * 4 + i % 4] = value;
        sum += value;
    }
    memories->sums[row * entries + entry] = sum;
}

static int reach(int interval)
{
    return max_int(-INTERVAL_REACH, min_int(interval, INTERVAL_REACH)) + INTERVAL_REACH;
}

static int roll_place(const Model *model, int interval)
{
    return max_int(0, min_int(interval + ROLL_CENTRE, model->config.num_keys - 1));
}

static int wait_class(const Model *model, int32_t ticks)
{
    int class = bins_of(model, SHIFT) - 1;
    while (class > 0 && model->bin_first[SHIFT][class] > ticks)
        class--;
    return class;
}

/* Store the next event's entry, whose fingerprints are those of what came before it. */
static void store_entry(const Model *model, const Memories *memories, int64_t slot, const float *events, const float *before,
                        const uint8_t *columns)
{
    const int entry = memories->fixed + memories->state[slot].written % memories->ring;
    float stored[EVENT_UNITS];
    normalize(events, EVENT_HEADS, stored);
    for (int head = 0; head < MEMORY_HEADS; head++) {
        const float *x = head < EVENT_HEADS ? stored + head * FINGERPRINT : before + (head - EVENT_HEADS) * FINGERPRINT;
        store_fingerprint(model, memories, slot, head, entry, x);
    }
    __builtin_memcpy(memories->events + (slot * entries_of(memories) + entry) * ENTRY_COLUMNS, columns, ROLLED_COLUMNS);
}

/* Take in an event, given the classes of its fields and its onset; its entry is stored unless a later one takes its place. */
static void remember_event(const Model *model, const Memories *memories, int64_t slot, const int32_t *classes, int32_t onset,
                           int is_stored)
{
    const Memory *memory = &model->memory;
    MemoryState *state = &memories->state[slot];
    float *events = memories->pending + slot * PENDING, *groups = events + PENDING_OF_EVENTS;
    float *before = groups + GROUP_TAPS * GROUP_UNITS;
    const int keys = model->config.num_keys, notes = keys - model->config.num_pedals, half = EVENT_UNITS / 2;
    const int key = classes[KEY], last_key = state->last_key, is_note = key < notes;
    const int32_t wait = onset - state->last_note;
    const int starts = is_note && wait >= GROUP_TICKS, known = last_key >= 0 && is_note && last_key < notes;
    const int interval = key - max_int(last_key, 0);
    if (starts) {
        normalize(groups, GROUP_HEADS, before);
        shift_taps(groups, GROUP_TAPS, GROUP_UNITS);
        state->below_two = state->below, state->below = state->low, state->low = key;
    } else if (is_note) {
        state->low = min_int(state->low, key);
    }
    if (is_stored) {
        uint8_t columns[ROLLED_COLUMNS];
        columns[ENTRY_SHIFT] = (uint8_t)classes[SHIFT], columns[ENTRY_VELOCITY] = (uint8_t)classes[VELOCITY];
        columns[ENTRY_DURATION] = (uint8_t)classes[DURATION], columns[ENTRY_START] = (uint8_t)starts;
        columns[ENTRY_KEY] = (uint8_t)key, columns[ENTRY_STEP] = (uint8_t)(known ? roll_place(model, interval) : keys);
        columns[ENTRY_GROUP_STEP] = (uint8_t)(is_note ? roll_place(model, key - state->below_two) : keys);
        store_entry(model, memories, slot, events, before, columns);
    }
    state->written++;
    const int step = known ? reach(interval) : is_note && last_key < 0 ? reach(0) : 2 * INTERVAL_REACH + 1;
    const int64_t width = (int64_t)EVENT_TAPS * half, group_width = GROUP_TAPS * FINGERPRINT;
    shift_taps(events, EVENT_TAPS, EVENT_UNITS);
    add_taps(events, memory->event_keys.kinds + key * width, EVENT_TAPS, half, EVENT_UNITS);
    add_taps(events, memory->event_keys.times + classes[SHIFT] * width, EVENT_TAPS, half, EVENT_UNITS);
    add_taps(events + half, memory->event_intervals.kinds + step * width, EVENT_TAPS, half, EVENT_UNITS);
    add_taps(events + half, memory->event_intervals.times + classes[SHIFT] * width, EVENT_TAPS, half, EVENT_UNITS);
    state->last_key = key;
    if (!is_note)
        return;
    const Fingerprints *kinds[] = {&memory->group_keys, &memory->group_intervals};
    const int kind[] = {key, reach(key - state->below)};
    for (int head = 0; head < GROUP_HEADS; head++) {
        float *registers = groups + head * FINGERPRINT;
        add_taps(registers, kinds[head]->kinds + kind[head] * group_width, GROUP_TAPS, FINGERPRINT, GROUP_UNITS);
        if (starts)
            add_taps(registers, kinds[head]->times + wait_class(model, wait) * group_width, GROUP_TAPS, FINGERPRINT,
                     GROUP_UNITS);
    }
    state->last_note = onset;
}

EXPORT void VARIANT(remember)(const Model *model, const Token *tokens, int32_t count, const Memories *memories, int32_t slot)
{
    begin_memory(model, memories, slot);
    for (int32_t t = 1; t < count; t++)
        remember_event(model, memories, slot, tokens[t].classes, tokens[t].onset, count - t <= memories->ring);
}

/* ---- looking up */

typedef struct {
    float *query;      /* (MEMORY_HEADS, FINGERPRINT) */
    uint8_t *inputs;   /* (EVENT_HEADS, …) the query, then shares, as inputs of a map */
    int64_t stride;
    float *scores;     /* (MEMORY_HEADS, E) */
    float *mass;       /* (classes, MASS_WIDTH) */
    float *shares;     /* (classes) of one head */
    float *lines;      /* (EVENT_HEADS, wide) */
    int32_t column_sizes[ROLLED_COLUMNS];
    int32_t *groups;   /* (inputs of the widest map) */
} RecallScratch;

static int column_size(const Model *model, int column) /* its classes, one of an interval that is not known included */
{
    if (column < ENTRY_START)
        return model->config.input_classes[column == ENTRY_SHIFT ? SHIFT : column == ENTRY_VELOCITY ? VELOCITY : DURATION];
    return column == ENTRY_START ? 2 : model->config.num_keys + 1;
}

static int mass_rows(const Model *model)
{
    int rows = 0;
    for (int column = 0; column < ROLLED_COLUMNS; column++)
        rows += column_size(model, column);
    return rows;
}

static void lay_out_recall(const Model *model, int32_t entries, RecallScratch *scratch, Arena *arena)
{
    const Memory *memory = &model->memory;
    const Linear *values[] = {&memory->event_values, &memory->group_values};
    int bytes = FINGERPRINT * (int)sizeof(float), inputs = memory->keys.inputs;
    for (int i = 0; i < 2; i++)
        bytes = max_int(bytes, input_bytes(values[i])), inputs = max_int(inputs, values[i]->inputs);
    scratch->stride = bytes;
    for (int column = 0; column < ROLLED_COLUMNS; column++)
        scratch->column_sizes[column] = column_size(model, column);
    scratch->query = TAKE(arena, float, MEMORY_HEADS * FINGERPRINT);
    scratch->inputs = TAKE(arena, uint8_t, EVENT_HEADS * scratch->stride);
    scratch->scores = TAKE(arena, float, MEMORY_HEADS * entries);
    scratch->mass = TAKE(arena, float, mass_rows(model) * MASS_WIDTH);
    scratch->shares = TAKE(arena, float, mass_rows(model));
    scratch->groups = TAKE(arena, int32_t, inputs);
    scratch->lines = TAKE(arena, float, EVENT_HEADS * TILE_OUTPUTS * ((VALUE + TILE_OUTPUTS - 1) / TILE_OUTPUTS));
}

/* The scores of the entries from `from` to `to` of a head. */
static void score_entries(const Model *model, const Memories *memories, int64_t slot, int head, int from, int to,
                          const RecallScratch *scratch)
{
    const int64_t entries = entries_of(memories), row = slot * MEMORY_HEADS + head;
    const int int8 = model->config.precision == INT8;
    float *scores = scratch->scores + head * entries;
    Linear stored = {.precision = model->config.precision, .inputs = FINGERPRINT, .zero_point = QUERY_LEVELS + 1,
                     .inverse_step = (float)QUERY_LEVELS};
    stored.weights8 = (const int8_t *)memories->fingerprints + row * entries * FINGERPRINT;
    stored.weights32 = (const float *)memories->fingerprints + row * entries * FINGERPRINT;
    set_inputs(&stored, scratch->inputs, 0, scratch->query + head * FINGERPRINT, FINGERPRINT);
    const float scale = model->memory.scale[head] / (int8 ? STORED_LEVELS * (float)QUERY_LEVELS : 1.0f);
    const int32_t offset = stored.zero_point - INPUT_OFFSET, *sums = memories->sums + row * entries;
    for (int tile = from / TILE_OUTPUTS * TILE_OUTPUTS; tile < to; tile += TILE_OUTPUTS) {
        TileSums products;
        for (int o = 0; !int8 && o < TILE_OUTPUTS; o++)
            products.real[0][o] = 0.0f;
        if (int8)
            sum_tile8(&stored, 1, tile, 0, FINGERPRINT, scratch->inputs, scratch->stride, products.whole[0]);
        else
            sum_tile32(&stored, tile, 0, FINGERPRINT, scratch->inputs, products.real[0]);
        for (int o = 0; o < TILE_OUTPUTS; o++) /* the tile may hold more entries than are used */
            scores[tile + o] = (int8 ? (float)(products.whole[0][o] - offset * sums[tile + o]) : products.real[0][o]) * scale;
    }
}

/* The largest of some numbers and `least`: in lanes, because a single one waits for itself. */
#define LANES 32
#define FAR_BELOW -10.0f /* of the largest score: there a weight is rounded to 0 */

static float largest_of(const float *restrict values, int count, float least)
{
    float most[LANES];
    for (int lane = 0; lane < LANES; lane++)
        most[lane] = least;
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            most[lane] = values[i + lane] > most[lane] ? values[i + lane] : most[lane];
    for (; i < count; i++)
        most[0] = values[i] > most[0] ? values[i] : most[0];
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++)
            most[lane] = most[lane + half] > most[lane] ? most[lane + half] : most[lane];
    return most[0];
}

static int any_above(const float *restrict values, int count, float limit)
{
    int some = 0;
    for (int i = 0; i < count; i++)
        some |= values[i] > limit;
    return some;
}

static void exponentials(const float *restrict scores, int count, float most, int int8, float *restrict weights)
{
    if (int8)
        for (int i = 0; i < count; i++)
            weights[i] = round_even(exponential(scores[i] - most) * WEIGHT_LEVELS);
    else
        for (int i = 0; i < count; i++)
            weights[i] = exponential(scores[i] - most);
}

/* Add the weights of up to LANES entries from `from` on to those of their classes and to `totals` (MASS_WIDTH). */
static void add_mass(const Model *model, const Memories *memories, int64_t slot, int from, int count, const float *most,
                     const RecallScratch *scratch, float *totals)
{
    const int64_t entries = entries_of(memories);
    const int int8 = model->config.precision == INT8;
    float weights[LANES][MASS_WIDTH] = {{0.0f}}, of_head[LANES];
    int some = 0;
    for (int head = 0; head < MEMORY_HEADS; head++) {
        const float *scores = scratch->scores + head * entries + from;
        if (int8 && !any_above(scores, count, most[head] + FAR_BELOW))
            continue; /* most of what a sharp head sees weighs nothing */
        exponentials(scores, count, most[head], int8, of_head);
        for (int i = 0; i < count; i++)
            weights[i][head] = of_head[i];
        some = 1;
    }
    const uint8_t *event = memories->events + (slot * entries + from) * ENTRY_COLUMNS;
    for (int i = 0; some && i < count; i++, event += ENTRY_COLUMNS) {
        float *mass = scratch->mass;
        for (int head = 0; head < MASS_WIDTH; head++)
            totals[head] += weights[i][head];
        for (int column = 0; column < ROLLED_COLUMNS; column++) {
            float *class = mass + event[column] * MASS_WIDTH;
            for (int head = 0; head < MASS_WIDTH; head++)
                class[head] += weights[i][head];
            mass += scratch->column_sizes[column] * MASS_WIDTH;
        }
    }
}

/* Attend to the entries of a memory: the weight of each class into `mass`, that of nothing into `nothing` and of all into
 * `totals`, (MASS_WIDTH) each. */
static void attend(const Model *model, const Memories *memories, int64_t slot, float null_factor, const RecallScratch *scratch,
                   float *nothing, float *totals)
{
    const MemoryState *state = &memories->state[slot];
    const int int8 = model->config.precision == INT8, from = state->fixed_from, to = state->fixed_to;
    const int ring = memories->fixed, last = ring + min_int(state->written, memories->ring);
    float most[MEMORY_HEADS];
    for (int head = 0; head < MEMORY_HEADS; head++) {
        float *scores = scratch->scores + (int64_t)head * entries_of(memories);
        score_entries(model, memories, slot, head, from, to, scratch);
        score_entries(model, memories, slot, head, ring, last, scratch);
        for (int i = from; i < to; i++)
            scores[i] += memories->bonus[slot * memories->fixed + i];
        const float null = model->memory.null[head] * null_factor;
        most[head] = largest_of(scores + ring, last - ring, largest_of(scores + from, to - from, null));
        exponentials(&null, 1, most[head], int8, nothing + head);
    }
    for (int i = 0; i < mass_rows(model) * MASS_WIDTH; i++)
        scratch->mass[i] = 0.0f;
    for (int head = 0; head < MASS_WIDTH; head++)
        totals[head] = 0.0f;
    for (int i = from; i < to; i += LANES)
        add_mass(model, memories, slot, i, min_int(LANES, to - i), most, scratch, totals);
    for (int i = ring; i < last; i += LANES)
        add_mass(model, memories, slot, i, min_int(LANES, last - i), most, scratch, totals);
    for (int head = 0; head < MEMORY_HEADS; head++)
        totals[head] = totals[head] + nothing[head];
}

static int first_row_of(const Model *model, int column)
{
    int row = 0;
    for (int before = 0; before < column; before++)
        row += column_size(model, before);
    return row;
}

/* The roll of a head, (K): of keys, or of intervals laid at a key; `reference` -1: nothing can be laid. */
static void roll_of(const Model *model, int head, float total, int column, int reference, const RecallScratch *scratch,
                    float *restrict roll)
{
    const int keys = model->config.num_keys, notes = keys - model->config.num_pedals;
    const float *mass = scratch->mass + first_row_of(model, column) * MASS_WIDTH + head;
    for (int key = 0; key < keys; key++)
        roll[key] = 0.0f;
    if (column == ENTRY_KEY)
        for (int key = 0; key < keys; key++)
            roll[key] = mass[key * MASS_WIDTH] / total;
    else if (reference >= 0)
        for (int key = 0; key < notes; key++) {
            int at = key - reference + ROLL_CENTRE;
            if (at >= 0 && at < keys)
                roll[key] = mass[at * MASS_WIDTH] / total;
        }
}

/* What is read of some heads, (heads, VALUE). */
static void values_of(const Model *model, const Linear *map, int first, int heads, int columns, const float *totals,
                      const RecallScratch *scratch, float *values)
{
    const int rows = first_row_of(model, columns);
    for (int head = 0; head < heads; head++) {
        for (int row = 0; row < rows; row++)
            scratch->shares[row] = scratch->mass[row * MASS_WIDTH + first + head] / totals[first + head];
        set_inputs(map, scratch->inputs + head * scratch->stride, 0, scratch->shares, rows);
    }
    const int64_t wide = map->outputs;
    multiply_sparse(map, map->outputs, heads, scratch->inputs, scratch->stride, scratch->lines, wide, scratch->groups);
    for (int head = 0; head < heads; head++)
        __builtin_memcpy(values + head * VALUE, scratch->lines + head * wide, VALUE * sizeof(float));
}

/* Look up the last events of a memory: `values` (MEMORY_HEADS, VALUE), `rolls` (MEMORY_HEADS, K), `taken` (MEMORY_HEADS). */
static void recall(const Model *model, const Memories *memories, int64_t slot, float null_factor, const RecallScratch *scratch,
                   float *values, float *rolls, float *taken)
{
    const MemoryState *state = &memories->state[slot];
    const int keys = model->config.num_keys, notes = keys - model->config.num_pedals, half = EVENT_HEADS / 2;
    const float *pending = memories->pending + slot * PENDING;
    float totals[MASS_WIDTH], nothing[MASS_WIDTH];
    normalize(pending, EVENT_HEADS, scratch->query);
    normalize(pending + PENDING_OF_EVENTS, GROUP_HEADS, scratch->query + EVENT_UNITS);
    attend(model, memories, slot, null_factor, scratch, nothing, totals);
    for (int head = 0; head < MEMORY_HEADS; head++)
        taken[head] = (totals[head] - nothing[head]) / totals[head];
    const int last = state->last_key >= 0 && state->last_key < notes ? state->last_key : -1;
    for (int head = 0; head < MEMORY_HEADS; head++) {
        int column = head < half || head == EVENT_HEADS ? ENTRY_KEY : head < EVENT_HEADS ? ENTRY_STEP : ENTRY_GROUP_STEP;
        roll_of(model, head, totals[head], column, head < EVENT_HEADS ? last : state->below, scratch, rolls + head * keys);
    }
    values_of(model, &model->memory.event_values, 0, EVENT_HEADS, ENTRY_START, totals, scratch, values);
    values_of(model, &model->memory.group_values, EVENT_HEADS, GROUP_HEADS, ENTRY_KEY, totals, scratch,
              values + EVENT_HEADS * VALUE);
}
