/* A model as the kernel holds it, laid out from a bundle's tensors. */

typedef struct {
    int32_t cell, layers, units, recency; /* recencies that its first layer reads */
    const float *tables[FIELDS], *composers; /* of each class: its part of the first layer's gates */
    const Linear *maps;                      /* (layers) from input and state to gates */
} Stack;

typedef struct {
    Linear hidden, out;
    const float *given[FIELDS]; /* tables of the fields drawn before */
} Head;

typedef struct { /* tables of what a kind of event and the time before it add to the fingerprints of the next states */
    const float *kinds, *times;
} Fingerprints;

typedef struct {
    const float *scale, *null; /* (MEMORY_HEADS) */
    Fingerprints event_keys, event_intervals, group_keys, group_intervals;
    Linear event_values, group_values, values, keys, gate;
    const float *gate_shift;
} Memory;

typedef struct {
    Config config;
    int32_t all_classes, context_units;
    float onset_rate, release_rate;
    Stack forward, backward;
    Linear context, future, fuse, key_recency, key_next;
    const float *time_to_go, *fuse_time, *key_time_to_go, *next_onset; /* (time_bins + 1, D) */
    Memory memory;
    const float *density, *loudness; /* (classes, C) */
    Head heads[FIELDS];
    const int32_t *bin_first[FIELDS], *bin_width[FIELDS]; /* of shift, velocity and duration */
    const int32_t *time_edges;                            /* (time_bins) */
} Model;

typedef struct { /* of the caller's memory; where there is none, only how much would be used */
    uint8_t *memory;
    int64_t used;
} Arena;

static void *take_bytes(Arena *arena, int64_t bytes)
{
    void *at = arena->memory ? arena->memory + arena->used : 0;
    arena->used += (bytes + 63) / 64 * 64;
    return at;
}

#define TAKE(arena, type, count) ((type *)take_bytes(arena, (int64_t)(count) * (int64_t)sizeof(type)))

typedef struct { /* the bundle's tensors, in the order of pack.py */
    const void *const *tensors;
    int32_t next;
} Reader;

static const void *next_tensor(Reader *reader)
{
    return reader->tensors[reader->next++];
}

