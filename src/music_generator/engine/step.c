/* A step: draw the next token of some slots, field by field, and take it into their states. */
#define MASKED -1e4f /* a logit that never wins */
#define DRAW_FLOOR 1e-30f

typedef struct { /* rows of `count` slots; every row as wide as the widest map needs */
    int64_t wide, stride;
    float *past, *main, *context, *hidden, *logits; /* (count, wide): the past's context, the fused one; a head's context,
                                                       hidden units, logits */
    float *of_memory, *values, *rolls, *taken; /* of the key head (count, D); (count, heads, VALUE), (…, K), (count, heads) */
    float *recency;                          /* (count, 3 K) at the onset that is drawn */
    float *gates, *mean;                     /* (count, gates), (count, H) */
    int64_t gates_wide;
    int32_t *onset, *commits; /* (count) of the token that is drawn, once its shift is; whether it is taken in */
    int32_t *free_from; /* (count, K): the first tick at which each key may be struck */
    float *line;        /* (wide), of one slot */
    uint8_t *inputs;    /* (count, stride) */
    RecallScratch recall;
} StepScratch;

static void lay_out_step(const Model *model, int32_t count, int32_t entries, StepScratch *scratch, Arena *arena)
{
    const Config *config = &model->config;
    int wide = max_int(model->context.outputs, model->key_recency.outputs), gates = 0;
    int bytes = max_int(input_bytes(&model->context), input_bytes(&model->key_recency));
    for (int field = 0; field < FIELDS; field++) {
        wide = max_int(wide, max_int(model->heads[field].hidden.outputs, model->heads[field].out.outputs));
        bytes = max_int(bytes, input_bytes(&model->heads[field].hidden));
    }
    for (int layer = 0; layer < model->forward.layers; layer++) {
        gates = max_int(gates, model->forward.maps[layer].outputs);
        bytes = max_int(bytes, input_bytes(&model->forward.maps[layer]));
    }
    if (config->has_memory) {
        const Memory *memory = &model->memory;
        wide = max_int(wide, max_int(memory->keys.outputs, memory->values.outputs));
        bytes = max_int(bytes, max_int(input_bytes(&memory->keys), input_bytes(&memory->values)));
        lay_out_recall(model, entries, &scratch->recall, arena);
        scratch->of_memory = TAKE(arena, float, (int64_t)count * config->head_units);
        scratch->values = TAKE(arena, float, (int64_t)count * MEMORY_HEADS * VALUE);
        scratch->rolls = TAKE(arena, float, (int64_t)count * MEMORY_HEADS * config->num_keys);
        scratch->taken = TAKE(arena, float, (int64_t)count * MEMORY_HEADS);
    }
    scratch->wide = wide, scratch->gates_wide = gates, scratch->stride = bytes;
    scratch->past = TAKE(arena, float, count * scratch->wide);
    scratch->main = TAKE(arena, float, count * scratch->wide);
    scratch->context = TAKE(arena, float, count * scratch->wide);
    scratch->hidden = TAKE(arena, float, count * scratch->wide);
    scratch->logits = TAKE(arena, float, count * scratch->wide);
    scratch->recency = TAKE(arena, float, (int64_t)count * 3 * config->num_keys);
    scratch->gates = TAKE(arena, float, count * scratch->gates_wide);
    scratch->mean = TAKE(arena, float, (int64_t)count * model->forward.units);
    scratch->onset = TAKE(arena, int32_t, count), scratch->commits = TAKE(arena, int32_t, count);
    scratch->free_from = TAKE(arena, int32_t, (int64_t)count * config->num_keys);
    scratch->line = TAKE(arena, float, 4 * scratch->wide);
    scratch->inputs = TAKE(arena, uint8_t, count * scratch->stride);
}

EXPORT int64_t VARIANT(step_bytes)(const Model *model, int32_t count, int32_t entries)
{
    Arena arena = {0, 0};
    StepScratch scratch;
    lay_out_step(model, count, entries, &scratch, &arena);
    return arena.used;
}

/* ---- what a slot's rows are */

