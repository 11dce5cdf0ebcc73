/* The 8-bit step of generation: what the graphs `open` and `joined` compute (see step.py), in one call.
 *
 * A graph pays for each of its 150 operations; here a token costs little more than reading its weights once. Every
 * number is what the graph's is, but for the last digits of exp, erf and tanh; whole numbers are the same. There is no
 * contraction, no reordered sum and no library call, so that compilers and processors agree to the bit.
 *
 * Compiled for each kind of vectors that a processor may have (SUFFIX names the entries), without libc. kernel.py has the
 * same structures, packs the weights, and checks every size before anything comes here.
 */
#include <stdint.h>

#define WIDE 32 /* outputs of a tile: four vectors of eight sums */
#define LEAST -80.0f /* as in step.py */
#define MASKED -1e4f /* as in config.py */
#define SHIFT 0
#define KEY 1
#define VELOCITY 2
#define DURATION 3
#define RESUME (model->classes[SHIFT] - 2) /* as in tokens.py: then comes the end */
#define LSTM 0
#define GRU 1
#define JOINED(name) JOIN_(name, SUFFIX)
#define JOIN_(name, suffix) JOIN__(name, suffix)
#define JOIN__(name, suffix) name##_##suffix
#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

typedef struct {
    int32_t inputs, outputs, middle; /* rounded up to 4 and to WIDE, with weights of 0 */
    float step;                      /* of the inputs; the scales contain it */
    const int8_t *weights;           /* outputs / WIDE tiles of inputs / 4 times 32 times 4 */
    const float *scales, *biases;
    const int32_t *totals; /* of each output's weights */
} Product;

typedef struct {
    int32_t cell, layers, size, head_size, joined, strokes, edge_count;
    int32_t classes[4];
    const Product *maps; /* one a layer */
    Product context_of, key_extra, join, hidden[4], out[4];
    const float *given[4][3]; /* of each head: tables of the fields drawn before */
    const float *of[4], *of_composer;
    const float *times, *key_time_to_go, *struck_again, *edges;
    const float *first[4], *width[4]; /* of the bins of shift, velocity and duration */
    const float *shift_opens, *shift_closes, *paces;
    float held_pace;
} Model;

typedef struct {
    float *strokes; /* the one input that a step changes; `write` sets the next three */
    float *ticks, *barred, *noise;
    const float *context, *coldness, *top_p, *said, *resume;
    const int64_t *composer;
    const float *const *states;
    int64_t *classes[4];
    float *waited, *held;
    float *logits[4]; /* or none */
    float *context_after;
    float *const *states_after;
} Lanes;

/* What `generation.writer.Writer` knows of a lane. Ticks, but for keys and numbers; the last are where its dice lie:
 * `block` tokens of noise and of three chances each, of which `place` are used up. */
typedef struct {
    int64_t now, last_key, start, end, last_note, next_note, rest;
    int64_t repeated, times, first_repeated, first_times, longest_repeat, notes_left; /* below 0: any number */
    int64_t no_pedals, no_key, done, block, place;
    const float *noise, *chances;
} Plan;

/* ---- elementwise */

static inline float limited(float x, float low, float high) /* low where x is no number */
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

static inline float whole(float x) /* to the nearest, halves to even; |x| < 2^22 */
{
    return (x + 12582912.0f) - 12582912.0f;
}

/* Cody & Waite's reduction and the polynomial of Cephes' expf (S. L. Moshier), within 2 units of the last digit */
static inline float exponential(float x)
{
    x = limited(x, -87.0f, 88.0f);
    float n = whole(x * 1.44269504088896341f);
    x = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * x + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * (x * x) + x + 1.0f;
    union {
        int32_t bits;
        float value;
    } power = {((int32_t)n + 127) << 23};
    return y * power.value;
}

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + exponential(-x));
}

static inline float hyperbolic_tangent(float x)
{
    return 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f;
}

/* x times the normal distribution's share below it; erf by Abramowitz & Stegun 7.1.26, within 1.5e-7 */
static inline float gelu(float x)
{
    float z = 0.70710678118654752f * (x < 0.0f ? -x : x);
    float t = 1.0f / (1.0f + 0.3275911f * z);
    float tail = 1.061405429f;
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    tail = 0.5f * (tail * t) * exponential(-z * z);
    return x * (x < 0.0f ? tail : 1.0f - tail);
}

