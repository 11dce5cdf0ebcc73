/* Writes the spans of a case (see case.py) by one variant of the kernel and prints how many tokens each has and their sum:
 * `driver CASE`. Built for each processor by `variants`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/music_generator/engine/kernel.c"

static void *take(FILE *file, size_t bytes)
{
    void *data = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!data || fread(data, 1, bytes, file) != bytes)
        exit(2);
    return data;
}

static int32_t take_int(FILE *file)
{
    int32_t value;
    return fread(&value, 4, 1, file) == 1 ? value : (exit(2), 0);
}

static void *take_sized(FILE *file)
{
    size_t bytes = (size_t)take_int(file);
    return take(file, (bytes + 3) / 4 * 4);
}

static void write_span(const Model *model, FILE *file, int blocks)
{
    const int block = 32;
    int32_t composer = take_int(file), counts[3];
    const Token *tokens[3];
    for (int i = 0; i < 3; i++)
        counts[i] = take_int(file), tokens[i] = take(file, (size_t)counts[i] * sizeof(Token));
    float *states = calloc(65536, sizeof(float)), *contexts = calloc(65536, sizeof(float));
    float *future = contexts + model->context_units, *future_states = states + 32768;
    for (int i = 0; i < 1 + (counts[1] > 0); i++) {
        uint8_t *scratch = aligned_alloc(64, (size_t)VARIANT(encode_bytes)(model, counts[i]) + 64);
        VARIANT(encode)(model, i, tokens[i], counts[i], composer, 0, i ? future_states : states, i ? future : contexts,
                        scratch);
    }
    Drawn drawn;
    Slots slots = {.composer = &composer, .block = block, .states = states, .context = contexts, .future_context = future};
    SpanState *span = slots.span = take_sized(file);
    slots.drawn = &drawn, slots.has_future = take_sized(file), slots.resume_tick = take_sized(file);
    slots.last_onset = take_sized(file), slots.last_release = take_sized(file), slots.next_onset = take_sized(file);
    slots.inverse_temperature = take_sized(file), slots.top_p = take_sized(file), slots.null_factor = take_sized(file);
    slots.density = take_sized(file), slots.loudness = take_sized(file), slots.recent_keys = take_sized(file);
    slots.lag_counts = take_sized(file), slots.match_lengths = take_sized(file);
    slots.habituation = take_sized(file), slots.match_nats = take_sized(file);
    Memories *memory = &slots.memory;
    memory->fingerprints = take_sized(file), memory->sums = take_sized(file), memory->events = take_sized(file);
    memory->bonus = take_sized(file), memory->pending = take_sized(file), memory->state = take_sized(file);
    memory->fixed = take_int(file), memory->ring = take_int(file);
    if (model->config.has_memory)
        VARIANT(remember)(model, tokens[2], counts[2], memory, 0);
    uint8_t *scratch = aligned_alloc(64, (size_t)VARIANT(step_bytes)(model, 1, memory->fixed + memory->ring) + 64);
    uint64_t sum = 14695981039346656037ull; /* FNV-1a */
    int total = 0;
    for (int i = 0; i < blocks; i++) {
        int32_t rows[4 * 32];
        slots.noise = take(file, (size_t)(block * model->all_classes) * 4), slots.uniforms = take(file, (size_t)block * 3 * 4);
        span->place = 0;
        int32_t count = span->done ? 0 : VARIANT(write)(model, &slots, 0, 1, block, rows, scratch);
        for (size_t byte = 0; byte < (size_t)count * 16; byte++)
            sum = (sum ^ ((const uint8_t *)rows)[byte]) * 1099511628211ull;
        total += count;
    }
    printf("%d %016llx\n", total, (unsigned long long)sum);
}

int main(int count, char **arguments)
{
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : 0;
    if (!file)
        return 2;
    const Config *config = take(file, sizeof(Config));
    int32_t number = take_int(file);
    const void **tensors = calloc((size_t)number, sizeof(void *));
    for (int32_t i = 0; i < number; i++)
        tensors[i] = take_sized(file);
    uint8_t *memory = aligned_alloc(64, (size_t)VARIANT(build)(config, tensors, 0) + 64);
    VARIANT(build)(config, tensors, memory);
    int32_t spans = take_int(file), blocks = take_int(file);
    if (take_int(file) * 4 != (int32_t)sizeof(SpanState))
        return 2;
    for (int32_t i = 0; i < spans; i++)
        write_span((const Model *)memory, file, blocks);
    return 0;
}