static int64_t noise_row(const Slots *slots, int64_t slot) /* who is done may have used up its noise */
{
    return slot * slots->block + min_int(slots->span[slot].place, slots->block - 1);
}

static int first_class_of(const Model *model, int field) /* in a row of the classes of all fields */
{
    int first = 0;
    for (int before = 0; before < field; before++)
        first += model->config.classes[before];
    return first;
}

static const float *noise_of(const Model *model, const Slots *slots, int64_t slot, int field)
{
    return slots->noise + noise_row(slots, slot) * model->all_classes + first_class_of(model, field);
}

static const float *uniforms_of(const Slots *slots, int64_t slot)
{
    return slots->uniforms + noise_row(slots, slot) * 3;
}

/* ---- the context and the heads */

static int any_future(const Slots *slots, int32_t first, int32_t count)
{
    int some = 0;
    for (int32_t slot = first; slot < first + count; slot++)
        some |= slots->has_future[slot];
    return some;
}

/* The context of the past, with what is told and what the memory says of it. */
static void recall_stage(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    const int units = model->config.head_units, heads = MEMORY_HEADS, keys = model->config.num_keys;
    const int used = any_future(slots, first, count) ? model->context_units : units; /* else the fuse layer is not needed */
    const Linear *values = &model->memory.values, *of_keys = &model->memory.keys;
    for (int32_t row = 0; row < count; row++) {
        int64_t slot = first + row, wide = model->context_units;
        float *past = scratch->past + row * scratch->wide;
        __builtin_memcpy(past, slots->context + slot * wide, (uint64_t)used * sizeof(float));
        for (int i = 0; model->config.is_steered && i < used; i++)
            past[i] += model->density[slots->density[slot] * wide + i] + model->loudness[slots->loudness[slot] * wide + i];
        if (!model->config.has_memory)
            continue;
        float *read = scratch->values + (int64_t)row * heads * VALUE, *rolls = scratch->rolls + (int64_t)row * heads * keys;
        recall(model, &slots->memory, slot, slots->null_factor[slot], &scratch->recall, read, rolls,
               scratch->taken + row * heads);
        set_inputs(values, scratch->inputs + row * scratch->stride, 0, read, heads * VALUE);
    }
    if (!model->config.has_memory)
        return;
    multiply(values, used, count, scratch->inputs, scratch->stride, scratch->hidden, scratch->wide);
    for (int32_t row = 0; row < count; row++) {
        uint8_t *inputs = scratch->inputs + row * scratch->stride;
        add(scratch->past + row * scratch->wide, scratch->hidden + row * scratch->wide, used);
        set_inputs(of_keys, inputs, 0, scratch->rolls + (int64_t)row * heads * keys, heads * keys);
        set_inputs(of_keys, inputs, of_keys->split, scratch->taken + row * heads, heads);
    }
    multiply_sparse(of_keys, units + used, count, scratch->inputs, scratch->stride, scratch->hidden, scratch->wide,
                    scratch->recall.groups);
    for (int32_t row = 0; row < count; row++) { /* outputs: the context's, the key head's, the fuse layer's */
        float *past = scratch->past + row * scratch->wide, *said = scratch->hidden + row * scratch->wide;
        add(past, said, units);
        add(past + units, said + 2 * units, used - units);
        __builtin_memcpy(scratch->of_memory + (int64_t)row * units, said + units, (uint64_t)units * sizeof(float));
    }
}