static void add(float *restrict sum, const float *restrict term, int count)
{
    for (int i = 0; i < count; i++)
        sum[i] += term[i];
}

static void gelu_all(float *restrict y, const float *restrict x, int count)
{
    for (int i = 0; i < count; i++)
        y[i] = gelu(x[i]);
}

static void gelu_and_add(float *restrict y, const float *restrict x, const float *restrict term, int count)
{
    for (int i = 0; i < count; i++)
        y[i] = gelu(x[i]) + term[i];
}

/* ---- products */

/* Of each processor: vectors of sums, one an output, and TAKE, which adds to them four inputs of a lane (the same for all)
 * times four weights of each output. ZERO: what a byte of input stands below its number. TILES of WIDE outputs are summed
 * up in registers, of as many lanes at a time as there is room for. */
#if defined(__AVX2__)
#include <immintrin.h>
#define ABREAST 2
#define ZERO 0
typedef __m256i Bytes, Sums;
typedef __m256 Floats;
#define EVERY(value) _mm256_set1_epi32(value)
#define READ(from) _mm256_loadu_si256((const __m256i *)(from))
/* pairs stay within 16 bits: see step.py */
#define TAKE(sums, input, weight) \
    _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(input, weight), _mm256_set1_epi16(1)))
#elif defined(__SSSE3__)
#include <tmmintrin.h>
#define ABREAST 1
#define ZERO 0
typedef __m128i Bytes, Sums;
#define EVERY(value) _mm_set1_epi32(value)
#define READ(from) _mm_loadu_si128((const __m128i *)(from))
#define TAKE(sums, input, weight) _mm_add_epi32(sums, _mm_madd_epi16(_mm_maddubs_epi16(input, weight), _mm_set1_epi16(1)))
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#define ABREAST 2
#define ZERO 128 /* signed: 16 bits hold two products, for -128 times 128 is the most of one sign, 127 times 127 of both */
typedef int8x16_t Bytes;
typedef int32x4_t Sums;
#define EVERY(value) vreinterpretq_s8_s32(vdupq_n_s32(value))
#define READ(from) vld1q_s8(from)
#if defined(__ARM_FEATURE_DOTPROD)
#define TAKE(sums, input, weight) vdotq_s32(sums, input, weight)
#else
static inline int32x4_t add_products(int32x4_t sums, int8x16_t input, int8x16_t weight)
{
    int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(input), vget_low_s8(weight)));
    return vaddq_s32(sums, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(input, weight))));
}
#define TAKE(sums, input, weight) add_products(sums, input, weight)
#endif
#else
#error "no vectors for this processor: the graphs are run there"
#endif
#define PARTS (WIDE * 4 / (int)sizeof(Bytes)) /* vectors of a tile */
#define OUTPUTS ((int)sizeof(Sums) / 4)       /* of a vector */

static inline __attribute__((always_inline)) void tile(const Product *map, const int rows, const uint8_t *x, int x_width,
                                                       float *y, int y_width, int at)
{
    const int8_t *weights = map->weights + (int64_t)at * map->inputs;
    Sums sums[ABREAST][PARTS];
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++)
            sums[row][part] = (Sums)EVERY(0);
    for (int i = 0; i < map->inputs; i += 4, weights += 4 * WIDE) {
        Bytes inputs[ABREAST];
        for (int row = 0; row < rows; row++) {
            int32_t four;
            __builtin_memcpy(&four, x + (int64_t)row * x_width + i, 4);
            inputs[row] = EVERY(four);
        }
        for (int part = 0; part < PARTS; part++) {
            Bytes weight = READ(weights + part * sizeof(Bytes));
            for (int row = 0; row < rows; row++)
                sums[row][part] = TAKE(sums[row][part], inputs[row], weight);
        }
    }
    for (int row = 0; row < rows; row++) {
        int32_t found[WIDE];
        __builtin_memcpy(found, sums[row], sizeof found);
        for (int o = 0; o < WIDE; o++) {
            int32_t less = found[o] - (map->middle - ZERO) * map->totals[at + o];
            y[(int64_t)row * y_width + at + o] = (float)less * map->scales[at + o] + map->biases[at + o];
        }
    }
}