static int round_up(int count, int multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

/* weights (first + second, outputs) of the bundle into tiles; `bytes` or `reals`, as the precision is */
static void tile_weights(const Linear *linear, int first, int second, int outputs, const void *from, int8_t *bytes,
                         float *reals, int32_t *column_sums)
{
    const int group = linear->precision == INT8 ? 4 : 1, inputs = linear->inputs;
    for (int i = 0; i < first + second; i++) {
        const int place = i < first ? i : linear->split + i - first;
        for (int o = 0; o < outputs; o++) {
            int64_t at = (int64_t)(o / TILE_OUTPUTS) * TILE_OUTPUTS * inputs +
                         (int64_t)(place / group) * group * TILE_OUTPUTS + (o % TILE_OUTPUTS) * group + place % group;
            if (linear->precision == FLOAT32) {
                reals[at] = ((const float *)from)[(int64_t)i * outputs + o];
            } else {
                bytes[at] = ((const int8_t *)from)[(int64_t)i * outputs + o];
                column_sums[o] += bytes[at];
            }
        }
    }
}

static void read_linear(Linear *linear, const Config *config, Reader *reader, Arena *arena, int first, int second, int outputs)
{
    const int group = config->precision == INT8 ? 4 : 1, width = round_up(outputs, TILE_OUTPUTS);
    linear->precision = config->precision, linear->outputs = width;
    linear->split = round_up(first, group), linear->inputs = linear->split + round_up(second, group);
    const void *weights = next_tensor(reader);
    const float *bias = next_tensor(reader), *scale = 0, *input = 0;
    if (config->precision == INT8)
        scale = next_tensor(reader), input = next_tensor(reader);
    int64_t size = (int64_t)linear->inputs * width;
    int8_t *bytes = config->precision == INT8 ? TAKE(arena, int8_t, size) : 0;
    float *reals = config->precision == FLOAT32 ? TAKE(arena, float, size) : 0;
    float *scales = TAKE(arena, float, width), *biases = TAKE(arena, float, width);
    int32_t *sums = TAKE(arena, int32_t, width);
    if (!arena->memory)
        return;
    linear->weights8 = bytes, linear->weights32 = reals, linear->scale = scales, linear->bias = biases;
    linear->column_sums = sums;
    for (int64_t i = 0; bytes && i < size; i++) /* the rounding up adds weights of 0 */
        bytes[i] = 0;
    for (int64_t i = 0; reals && i < size; i++)
        reals[i] = 0.0f;
    for (int o = 0; o < width; o++)
        scales[o] = scale && o < outputs ? scale[o] : 0.0f, biases[o] = o < outputs ? bias[o] : 0.0f, sums[o] = 0;
    if (input)
        linear->inverse_step = input[0], linear->zero_point = (int32_t)input[1];
    tile_weights(linear, first, second, outputs, weights, bytes, reals, sums);
}

static void read_stack(Stack *stack, const Config *config, Reader *reader, Arena *arena, int layers, int units, int recency)
{
    stack->cell = config->cell, stack->layers = layers, stack->units = units, stack->recency = recency;
    for (int field = 0; field < FIELDS; field++)
        stack->tables[field] = next_tensor(reader);
    stack->composers = next_tensor(reader);
    Linear *maps = TAKE(arena, Linear, layers), none;
    for (int layer = 0; layer < layers; layer++)
        read_linear(arena->memory ? maps + layer : &none, config, reader, arena, layer ? units : recency, units,
                    gates_of(config->cell) * units);
    stack->maps = maps;
}

static Fingerprints read_fingerprints(Reader *reader)
{
    const float *kinds = next_tensor(reader);
    return (Fingerprints){kinds, next_tensor(reader)};
}

static void read_memory(Memory *memory, const Config *config, int context_units, Reader *reader, Arena *arena)
{
    const int units = config->head_units, keys = config->num_keys;
    const int values = config->input_classes[SHIFT] + config->input_classes[VELOCITY] + config->input_classes[DURATION];
    memory->scale = next_tensor(reader), memory->null = memory->scale + MEMORY_HEADS;
    memory->event_keys = read_fingerprints(reader), memory->event_intervals = read_fingerprints(reader);
    memory->group_keys = read_fingerprints(reader), memory->group_intervals = read_fingerprints(reader);
    read_linear(&memory->event_values, config, reader, arena, values, 0, VALUE);
    read_linear(&memory->group_values, config, reader, arena, values + 2, 0, VALUE);
    read_linear(&memory->values, config, reader, arena, MEMORY_HEADS * VALUE, 0, context_units);
    read_linear(&memory->keys, config, reader, arena, MEMORY_HEADS * keys, MEMORY_HEADS, units + context_units);
    read_linear(&memory->gate, config, reader, arena, units, 0, 1 + GROUP_HEADS);
    memory->gate_shift = next_tensor(reader);
}

/* in the order of model/pack.py: layout, then of its constants */
static void read_model(Model *model, const Config *config, Reader *reader, Arena *arena)
{
    const int keys = config->num_keys, units = config->head_units, both = config->has_backward;
    model->config = *config;
    model->context_units = both ? 2 * units : units;
    model->onset_rate = 1.0f / (float)config->recency_ticks, model->release_rate = 1.0f / (float)config->release_ticks;
    read_stack(&model->forward, config, reader, arena, config->forward_layers, config->forward_units, 3 * keys);
    read_linear(&model->context, config, reader, arena, config->forward_units, 3 * keys, model->context_units);
    read_linear(&model->key_recency, config, reader, arena, 3 * keys, 0, units);
    if (both) {
        read_stack(&model->backward, config, reader, arena, config->backward_layers, config->backward_units, keys);
        read_linear(&model->future, config, reader, arena, config->backward_units, keys, model->context_units);
        read_linear(&model->fuse, config, reader, arena, units, 0, units);
        read_linear(&model->key_next, config, reader, arena, keys, 0, units);
        model->time_to_go = next_tensor(reader), model->fuse_time = next_tensor(reader);
        model->key_time_to_go = next_tensor(reader), model->next_onset = next_tensor(reader);
    }
    if (config->has_memory)
        read_memory(&model->memory, config, model->context_units, reader, arena);
    if (config->is_steered)
        model->density = next_tensor(reader), model->loudness = next_tensor(reader);
    model->all_classes = 0;
    for (int field = 0; field < FIELDS; field++) {
        Head *head = &model->heads[field];
        for (int before = 0; before < field; before++)
            head->given[before] = next_tensor(reader);
        read_linear(&head->hidden, config, reader, arena, units, 0, units);
        read_linear(&head->out, config, reader, arena, units, 0, config->classes[field]);
        model->all_classes += config->classes[field];
    }
    for (int field = 0; field < FIELDS; field++)
        if (field != KEY)
            model->bin_first[field] = next_tensor(reader), model->bin_width[field] = next_tensor(reader);
    model->time_edges = next_tensor(reader);
}

EXPORT int64_t VARIANT(build)(const Config *config, const void *const *tensors, uint8_t *memory)
{
    Arena arena = {memory, 0};
    Reader reader = {tensors, 0};
    Model *model = TAKE(&arena, Model, 1), counted;
    read_model(memory ? model : &counted, config, &reader, &arena);
    return arena.used;
}

static int bins_of(const Model *model, int field) /* of a field whose classes are bins of whole numbers */
{
    return field == SHIFT ? model->config.input_classes[SHIFT] : model->config.classes[field];
}

/* A whole number in a bin; `uniform` in [0, 1) says which. */
static int32_t value_in_bin(const Model *model, int field, int32_t bin, float uniform)
{
    bin = min_int(bin, bins_of(model, field) - 1); /* resuming and ending have none */
    return model->bin_first[field][bin] + (int32_t)clamp(uniform * (float)model->bin_width[field][bin], 0.0f, 1e9f);
}

static int time_bin(const Model *model, int32_t ticks) /* how many edges are at or below */
{
    int low = 0, high = model->config.time_bins;
    while (low < high) {
        int middle = (low + high) / 2;
        if (ticks >= model->time_edges[middle])
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The recency of each key's last event at tick `now`: how recent its onset is, how near its release, and whether it is held
 * still, (K) each; of the backward stack, whose time runs from the end, the first of them. */
static void recency_of(const Model *model, const int32_t *last_onset, const int32_t *last_release, int32_t now, int parts,
                       float *restrict recency)
{
    const int keys = model->config.num_keys;
    for (int key = 0; key < keys; key++)
        recency[key] = fade(last_onset[key] - now, model->onset_rate);
    for (int key = 0; parts == 3 && key < keys; key++) {
        int32_t left = last_release[key] - now;
        float held = left > 0 ? 1.0f : 0.0f;
        recency[keys + key] = fade(-left, model->release_rate) * held;
        recency[2 * keys + key] = held;
    }
}