/* main = context + future + time to go + fuse(gelu(the same three, mapped)), or context + "there is no future". */
static void fuse_contexts(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    const int units = model->config.head_units;
    const Linear *fuse = &model->fuse;
    for (int32_t row = 0; row < count; row++) {
        int64_t slot = first + row;
        float *main = scratch->main + row * scratch->wide;
        const float *past = scratch->past + row * scratch->wide;
        __builtin_memcpy(main, past, (uint64_t)units * sizeof(float));
        if (!model->config.has_backward)
            continue;
        if (!slots->has_future[slot]) {
            add(main, model->time_to_go + (int64_t)model->config.time_bins * units, units);
            continue;
        }
        const float *future = slots->future_context + slot * model->context_units;
        int64_t time = (int64_t)time_bin(model, slots->resume_tick[slot] - slots->span[slot].now) * units;
        add(main, future, units);
        add(main, model->time_to_go + time, units);
        for (int i = 0; i < units; i++)
            scratch->line[i] = gelu((past[units + i] + future[units + i]) + model->fuse_time[time + i]);
        set_inputs(fuse, scratch->inputs + row * scratch->stride, 0, scratch->line, units);
    }
    if (!model->config.has_backward || !any_future(slots, first, count))
        return;
    multiply(fuse, fuse->outputs, count, scratch->inputs, scratch->stride, scratch->hidden, scratch->wide);
    for (int32_t row = 0; row < count; row++)
        if (slots->has_future[first + row])
            add(scratch->main + row * scratch->wide, scratch->hidden + row * scratch->wide, units);
}

/* Add the tables of the fields drawn before to a head's context. */
static void add_given(const Model *model, const Slots *slots, int64_t slot, int field, float *context)
{
    const int units = model->config.head_units;
    for (int before = 0; before < field; before++)
        add(context, model->heads[field].given[before] + (int64_t)slots->drawn[slot].classes[before] * units, units);
}

/* A head's context of a slot: the fused one and the tables of the fields drawn before. */
static float *begin_context(const Model *model, const Slots *slots, int64_t slot, int field, int32_t row,
                            const StepScratch *scratch)
{
    float *context = scratch->context + row * scratch->wide;
    __builtin_memcpy(context, scratch->main + row * scratch->wide, (uint64_t)model->config.head_units * sizeof(float));
    add_given(model, slots, slot, field, context);
    return context;
}

/* logits = out(gelu(hidden(x)) + x), x = gelu(context) */
static void run_head(const Model *model, int field, int32_t count, const StepScratch *scratch)
{
    const int units = model->config.head_units;
    const Head *head = &model->heads[field];
    for (int32_t row = 0; row < count; row++) {
        float *x = scratch->context + row * scratch->wide;
        for (int i = 0; i < units; i++)
            x[i] = gelu(x[i]);
        set_inputs(&head->hidden, scratch->inputs + row * scratch->stride, 0, x, units);
    }
    multiply(&head->hidden, head->hidden.outputs, count, scratch->inputs, scratch->stride, scratch->hidden, scratch->wide);
    for (int32_t row = 0; row < count; row++) {
        float *x = scratch->context + row * scratch->wide, *hidden = scratch->hidden + row * scratch->wide;
        for (int i = 0; i < units; i++)
            x[i] = gelu(hidden[i]) + x[i];
        set_inputs(&head->out, scratch->inputs + row * scratch->stride, 0, x, units);
    }
    multiply(&head->out, head->out.outputs, count, scratch->inputs, scratch->stride, scratch->logits, scratch->wide);
}

static void keep_logits(const Model *model, const Slots *slots, int field, int32_t first, int32_t count,
                        const StepScratch *scratch)
{
    const int classes = model->config.classes[field];
    if (!slots->logits)
        return;
    const int at = first_class_of(model, field);
    for (int32_t row = 0; row < count; row++)
        __builtin_memcpy(slots->logits + (int64_t)(first + row) * model->all_classes + at,
                         scratch->logits + row * scratch->wide, (uint64_t)classes * sizeof(float));
}

/* ---- drawing */

/* Nucleus sampling by Gumbel-max: take the largest of logits + noise; accept it if the likelier classes hold less than
 * top_p of the tempered probability, else mask it and try again. `line` has room for twice as many. */
static int32_t draw_from_nucleus(const float *logits, const float *noise, int count, float inverse_temperature, float top_p,
                                 float *line)
{
    float *shares = line, *scores = line + count, most = logits[largest(logits, count)], total = 0.0f;
    for (int i = 0; i < count; i++)
        shares[i] = exponential((logits[i] - most) * inverse_temperature);
    for (int i = 0; i < count; i++)
        total += shares[i], scores[i] = logits[i] + noise[i];
    for (int tries = 0;; tries++) {
        int best = largest(scores, count);
        float likelier = 0.0f;
        if (tries == count || shares[best] < 0.0f) /* it was masked before */
            return best;
        for (int i = 0; i < count; i++)
            likelier += logits[i] > logits[best] ? (shares[i] < 0.0f ? -shares[i] : shares[i]) : 0.0f;
        if (likelier < top_p * total)
            return best;
        scores[best] = 2 * MASKED + noise[best];
        shares[best] = -shares[best] - DRAW_FLOOR;
    }
}