/* inputs (rows, x_width) in bytes -> (rows, y_width), both at least as wide as the product's */
static void multiply(const Product *map, int rows, const uint8_t *x, int x_width, float *y, int y_width)
{
    int full = rows - rows % ABREAST;
    for (int at = 0; at < map->outputs; at += WIDE) { /* a tile of weights stays in the nearest cache */
        for (int row = 0; row < full; row += ABREAST)
            tile(map, ABREAST, x + (int64_t)row * x_width, x_width, y + (int64_t)row * y_width, y_width, at);
        for (int row = full; row < rows; row++)
            tile(map, 1, x + (int64_t)row * x_width, x_width, y + (int64_t)row * y_width, y_width, at);
    }
}

static void quantize(const Product *map, uint8_t *restrict y, const float *restrict x, int count)
{
    float step = map->step, low = (float)-map->middle, high = low + 255.0f;
    for (int i = 0; i < count; i++)
        y[i] = (uint8_t)((int32_t)(whole(limited(x[i] / step, low, high)) - low) - ZERO);
}

/* ---- drawing */

static int best_of(const float *scores, int count)
{
    int best = 0;
    for (int i = 1; i < count; i++)
        best = scores[i] > scores[best] ? i : best;
    return best;
}

/* The class that wins with its noise, of the fewest that hold `top_p` of the tempered probability. A winner is one of
 * those if what is likelier holds less than that; if it is not, it is marked down as in the graph, and another wins. */
static int draw(const float *logits, const float *noise, int count, float coldness, float top_p, float *scratch)
{
    float *shares = scratch, *scores = scratch + count, most = logits[0], total = 0.0f;
    for (int i = 1; i < count; i++)
        most = logits[i] > most ? logits[i] : most;
    for (int i = 0; i < count; i++)
        shares[i] = exponential((logits[i] - most) * coldness);
    for (int i = 0; i < count; i++)
        total += shares[i];
    for (int i = 0; i < count; i++)
        scores[i] = logits[i] + noise[i];
    for (int tries = 0;; tries++) {
        int best = best_of(scores, count);
        float better = 0.0f;
        if (tries == count || shares[best] < 0.0f) /* it was marked down before */
            return best;
        for (int i = 0; i < count; i++)
            better += logits[i] > logits[best] ? (shares[i] < 0.0f ? -shares[i] : shares[i]) : 0.0f;
        if (better < top_p * total)
            return best;
        scores[best] = 2 * MASKED + noise[best];
        shares[best] = -shares[best] - 1e-30f;
    }
}

static int all_classes(const Model *model)
{
    return model->classes[SHIFT] + model->classes[KEY] + model->classes[VELOCITY] + model->classes[DURATION];
}

