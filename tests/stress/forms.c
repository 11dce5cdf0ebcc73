/* A made model stepped 200 times by one form of the kernel; prints a sum of all that it left, for every cell. See `forms`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/music_generator/model/kernel.c"

enum { LANES = 5, HIDDEN = 48, HEAD = 40, KEYS = 91, EDGES = 267, BINS = 104, TURNS = 200 };
static const int32_t CLASSES[4] = {91, 91, 32, 104};

static uint64_t seed = 88172645463325252ull, sum;

static uint32_t number(void) /* xorshift64: Marsaglia 2003 */
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

static float between(float low, float high)
{
    return low + (high - low) * ((float)(number() & 0xffffff) / 16777216.0f);
}

static float *floats(int count, float low, float high)
{
    float *made = calloc((size_t)count + 64, sizeof(float));
    for (int i = 0; i < count; i++)
        made[i] = between(low, high);
    return made;
}

static Product product(int inputs, int outputs)
{
    Product made = {(inputs + 3) / 4 * 4, (outputs + WIDE - 1) / WIDE * WIDE, 127, 2 / 255.0f, 0, 0, 0, 0};
    int8_t *weights = calloc((size_t)made.inputs * made.outputs, 1);
    int32_t *totals = calloc((size_t)made.outputs, sizeof(int32_t));
    for (int i = 0; i < made.inputs * made.outputs; i++) {
        int input = i / (4 * WIDE) % (made.inputs / 4) * 4 + i % 4;
        int output = i / (WIDE * made.inputs) * WIDE + i / 4 % WIDE;
        weights[i] = input < inputs ? (int8_t)((int)(number() % 127) - 63) : 0;
        totals[output] += weights[i];
    }
    made.weights = weights, made.totals = totals;
    made.scales = floats(made.outputs, 1e-5f, 4e-5f), made.biases = floats(made.outputs, -1, 1);
    return made;
}

static void count_in(const void *values, size_t bytes) /* FNV-1a */
{
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ ((const uint8_t *)values)[i]) * 1099511628211ull;
}

int main(void)
{
    for (int kind = 0; kind < 6; kind++) {
        int joined = kind % 2, cell = kind / 2, gates = cell == 2 ? HIDDEN : 4 * HIDDEN, rolled = (3 + joined) * KEYS, all = 0;
        Product maps[2] = {product(3 * KEYS + HIDDEN, gates), product(2 * HIDDEN, gates)};
        Model model = {.cell = cell, .layers = 2, .size = HIDDEN, .head_size = HEAD, .joined = joined, .strokes = KEYS,
                       .edge_count = EDGES, .maps = maps, .held_pace = -0.05f};
        float *edges = floats(EDGES, 0, 0), *paces = floats(rolled, 0, 0);
        for (int i = 0; i < EDGES; i++)
            edges[i] = 3.0f * (float)i;
        for (int i = 0; i < rolled; i++)
            paces[i] = (const float[]){0.01f, -0.05f, 80.0f, -0.01f}[i / KEYS];
        model.context_of = product(HIDDEN + 3 * KEYS, HEAD * (1 + joined));
        model.key_extra = product(rolled, HEAD), model.join = product(HEAD, HEAD);
        for (int i = 0; i < 4; i++) {
            model.classes[i] = CLASSES[i], all += CLASSES[i];
            model.hidden[i] = product(HEAD, HEAD), model.out[i] = product(HEAD, CLASSES[i]);
            for (int j = 0; j < 3; j++)
                model.given[i][j] = floats(BINS * HEAD, -1, 1);
            model.of[i] = floats(BINS * gates, -0.5f, 0.5f);
            model.first[i] = floats(BINS, 0, 200), model.width[i] = floats(BINS, 1, 9);
        }
        model.of_composer = floats(gates, -0.5f, 0.5f), model.times = floats((EDGES + 1) * 2 * HEAD, -1, 1);
        model.key_time_to_go = floats((EDGES + 1) * HEAD, -1, 1), model.struck_again = floats((EDGES + 1) * HEAD, -1, 1);
        model.edges = edges, model.paces = paces;
        model.shift_opens = floats(CLASSES[0], 0, 300), model.shift_closes = floats(CLASSES[0], 0, 300);

        float *ticks = floats(LANES * 6, 0, 0), *noise = floats(LANES * all, 0, 0);
        float *context = floats(LANES * 2 * HEAD, -1, 1), *before[4], *after[4];
        Lanes lanes = {.strokes = floats(LANES * rolled, 0, 900), .ticks = ticks, .barred = floats(LANES * KEYS, 0, 800),
                       .noise = noise, .context = context, .coldness = floats(LANES, 0.6f, 1.6f),
                       .top_p = floats(LANES, 0.3f, 1), .said = floats(LANES * 2 * HEAD, -1, 1),
                       .resume = floats(LANES, 900, 1500), .composer = calloc(LANES, sizeof(int64_t)),
                       .states = (const float *const *)before, .states_after = after, .waited = floats(LANES, 0, 0),
                       .held = floats(LANES, 0, 0), .context_after = floats(LANES * 2 * HEAD, 0, 0)};
        for (int i = 0; i < 4; i++) {
            before[i] = floats(LANES * HIDDEN, -1, 1), after[i] = floats(LANES * HIDDEN, 0, 0);
            lanes.classes[i] = calloc(LANES, sizeof(int64_t)), lanes.logits[i] = floats(LANES * BINS, 0, 0);
        }
        uint8_t *memory = calloc((size_t)JOINED(room)(&model, LANES), 1);
        sum = 14695981039346656037ull;
        for (int turn = 0; turn < TURNS; turn++) {
            for (int lane = 0; lane < LANES; lane++) {
                float told[6] = {800.0f + 3.0f * (float)turn, 0, 100, -1, between(0, 1), between(0, 1)};
                memcpy(ticks + 6 * lane, told, sizeof told);
            }
            for (int i = 0; i < LANES * all; i++)
                noise[i] = between(-1, 5);
            JOINED(step)(&model, &lanes, 0, LANES, 1, memory);
            for (int i = 0; i < 4; i++) {
                count_in(lanes.classes[i], LANES * sizeof(int64_t));
                count_in(lanes.logits[i], (size_t)(LANES * CLASSES[i]) * sizeof(float));
                count_in(after[i], LANES * HIDDEN * sizeof(float));
                memcpy(before[i], after[i], LANES * HIDDEN * sizeof(float));
            }
            count_in(lanes.context_after, (size_t)(LANES * HEAD * (1 + joined)) * sizeof(float));
            count_in(lanes.strokes, (size_t)(LANES * rolled) * sizeof(float));
            memcpy(context, lanes.context_after, (size_t)(LANES * HEAD * (1 + joined)) * sizeof(float));
        }
        printf("cell %d, %s a future: %016llx\n", cell, joined ? "with" : "without", (unsigned long long)sum);
    }
    return 0;
}