static void draw_shift(const Model *model, const Slots *slots, int64_t slot, const Constraints *constraints, float *logits,
                       float *line)
{
    const int32_t *opens = model->bin_first[SHIFT], *width = model->bin_width[SHIFT];
    const int bins = bins_of(model, SHIFT), count = model->config.classes[SHIFT];
    const float *noise = noise_of(model, slots, slot, SHIFT);
    sharpen_times(logits + GROUP_TICKS, bins - GROUP_TICKS, line); /* a class a tick up to there */
    for (int i = 0; i < count; i++) {
        int fits = i == bins && constraints->may_resume; /* the class after the bins; the last one, to end, is not drawn */
        if (i < bins) /* the last bin is open; none fits if the kept note comes first */
            fits = constraints->earliest <= constraints->latest && opens[i] <= constraints->latest &&
                   (i == bins - 1 || opens[i] + width[i] - 1 >= constraints->earliest);
        logits[i] = (fits ? logits[i] : MASKED) + noise[i];
    }
    Drawn *drawn = &slots->drawn[slot];
    drawn->classes[SHIFT] = largest(logits, count);
    int32_t ticks = value_in_bin(model, SHIFT, drawn->classes[SHIFT], uniforms_of(slots, slot)[0]);
    drawn->shift_ticks = max_int(min_int(ticks, constraints->latest), constraints->earliest);
}

static void shift_stage(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    for (int32_t row = 0; row < count; row++)
        begin_context(model, slots, first + row, SHIFT, row, scratch);
    run_head(model, SHIFT, count, scratch);
    keep_logits(model, slots, SHIFT, first, count, scratch);
    for (int32_t row = 0; row < count; row++) {
        int64_t slot = first + row;
        if (slots->forced) {
            slots->drawn[slot] = slots->forced[slot];
            continue;
        }
        Constraints constraints = constrain(model, slots, slot, scratch->free_from + (int64_t)row * model->config.num_keys);
        draw_shift(model, slots, slot, &constraints, scratch->logits + row * scratch->wide, scratch->line);
    }
}

/* The shares of a key head's own distribution and of what the memory points at, into `shares` (count, 1 + GROUP_HEADS). */
static void gate_keys(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    const int units = model->config.head_units;
    const Linear *gate = &model->memory.gate;
    for (int32_t row = 0; row < count; row++) {
        const float *context = scratch->context + row * scratch->wide;
        const float *shift = model->memory.gate_shift + (int64_t)slots->drawn[first + row].classes[SHIFT] * units;
        for (int i = 0; i < units; i++)
            scratch->line[i] = gelu(context[i] + shift[i]);
        set_inputs(gate, scratch->inputs + row * scratch->stride, 0, scratch->line, units);
    }
    multiply(gate, gate->outputs, count, scratch->inputs, scratch->stride, scratch->logits, scratch->wide);
    for (int32_t row = 0; row < count; row++) {
        float *gates = scratch->logits + row * scratch->wide, *shares = scratch->past + row * scratch->wide;
        float most = gates[largest(gates, 1 + GROUP_HEADS)];
        for (int i = 0; i <= GROUP_HEADS; i++)
            gates[i] = exponential(gates[i] - most);
        float total = total_of(gates, 1 + GROUP_HEADS);
        for (int i = 0; i <= GROUP_HEADS; i++)
            shares[i] = gates[i] / total; /* the past's context has been used up */
    }
}