static int bin_of(const Model *model, float ticks) /* how many edges are at or below */
{
    int low = 0, high = model->edge_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (ticks >= model->edges[middle])
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline float downwards(float x) /* floor of a number within 32 bits */
{
    float cut = (float)(int32_t)x;
    return cut > x ? cut - 1.0f : cut;
}

static float value_in(const Model *model, int field, int64_t chosen, float chance)
{
    return model->first[field][chosen] + downwards(limited(chance * model->width[field][chosen], 0.0f, 1e9f));
}

/* ---- the step */

typedef struct {
    int wide, gate, roll, inputs; /* floats a row, and bytes of its inputs */
    float *main, *x, *hidden, *logits, *rolls, *gates, *outputs, *scratch;
    uint8_t *bytes;
} Room;

static int at_least(int a, int b)
{
    return a > b ? a : b;
}

static int64_t lay_out(const Model *model, int rows, Room *room, uint8_t *memory)
{
    int64_t used = 0;
    room->wide = at_least(model->join.outputs, model->hidden[0].outputs);
    room->wide = at_least(room->wide, at_least(model->key_extra.outputs, model->context_of.outputs));
    room->gate = model->strokes, room->inputs = at_least(model->hidden[0].inputs, model->key_extra.inputs);
    for (int i = 0; i < 4; i++)
        room->wide = at_least(room->wide, model->out[i].outputs);
    for (int i = 0; i < model->layers; i++) {
        room->gate = at_least(room->gate, model->maps[i].outputs);
        room->inputs = at_least(room->inputs, model->maps[i].inputs);
    }
    room->inputs = at_least(room->inputs, model->context_of.inputs);
    room->roll = (model->joined ? 4 : 3) * model->strokes;
#define PLACE(name, type, count) \
    room->name = (type *)((uintptr_t)memory + used), used += ((int64_t)(count) * (int64_t)sizeof(type) + 63) / 64 * 64
    PLACE(main, float, (int64_t)rows * room->wide);
    PLACE(x, float, (int64_t)rows * room->wide);
    PLACE(hidden, float, (int64_t)rows * room->wide);
    PLACE(logits, float, (int64_t)rows * room->wide);
    PLACE(rolls, float, (int64_t)rows * room->roll);
    PLACE(gates, float, (int64_t)rows * room->gate);
    PLACE(outputs, float, (int64_t)rows * model->size);
    PLACE(scratch, float, 4 * room->wide);
    PLACE(bytes, uint8_t, (int64_t)rows * room->inputs);
    return used;
}

/* the logits of a head into room->logits, of what is in room->x: the sum of its terms */
static void head(const Model *model, int field, int rows, const Room *room)
{
    int size = model->head_size, wide = room->wide;
    for (int row = 0; row < rows; row++) {
        float *x = room->x + (int64_t)row * wide;
        gelu_all(room->scratch, x, size);
        quantize(&model->hidden[field], room->bytes + (int64_t)row * room->inputs, room->scratch, size);
        for (int i = 0; i < size; i++)
            x[i] = room->scratch[i];
    }
    multiply(&model->hidden[field], rows, room->bytes, room->inputs, room->hidden, wide);
    for (int row = 0; row < rows; row++) {
        gelu_and_add(room->scratch, room->hidden + (int64_t)row * wide, room->x + (int64_t)row * wide, size);
        quantize(&model->out[field], room->bytes + (int64_t)row * room->inputs, room->scratch, size);
    }
    multiply(&model->out[field], rows, room->bytes, room->inputs, room->logits, wide);
}

/* room->x of a lane: rows of the tables of the fields drawn before, then an extra term or none, then the context */
static void gather(const Model *model, int field, const Lanes *lanes, int lane, float *x, const float *const extra[2],
                   const float *context)
{
    int size = model->head_size;
    for (int i = 0; i < size; i++)
        x[i] = 0.0f;
    for (int before = 0; before < field; before++)
        add(x, model->given[field][before] + lanes->classes[before][lane] * size, size);
    for (int i = 0; i < 2; i++)
        if (extra[i])
            add(x, extra[i], size);
    add(x, context, size);
}

static void cell_step(const Model *model, const float *restrict gate, const float *restrict state,
                      const float *restrict memory, float *restrict state_after, float *restrict memory_after)
{
    int size = model->size;
    if (model->cell == LSTM)
        for (int i = 0; i < size; i++) {
            float kept = sigmoid(gate[size + i]) * memory[i];
            kept += sigmoid(gate[i]) * hyperbolic_tangent(gate[3 * size + i]);
            memory_after[i] = kept;
            state_after[i] = sigmoid(gate[2 * size + i]) * hyperbolic_tangent(kept);
        }
    else if (model->cell == GRU)
        for (int i = 0; i < size; i++) {
            float fresh = hyperbolic_tangent(gate[2 * size + i] + sigmoid(gate[i]) * gate[3 * size + i]);
            state_after[i] = fresh + sigmoid(gate[size + i]) * (state[i] - fresh);
        }
    else
        for (int i = 0; i < size; i++)
            state_after[i] = hyperbolic_tangent(gate[i]);
}

static void meet(const Model *model, const Lanes *lanes, int from, int rows, const Room *room)
{
    int size = model->head_size, wide = room->wide;
    if (!model->joined) {
        for (int row = 0; row < rows; row++)
            for (int i = 0; i < size; i++)
                room->main[(int64_t)row * wide + i] = lanes->context[(int64_t)(from + row) * size + i];
        return;
    }
    for (int row = 0; row < rows; row++) {
        int64_t lane = from + row;
        int bin = bin_of(model, lanes->resume[lane] - lanes->ticks[6 * lane]);
        const float *time = model->times + (int64_t)bin * 2 * size;
        const float *said = lanes->said + lane * 2 * size, *context = lanes->context + lane * 2 * size;
        float *main = room->main + (int64_t)row * wide, *x = room->x;
        for (int i = 0; i < size; i++)
            main[i] = (time[i] + said[i]) + context[i];
        for (int i = 0; i < size; i++)
            x[i] = (time[size + i] + said[size + i]) + context[size + i];
        gelu_all(room->scratch, x, size);
        quantize(&model->join, room->bytes + (int64_t)row * room->inputs, room->scratch, size);
    }
    multiply(&model->join, rows, room->bytes, room->inputs, room->hidden, wide);
    for (int row = 0; row < rows; row++)
        add(room->main + (int64_t)row * wide, room->hidden + (int64_t)row * wide, size);
}

static inline float onset_of(const Lanes *lanes, int64_t lane) /* of the token that is drawn, once its shift is */
{
    return lanes->ticks[6 * lane] + lanes->waited[lane];
}

static void choose_shift(const Model *model, const Lanes *lanes, int64_t lane, float *logits, float *free_from)
{
    const float *ticks = lanes->ticks + 6 * lane, *barred = lanes->barred + lane * model->strokes;
    const float *released = lanes->strokes + lane * (model->joined ? 4 : 3) * model->strokes + model->strokes;
    float now = ticks[0], last_key = ticks[3], soonest = 1e30f;
    for (int key = 0; key < model->strokes; key++) {
        float bar = last_key >= (float)key && barred[key] < now + 1.0f ? now + 1.0f : barred[key];
        free_from[key] = released[key] > bar ? released[key] : bar;
        soonest = free_from[key] < soonest ? free_from[key] : soonest;
    }
    float earliest = soonest - now > ticks[1] ? soonest - now : ticks[1];
    float latest = ticks[2] > earliest ? ticks[2] : earliest;
    const float *noise = lanes->noise + lane * all_classes(model);
    int count = model->classes[SHIFT];
    for (int i = 0; i < count; i++)
        logits[i] = (model->shift_opens[i] <= latest && model->shift_closes[i] >= earliest ? logits[i] : MASKED) + noise[i];
    int64_t chosen = lanes->classes[SHIFT][lane] = best_of(logits, count);
    float waited = value_in(model, SHIFT, chosen, ticks[4]);
    waited = waited < latest ? waited : latest;
    lanes->waited[lane] = waited > earliest ? waited : earliest;
}

static void keep_logits(const Model *model, const Lanes *lanes, int field, int from, int rows, const Room *room)
{
    int count = model->classes[field];
    if (lanes->logits[field])
        for (int row = 0; row < rows; row++)
            for (int i = 0; i < count; i++)
                lanes->logits[field][(int64_t)(from + row) * count + i] = room->logits[(int64_t)row * room->wide + i];
}

#if defined(__x86_64__) && !defined(__AVX2__)
#include <cpuid.h>

/* 2 for AVX2, whose registers the system keeps (Intel's manual, volume 1, 14.3), 1 for SSSE3, else 0 */
EXPORT int32_t widest(void)
{
    uint32_t a, b, c, d, kept, further;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 9)))
        return 0;
    if (!(c & (1u << 27)) || !(c & (1u << 28)))
        return 1;
    __asm__("xgetbv" : "=a"(kept), "=d"(d) : "c"(0));
    return (kept & 6) == 6 && __get_cpuid_count(7, 0, &a, &further, &c, &d) && (further & (1u << 5)) ? 2 : 1;
}
#endif

