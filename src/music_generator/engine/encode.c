/* Reading: the past by the forward stack, the future by the backward one. What does not depend on the state before a token
 * is computed for all tokens at once, layer by layer; then the states, one token after another. */

typedef struct {
    float *recency;  /* (T, stack->recency) */
    uint8_t *inputs; /* (T, of the widest map) */
    int32_t *sums;   /* (T, of the widest map): what the inputs alone come to */
    float *outputs;  /* (T, H) of the layer, then of the next one */
    float *total;    /* (T, H) of all layers */
    float *gates, *state;
    int64_t stride;
} EncodeScratch;

static void lay_out_encode(const Stack *stack, const Linear *context, int32_t count, EncodeScratch *scratch, Arena *arena)
{
    int widest = context->outputs, bytes = input_bytes(context);
    for (int layer = 0; layer < stack->layers; layer++) {
        widest = max_int(widest, stack->maps[layer].outputs);
        bytes = max_int(bytes, input_bytes(&stack->maps[layer]));
    }
    scratch->stride = bytes;
    scratch->recency = TAKE(arena, float, (int64_t)count * stack->recency);
    scratch->inputs = TAKE(arena, uint8_t, (int64_t)count * bytes);
    scratch->sums = TAKE(arena, int32_t, (int64_t)count * widest);
    scratch->outputs = TAKE(arena, float, (int64_t)count * stack->units);
    scratch->total = TAKE(arena, float, (int64_t)count * stack->units);
    scratch->gates = TAKE(arena, float, widest);
    scratch->state = TAKE(arena, float, 2 * stack->units);
}

EXPORT int64_t VARIANT(encode_bytes)(const Model *model, int32_t count)
{
    Arena past = {0, 0}, future = {0, 0};
    EncodeScratch scratch;
    int keys = round_up(2 * model->config.num_keys * (int)sizeof(int32_t), 64);
    lay_out_encode(&model->forward, &model->context, count, &scratch, &past);
    if (model->config.has_backward)
        lay_out_encode(&model->backward, &model->future, count, &scratch, &future);
    return keys + (past.used > future.used ? past.used : future.used);
}

static void recencies(const Model *model, const Stack *stack, const Token *tokens, int32_t count, float *recency, int32_t *keys)
{
    const int num_keys = model->config.num_keys, parts = stack->recency / num_keys;
    int32_t *last_onset = keys, *last_release = keys + num_keys;
    for (int key = 0; key < num_keys; key++)
        last_onset[key] = last_release[key] = -NO_ONSET;
    for (int32_t t = 0; t < count; t++) {
        int32_t key = tokens[t].classes[KEY];
        if (key < num_keys) /* else it says only how the piece begins or ends */
            last_onset[key] = tokens[t].onset, last_release[key] = tokens[t].release;
        recency_of(model, last_onset, last_release, tokens[t].onset, parts, recency + (int64_t)t * stack->recency);
    }
}

/* the sum of the classes' parts of the first layer's gates and of `gates`, into `gates` */
static void add_tables(const Stack *stack, const int32_t *classes, int32_t composer, float *restrict gates)
{
    const int count = gates_of(stack->cell) * stack->units;
    const float *terms[FIELDS + 1];
    for (int field = 0; field < FIELDS; field++)
        terms[field] = stack->tables[field] + (int64_t)classes[field] * count;
    terms[FIELDS] = stack->composers + (int64_t)composer * count;
    for (int i = 0; i < count; i++)
        gates[i] = ((((terms[0][i] + terms[1][i]) + terms[2][i]) + terms[3][i]) + terms[4][i]) + gates[i];
}

static void encode_layer(const Stack *stack, int layer, const Token *tokens, int32_t count, int32_t composer, float *states,
                         const EncodeScratch *scratch)
{
    const Linear *map = &stack->maps[layer];
    const int units = stack->units, below = layer ? units : stack->recency, rows = state_rows(stack->cell);
    const float *input = layer ? scratch->outputs : scratch->recency;
    for (int32_t t = 0; t < count; t++)
        set_inputs(map, scratch->inputs + t * scratch->stride, 0, input + (int64_t)t * below, below);
    multiply_part(map, map->outputs, count, 0, map->split, scratch->inputs, scratch->stride, 0, scratch->sums, 0, 0);
    for (int i = 0; i < rows * units; i++)
        scratch->state[i] = 0.0f;
    for (int32_t t = 0; t < count; t++) {
        uint8_t *row = scratch->inputs + t * scratch->stride;
        set_inputs(map, row, map->split, scratch->state, units);
        multiply_part(map, map->outputs, 1, map->split, map->inputs, row, scratch->stride,
                      scratch->sums + (int64_t)t * map->outputs, 0, scratch->gates, 0);
        if (!layer)
            add_tables(stack, tokens[t].classes, composer, scratch->gates);
        update_state(stack->cell, units, scratch->gates, scratch->state);
        float *output = scratch->outputs + (int64_t)t * units, *total = scratch->total + (int64_t)t * units;
        for (int i = 0; i < units; i++)
            output[i] = scratch->state[i], total[i] = (layer ? total[i] : 0.0f) + scratch->state[i];
    }
    if (states)
        __builtin_memcpy(states + (int64_t)layer * rows * units, scratch->state, (uint64_t)(rows * units) * sizeof(float));
}

EXPORT void VARIANT(encode)(const Model *model, int32_t backward, const Token *tokens, int32_t count, int32_t composer,
                            int32_t every, float *states, float *contexts, uint8_t *memory)
{
    const Stack *stack = backward ? &model->backward : &model->forward;
    const Linear *context = backward ? &model->future : &model->context;
    Arena arena = {memory, 0};
    EncodeScratch scratch;
    int32_t *keys = TAKE(&arena, int32_t, 2 * model->config.num_keys);
    lay_out_encode(stack, context, count, &scratch, &arena);
    recencies(model, stack, tokens, count, scratch.recency, keys);
    for (int layer = 0; layer < stack->layers; layer++)
        encode_layer(stack, layer, tokens, count, composer, states, &scratch);
    for (int32_t t = every ? 0 : count - 1; t < count; t++, contexts += model->context_units) {
        float *mean = scratch.total + (int64_t)t * stack->units, *output = (float *)scratch.sums;
        for (int i = 0; i < stack->units; i++)
            mean[i] /= (float)stack->layers;
        set_inputs(context, scratch.inputs, 0, mean, stack->units);
        set_inputs(context, scratch.inputs, context->split, scratch.recency + (int64_t)t * stack->recency, stack->recency);
        multiply(context, context->outputs, 1, scratch.inputs, scratch.stride, output, 0);
        __builtin_memcpy(contexts, output, (uint64_t)model->context_units * sizeof(float));
    }
}