/* Mix the distribution of the key with what the memory points at: logits become logarithms of probabilities. */
static void point_at_keys(const Model *model, int32_t count, const StepScratch *scratch)
{
    const int keys = model->config.num_keys;
    for (int32_t row = 0; row < count; row++) {
        float *logits = scratch->logits + row * scratch->wide, *elsewhere = scratch->line;
        const float *shares = scratch->past + row * scratch->wide;
        const float *roll = scratch->rolls + ((int64_t)row * MEMORY_HEADS + EVENT_HEADS) * keys;
        float own = shares[0], most = logits[largest(logits, keys)];
        for (int key = 0; key < keys; key++)
            elsewhere[key] = 0.0f;
        for (int head = 0; head < GROUP_HEADS; head++, roll += keys) {
            float share = shares[1 + head];
            own = own + share * (1.0f - total_of(roll, keys));
            for (int key = 0; key < keys; key++)
                elsewhere[key] = elsewhere[key] + share * roll[key];
        }
        for (int key = 0; key < keys; key++)
            logits[key] = exponential(logits[key] - most);
        float total = total_of(logits, keys);
        for (int key = 0; key < keys; key++) {
            float chance = own * (logits[key] / total) + elsewhere[key];
            logits[key] = logarithm(chance > LEAST_CHANCE ? chance : LEAST_CHANCE);
        }
    }
}

/* Each key's last and next event, seen from the onset that was drawn. */
static void key_stage(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    const int units = model->config.head_units, keys = model->config.num_keys, both = model->config.has_backward;
    for (int32_t row = 0; row < count; row++) {
        int64_t slot = first + row;
        float *recency = scratch->recency + (int64_t)row * 3 * keys;
        recency_of(model, slots->last_onset + slot * keys, slots->last_release + slot * keys, scratch->onset[row], 3, recency);
        set_inputs(&model->key_recency, scratch->inputs + row * scratch->stride, 0, recency, 3 * keys);
    }
    multiply(&model->key_recency, units, count, scratch->inputs, scratch->stride, scratch->hidden, scratch->wide);
    for (int32_t row = 0; row < count; row++) {
        int64_t slot = first + row;
        float *context = scratch->context + row * scratch->wide;
        __builtin_memcpy(context, scratch->main + row * scratch->wide, (uint64_t)units * sizeof(float));
        add(context, scratch->hidden + row * scratch->wide, units);
        if (!both)
            continue;
        int32_t onset = scratch->onset[row];
        int bin = slots->has_future[slot] ? time_bin(model, slots->resume_tick[slot] - onset) : model->config.time_bins;
        add(context, model->key_time_to_go + (int64_t)bin * units, units);
        if (!slots->has_future[slot])
            continue;
        for (int key = 0; key < keys; key++)
            scratch->line[key] = fade(onset - slots->next_onset[slot * keys + key], model->onset_rate);
        set_inputs(&model->key_next, scratch->inputs + row * scratch->stride, 0, scratch->line, keys);
    }
    if (both && any_future(slots, first, count)) {
        multiply(&model->key_next, units, count, scratch->inputs, scratch->stride, scratch->hidden, scratch->wide);
        for (int32_t row = 0; row < count; row++)
            if (slots->has_future[first + row])
                add(scratch->context + row * scratch->wide, scratch->hidden + row * scratch->wide, units);
    }
    if (model->config.has_memory) {
        for (int32_t row = 0; row < count; row++)
            add(scratch->context + row * scratch->wide, scratch->of_memory + (int64_t)row * units, units);
        gate_keys(model, slots, first, count, scratch);
    }
    for (int32_t row = 0; row < count; row++)
        add_given(model, slots, first + row, KEY, scratch->context + row * scratch->wide);
    run_head(model, KEY, count, scratch);
    if (model->config.has_memory)
        point_at_keys(model, count, scratch);
    keep_logits(model, slots, KEY, first, count, scratch);
    for (int32_t row = 0; row < count && !slots->forced; row++) {
        int64_t slot = first + row;
        float *logits = scratch->logits + row * scratch->wide;
        const int32_t *free_from = scratch->free_from + (int64_t)row * keys, onset = scratch->onset[row];
        const int above = too_high(&slots->span[slot], keys, onset);
        const int32_t *recent_keys = slots->recent_keys + slot * LAGS;
        tire(recent_keys, slots->lag_counts + slot * HABITUATION_LAGS, slots->habituation + slot * 3, keys, scratch->line,
             logits);
        if (model->config.has_memory) {
            int32_t returning = returning_key(recent_keys, slots->match_lengths + slot * LAGS);
            if (returning >= 0)
                logits[returning] += slots->match_nats[slot];
        }
        for (int key = 0; key < keys; key++)
            logits[key] = free_from[key] > onset || key >= above ? MASKED : logits[key];
        slots->drawn[slot].classes[KEY] =
            draw_from_nucleus(logits, noise_of(model, slots, slot, KEY), model->config.classes[KEY],
                              slots->inverse_temperature[slot], slots->top_p[slot], scratch->line);
    }
}