EXPORT int64_t JOINED(room)(const Model *model, int32_t rows)
{
    Room room;
    return lay_out(model, rows, &room, 0);
}

/* Draw the next token of lanes `from` to `from + rows` and take it in; `strike`: into their strokes too; `memory`: as
 * many bytes as `room` says. */
EXPORT void JOINED(step)(const Model *model, const Lanes *lanes, int32_t from, int32_t rows, int32_t strike, uint8_t *memory)
{
    Room its, *room = &its;
    lay_out(model, rows, room, memory);
    const int size = model->head_size, wide = room->wide, strokes = model->strokes, units = model->size;
    const int told = (model->joined ? 4 : 3) * strokes, layers = model->layers;
    const int key_noise = model->classes[SHIFT], velocity_noise = key_noise + model->classes[KEY];
    const int duration_noise = velocity_noise + model->classes[VELOCITY], all = all_classes(model);
    const float *none[2] = {0, 0};
    float *free_from = room->gates; /* the gates come later */

    meet(model, lanes, from, rows, room);
    for (int row = 0; row < rows; row++)
        gather(model, SHIFT, lanes, from + row, room->x + (int64_t)row * wide, none, room->main + (int64_t)row * wide);
    head(model, SHIFT, rows, room);
    keep_logits(model, lanes, SHIFT, from, rows, room);
    for (int row = 0; row < rows; row++)
        choose_shift(model, lanes, from + row, room->logits + (int64_t)row * wide, free_from + (int64_t)row * room->gate);

    for (int row = 0; row < rows; row++) {
        int64_t lane = from + row;
        const float *struck = lanes->strokes + lane * told;
        float *roll = room->rolls + (int64_t)row * room->roll, then = onset_of(lanes, lane);
        for (int i = 0; i < told; i++)
            roll[i] = exponential(limited((struck[i] - then) * model->paces[i], LEAST, 0.0f));
        quantize(&model->key_extra, room->bytes + (int64_t)row * room->inputs, roll, told);
    }
    multiply(&model->key_extra, rows, room->bytes, room->inputs, room->hidden, wide);
    for (int row = 0; row < rows; row++) {
        int64_t lane = from + row;
        const float *extra[2] = {room->hidden + (int64_t)row * wide, 0};
        if (model->joined) {
            float then = onset_of(lanes, lane);
            extra[1] = model->key_time_to_go + (int64_t)bin_of(model, lanes->resume[lane] - then) * size;
        }
        gather(model, KEY, lanes, from + row, room->x + (int64_t)row * wide, extra, room->main + (int64_t)row * wide);
    }
    head(model, KEY, rows, room);
    keep_logits(model, lanes, KEY, from, rows, room);
    for (int row = 0; row < rows; row++) {
        int64_t lane = from + row;
        float *logits = room->logits + (int64_t)row * wide, then = onset_of(lanes, lane);
        const float *free_at = free_from + (int64_t)row * room->gate;
        for (int key = 0; key < strokes; key++)
            logits[key] = free_at[key] > then ? MASKED : logits[key];
        lanes->classes[KEY][lane] = draw(logits, lanes->noise + lane * all + key_noise, model->classes[KEY],
                                         lanes->coldness[lane], lanes->top_p[lane], room->scratch);
        gather(model, VELOCITY, lanes, from + row, room->x + (int64_t)row * wide, none, room->main + (int64_t)row * wide);
    }
    head(model, VELOCITY, rows, room);
    keep_logits(model, lanes, VELOCITY, from, rows, room);
    for (int row = 0; row < rows; row++) {
        int64_t lane = from + row, key = lanes->classes[KEY][lane];
        lanes->classes[VELOCITY][lane] = draw(room->logits + (int64_t)row * wide, lanes->noise + lane * all + velocity_noise,
                                              model->classes[VELOCITY], lanes->coldness[lane], lanes->top_p[lane], room->scratch);
        const float *extra[2] = {0, 0};
        if (model->joined) {
            float then = onset_of(lanes, lane);
            extra[0] = model->struck_again + (int64_t)bin_of(model, lanes->strokes[lane * told + 3 * strokes + key] - then) * size;
        }
        gather(model, DURATION, lanes, from + row, room->x + (int64_t)row * wide, extra, room->main + (int64_t)row * wide);
    }
    head(model, DURATION, rows, room);
    keep_logits(model, lanes, DURATION, from, rows, room);
    for (int row = 0; row < rows; row++) {
        int64_t lane = from + row, key = lanes->classes[KEY][lane];
        float *logits = room->logits + (int64_t)row * wide, *roll = room->rolls + (int64_t)row * room->roll;
        add(logits, lanes->noise + lane * all + duration_noise, model->classes[DURATION]);
        int64_t chosen = lanes->classes[DURATION][lane] = best_of(logits, model->classes[DURATION]);
        float held = lanes->held[lane] = value_in(model, DURATION, chosen, lanes->ticks[6 * lane + 5]);
        float then = onset_of(lanes, lane), *struck = lanes->strokes + lane * told;
        if (strike)
            struck[key] = then, struck[strokes + key] = then + held, struck[2 * strokes + key] = then + held - 1.0f;
        roll[key] = 1.0f, roll[2 * strokes + key] = 1.0f;
        roll[strokes + key] = exponential(limited(held * model->held_pace, LEAST, 0.0f));
    }

    const int per_layer = model->cell == LSTM ? 2 : 1;
    for (int layer = 0; layer < layers; layer++) {
        const Product *map = &model->maps[layer];
        const float *const *states = lanes->states + per_layer * layer;
        float *const *after = lanes->states_after + per_layer * layer;
        for (int row = 0; row < rows; row++) {
            int64_t lane = from + row;
            uint8_t *bytes = room->bytes + (int64_t)row * room->inputs;
            const int below = layer ? units : 3 * strokes;
            quantize(map, bytes, layer ? lanes->states_after[per_layer * (layer - 1)] + lane * units
                                       : room->rolls + (int64_t)row * room->roll, below);
            quantize(map, bytes + below, states[0] + lane * units, units);
        }
        multiply(map, rows, room->bytes, room->inputs, room->gates, room->gate);
        for (int row = 0; row < rows; row++) {
            int64_t lane = from + row;
            float *gate = room->gates + (int64_t)row * room->gate, *mean = room->outputs + (int64_t)row * units;
            if (layer == 0) {
                const int gates = (model->cell == LSTM || model->cell == GRU ? 4 : 1) * units;
                const float *terms[5];
                for (int field = 0; field < 4; field++)
                    terms[field] = model->of[field] + lanes->classes[field][lane] * gates;
                terms[4] = model->of_composer + lanes->composer[lane] * gates;
                for (int i = 0; i < gates; i++)
                    gate[i] = ((((terms[0][i] + terms[1][i]) + terms[2][i]) + terms[3][i]) + terms[4][i]) + gate[i];
            }
            cell_step(model, gate, states[0] + lane * units, per_layer == 2 ? states[1] + lane * units : 0,
                      after[0] + lane * units, per_layer == 2 ? after[1] + lane * units : 0);
            for (int i = 0; i < units; i++)
                mean[i] = (layer ? mean[i] : 0.0f) + after[0][lane * units + i];
            if (layer == layers - 1)
                for (int i = 0; i < units; i++)
                    mean[i] /= (float)layers;
        }
    }
    for (int row = 0; row < rows; row++) {
        uint8_t *bytes = room->bytes + (int64_t)row * room->inputs;
        quantize(&model->context_of, bytes, room->outputs + (int64_t)row * units, units);
        quantize(&model->context_of, bytes + units, room->rolls + (int64_t)row * room->roll, 3 * strokes);
    }
    multiply(&model->context_of, rows, room->bytes, room->inputs, room->hidden, wide);
    const int heard = (model->joined ? 2 : 1) * size;
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < heard; i++)
            lanes->context_after[(int64_t)(from + row) * heard + i] = room->hidden[(int64_t)row * wide + i];
}

/* ---- writing: as `Writer.prepare` and `Writer.take` */

#define NOTES (model->strokes - 3) /* keys that are not pedals */
#define DONE 1
#define WRONG 2

/* how often the last pitch may come in a row, with what the future adds to it */
static int64_t most_repeats(const Plan *plan)
{
    int added = plan->repeated == plan->first_repeated && plan->first_times < plan->longest_repeat;
    return added ? plan->longest_repeat - plan->first_times : plan->longest_repeat;
}

static void prepare(const Model *model, const Lanes *lanes, Plan *plan, int64_t lane)
{
    float *ticks = lanes->ticks + 6 * lane, *barred = lanes->barred + lane * model->strokes;
    const float *chances = plan->chances + 3 * plan->place;
    int64_t room = plan->end - 1 - plan->now, due = plan->last_note + plan->rest - plan->now, latest;
    int unfinished = model->joined && plan->now + due < plan->next_note;
    if (unfinished && due > room)
        due = room;
    int64_t no_pedals = due <= 1, no_key = plan->times >= most_repeats(plan) ? plan->repeated : -1;
    if (no_pedals != plan->no_pedals || no_key != plan->no_key) {
        plan->no_pedals = no_pedals, plan->no_key = no_key;
        for (int key = 0; key < model->strokes; key++)
            barred[key] = (no_pedals && key >= NOTES) || key == no_key ? 1e9f : 0.0f;
    }
    latest = due - 1 > 1 ? due - 1 : 1;
    if (model->joined && latest > room)
        latest = room;
    int all = all_classes(model);
    float *noise = lanes->noise + lane * all;
    for (int i = 0; i < all; i++)
        noise[i] = plan->noise[plan->place * all + i];
    if (unfinished)
        noise[RESUME] = -1e9f;
    ticks[0] = (float)plan->now, ticks[1] = plan->start > plan->now ? (float)(plan->start - plan->now) : 0.0f;
    ticks[2] = (float)latest, ticks[3] = (float)plan->last_key, ticks[4] = chances[0], ticks[5] = chances[1];
}