static void velocity_stage(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    for (int32_t row = 0; row < count; row++)
        begin_context(model, slots, first + row, VELOCITY, row, scratch);
    run_head(model, VELOCITY, count, scratch);
    keep_logits(model, slots, VELOCITY, first, count, scratch);
    for (int32_t row = 0; row < count && !slots->forced; row++) {
        int64_t slot = first + row;
        float *logits = scratch->logits + row * scratch->wide;
        add(logits, noise_of(model, slots, slot, VELOCITY), model->config.classes[VELOCITY]);
        slots->drawn[slot].classes[VELOCITY] = largest(logits, model->config.classes[VELOCITY]);
    }
}

static void duration_stage(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    const int units = model->config.head_units, keys = model->config.num_keys;
    for (int32_t row = 0; row < count; row++) {
        int64_t slot = first + row;
        float *context = begin_context(model, slots, slot, DURATION, row, scratch);
        if (!model->config.has_backward)
            continue;
        int bin = model->config.time_bins;
        if (slots->has_future[slot])
            bin = time_bin(model, slots->next_onset[slot * keys + slots->drawn[slot].classes[KEY]] - scratch->onset[row]);
        add(context, model->next_onset + (int64_t)bin * units, units);
    }
    run_head(model, DURATION, count, scratch);
    keep_logits(model, slots, DURATION, first, count, scratch);
    for (int32_t row = 0; row < count && !slots->forced; row++) {
        int64_t slot = first + row;
        Drawn *drawn = &slots->drawn[slot];
        float *logits = scratch->logits + row * scratch->wide;
        add(logits, noise_of(model, slots, slot, DURATION), model->config.classes[DURATION]);
        drawn->classes[DURATION] = largest(logits, model->config.classes[DURATION]);
        drawn->duration_ticks = value_in_bin(model, DURATION, drawn->classes[DURATION], uniforms_of(slots, slot)[1]);
    }
}

/* ---- taking the token in */

static void take_classes(const Model *model, const Slots *slots, int64_t slot, int32_t *classes)
{
    for (int field = 0; field < FIELDS; field++) /* resuming is a class that nothing follows */
        classes[field] = min_int(slots->drawn[slot].classes[field], model->config.input_classes[field] - 1);
}

static void commit_keys(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    const int keys = model->config.num_keys;
    for (int32_t row = 0; row < count; row++) {
        if (!scratch->commits[row])
            continue;
        int64_t slot = first + row;
        const Drawn *drawn = &slots->drawn[slot];
        int key = drawn->classes[KEY];
        float *recency = scratch->recency + (int64_t)row * 3 * keys;
        recency[key] = 1.0f, recency[keys + key] = fade(-drawn->duration_ticks, model->release_rate);
        recency[2 * keys + key] = 1.0f;
        slots->last_onset[slot * keys + key] = scratch->onset[row];
        slots->last_release[slot * keys + key] = scratch->onset[row] + drawn->duration_ticks;
    }
}

static void commit_memory(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    for (int32_t row = 0; row < count; row++) {
        int64_t slot = first + row;
        int32_t classes[FIELDS];
        if (!scratch->commits[row])
            continue;
        take_classes(model, slots, slot, classes);
        remember_event(model, &slots->memory, slot, classes, scratch->onset[row], 1);
    }
}