/* the token into `row`: waited, key, velocity and held; whether there is one */
static int take(const Model *model, const Lanes *lanes, Plan *plan, int64_t lane, int32_t *row)
{
    float waited = lanes->waited[lane], held = lanes->held[lane], chance = plan->chances[3 * plan->place + 2];
    int64_t key = lanes->classes[KEY][lane], now = plan->now + (int64_t)limited(waited, -1.0f, 1e9f);
    plan->place++;
    if (now < plan->now || (now == plan->now && key <= plan->last_key) || !(held >= 0.0f && held < 1e9f)) {
        plan->done = WRONG; /* with such, writing might never end */
        return 0;
    }
    if (lanes->classes[SHIFT][lane] >= RESUME || now >= plan->end) {
        plan->done = DONE;
        return 0;
    }
    plan->now = now, plan->last_key = key;
    if (key < NOTES) {
        plan->last_note = now;
        plan->times = key == plan->repeated ? plan->times + 1 : 1, plan->repeated = key;
        plan->notes_left--;
        if (plan->notes_left == 0)
            plan->done = DONE;
    }
    float velocity = value_in(model, VELOCITY, lanes->classes[VELOCITY][lane], chance);
    row[0] = (int32_t)waited, row[1] = (int32_t)key, row[2] = velocity > 1.0f ? (int32_t)velocity : 1, row[3] = (int32_t)held;
    return 1;
}