static void commit_layer(const Model *model, const Slots *slots, int layer, int32_t first, int32_t count,
                         const StepScratch *scratch)
{
    const Stack *stack = &model->forward;
    const Linear *map = &stack->maps[layer];
    const int units = stack->units, rows = state_rows(stack->cell);
    const int64_t all = (int64_t)stack->layers * rows * units;
    for (int32_t row = 0; row < count; row++) {
        float *state = slots->states + (first + row) * all + (int64_t)layer * rows * units;
        uint8_t *inputs = scratch->inputs + row * scratch->stride;
        const float *below = layer ? state - (int64_t)rows * units : scratch->recency + (int64_t)row * stack->recency;
        set_inputs(map, inputs, 0, below, layer ? units : stack->recency);
        set_inputs(map, inputs, map->split, state, units);
    }
    multiply(map, map->outputs, count, scratch->inputs, scratch->stride, scratch->gates, scratch->gates_wide);
    for (int32_t row = 0; row < count; row++) {
        if (!scratch->commits[row])
            continue;
        int64_t slot = first + row;
        float *gates = scratch->gates + row * scratch->gates_wide, *mean = scratch->mean + (int64_t)row * units;
        float *state = slots->states + slot * all + (int64_t)layer * rows * units;
        if (!layer) {
            int32_t classes[FIELDS];
            take_classes(model, slots, slot, classes);
            add_tables(stack, classes, slots->composer[slot], gates);
        }
        update_state(stack->cell, units, gates, state);
        for (int i = 0; i < units; i++)
            mean[i] = (layer ? mean[i] : 0.0f) + state[i];
    }
}

static void commit_context(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    const Stack *stack = &model->forward;
    const Linear *map = &model->context;
    for (int32_t row = 0; row < count; row++) {
        float *mean = scratch->mean + (int64_t)row * stack->units;
        uint8_t *inputs = scratch->inputs + row * scratch->stride;
        for (int i = 0; i < stack->units; i++)
            mean[i] /= (float)stack->layers;
        set_inputs(map, inputs, 0, mean, stack->units);
        set_inputs(map, inputs, map->split, scratch->recency + (int64_t)row * stack->recency, stack->recency);
    }
    /* the fuse layer's part, too: the next token may have a future */
    const int units = model->context_units;
    multiply(map, units, count, scratch->inputs, scratch->stride, scratch->hidden, scratch->wide);
    for (int32_t row = 0; row < count; row++)
        if (scratch->commits[row])
            __builtin_memcpy(slots->context + (first + row) * (int64_t)model->context_units,
                         scratch->hidden + row * scratch->wide, (uint64_t)units * sizeof(float));
}

/* Draw the next token of some slots, or take the forced one. */
static void draw_tokens(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    recall_stage(model, slots, first, count, scratch);
    fuse_contexts(model, slots, first, count, scratch);
    shift_stage(model, slots, first, count, scratch);
    for (int32_t row = 0; row < count; row++)
        scratch->onset[row] = slots->span[first + row].now + slots->drawn[first + row].shift_ticks;
    key_stage(model, slots, first, count, scratch);
    velocity_stage(model, slots, first, count, scratch);
    duration_stage(model, slots, first, count, scratch);
}

/* Take the tokens of those slots into their states whose `commits` are not 0. */
static void commit_tokens(const Model *model, const Slots *slots, int32_t first, int32_t count, const StepScratch *scratch)
{
    commit_keys(model, slots, first, count, scratch);
    for (int layer = 0; layer < model->forward.layers; layer++)
        commit_layer(model, slots, layer, first, count, scratch);
    commit_context(model, slots, first, count, scratch);
    if (model->config.has_memory)
        commit_memory(model, slots, first, count, scratch);
}

EXPORT void VARIANT(step)(const Model *model, const Slots *slots, int32_t first, int32_t count, int32_t commit, uint8_t *memory)
{
    Arena arena = {memory, 0};
    StepScratch scratch;
    lay_out_step(model, count, entries_of(&slots->memory), &scratch, &arena);
    draw_tokens(model, slots, first, count, &scratch);
    if (!commit)
        return;
    for (int32_t row = 0; row < count; row++)
        scratch.commits[row] = 1;
    commit_tokens(model, slots, first, count, &scratch);
}