/* What a step left of lanes, put where the next one takes it from. */
static void put_back(const Model *model, const Lanes *from, const Lanes *to, int64_t lane, int64_t count)
{
    int64_t heard = (model->joined ? 2 : 1) * model->head_size, units = model->size;
    int states = model->layers * (model->cell == LSTM ? 2 : 1);
    __builtin_memcpy(to->context_after + lane * heard, from->context_after + lane * heard, count * heard * sizeof(float));
    for (int i = 0; i < states; i++)
        __builtin_memcpy(to->states_after[i] + lane * units, from->states_after[i] + lane * units, count * units * sizeof(float));
}

/* Up to `most` tokens of each of the lanes `from` to `from + count` into `rows` (most, count, 4), until all are done or one
 * is out of dice. `one` and `other`: from one set of what a step leaves to the other, and back; it ends where it began.
 * -> how many; where a lane is done and there is no token, the row's key is -1. */
EXPORT int32_t JOINED(write)(const Model *model, const Lanes *one, const Lanes *other, Plan *plans, int32_t from,
                             int32_t count, int32_t most, int32_t *rows, uint8_t *memory)
{
    int32_t tokens = 0;
    for (int going = 1; tokens < most && going; tokens++) {
        const Lanes *lanes = tokens % 2 ? other : one;
        int out_of_dice = 0, left = 0;
        for (int32_t lane = from; lane < from + count; lane++)
            if (!plans[lane].done) /* else it is stepped with the others, for nothing */
                prepare(model, lanes, plans + lane, lane);
        JOINED(step)(model, lanes, from, count, 1, memory);
        for (int32_t lane = from; lane < from + count; lane++, rows += 4) {
            Plan *plan = plans + lane;
            if (plan->done || !take(model, lanes, plan, lane, rows))
                rows[1] = -1;
            left += !plan->done, out_of_dice |= !plan->done && plan->place == plan->block;
        }
        going = left && !out_of_dice;
    }
    if (tokens % 2)
        put_back(model, one, other, from, count);
    return tokens;
}
