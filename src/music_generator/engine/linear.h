/* Linear maps in 8 bits or in float32, and the elementwise part of a recurrent layer.
 *
 * Inputs come in one or two parts (a layer's input and its state, say), each rounded up to INPUT_GROUP numbers, so that
 * the products of a part can be summed up for many tokens at once. Sums of 8-bit products are whole numbers, and sums in
 * float32 are taken in the order of the inputs: so it is the same bits, however the work is cut up. */

typedef struct {
    int32_t precision, inputs, split, outputs; /* inputs and outputs rounded up; where the second part begins */
    int32_t zero_point;                        /* of the inputs; the scales contain their step */
    float inverse_step;
    const int8_t *weights8;  /* outputs / TILE_OUTPUTS tiles of inputs / 4 times TILE_OUTPUTS times 4 */
    const float *weights32;  /* outputs / TILE_OUTPUTS tiles of inputs times TILE_OUTPUTS */
    const float *scale, *bias;
    const int32_t *column_sums; /* of each output's weights */
} Linear;

static int input_bytes(const Linear *linear) /* of one row of inputs */
{
    return linear->inputs * (linear->precision == INT8 ? 1 : (int)sizeof(float));
}

/* Put `count` numbers into a row of inputs, from input `at` on. */
static void set_inputs(const Linear *linear, uint8_t *restrict row, int at, const float *restrict x, int count)
{
    if (linear->precision == FLOAT32) {
        __builtin_memcpy(row + (int64_t)at * (int64_t)sizeof(float), x, (uint64_t)count * sizeof(float));
        return;
    }
    float inverse = linear->inverse_step, low = (float)-linear->zero_point, high = low + 255.0f;
    for (int i = 0; i < count; i++)
        row[at + i] = (uint8_t)((int32_t)(round_even(clamp(x[i] * inverse, low, high)) - low) - INPUT_OFFSET);
}

/* Sums of products of inputs [from, to) for the outputs of a tile, of `rows` rows; `sums` (rows, TILE_OUTPUTS). */
static inline __attribute__((always_inline)) void sum_tile8(const Linear *linear, const int rows, int tile, int from, int to,
                                                            const uint8_t *inputs, int64_t stride, int32_t *sums)
{
    const int8_t *weights = linear->weights8 + (int64_t)tile * linear->inputs + (int64_t)from * TILE_OUTPUTS;
    Sums total[TILE_ROWS][TILE_PARTS];
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < TILE_PARTS; part++)
            total[row][part] = (Sums)BROADCAST(0);
    for (int i = from; i < to; i += 4, weights += 4 * TILE_OUTPUTS) {
        Bytes input[TILE_ROWS];
        for (int row = 0; row < rows; row++) {
            int32_t four;
            __builtin_memcpy(&four, inputs + row * stride + i, 4);
            input[row] = BROADCAST(four);
        }
        for (int part = 0; part < TILE_PARTS; part++) {
            Bytes weight = LOAD(weights + part * (int)sizeof(Bytes));
            for (int row = 0; row < rows; row++)
                total[row][part] = MULTIPLY_ADD(total[row][part], input[row], weight);
        }
    }
    __builtin_memcpy(sums, total, (uint64_t)rows * TILE_OUTPUTS * sizeof(int32_t));
}

static inline __attribute__((always_inline)) void sum_tile32(const Linear *linear, int tile, int from, int to,
                                                             const uint8_t *inputs, float *sums)
{
    const float *weights = linear->weights32 + (int64_t)tile * linear->inputs + (int64_t)from * TILE_OUTPUTS;
    float total[TILE_OUTPUTS];
    __builtin_memcpy(total, sums, sizeof total);
    for (int i = from; i < to; i++, weights += TILE_OUTPUTS) {
        float input;
        __builtin_memcpy(&input, inputs + (int64_t)i * (int64_t)sizeof(float), sizeof input);
        for (int o = 0; o < TILE_OUTPUTS; o++)
            total[o] += input * weights[o];
    }
    __builtin_memcpy(sums, total, sizeof total);
}

typedef union { /* of a tile, before scale and bias */
    int32_t whole[TILE_ROWS][TILE_OUTPUTS];
    float real[TILE_ROWS][TILE_OUTPUTS];
} TileSums;

static void finish_tile(const Linear *linear, int tile, const int32_t *whole, const float *real, float *y)
{
    const float *bias = linear->bias + tile;
    if (linear->precision == FLOAT32) {
        for (int o = 0; o < TILE_OUTPUTS; o++)
            y[o] = real[o] + bias[o];
        return;
    }
    const int32_t offset = linear->zero_point - INPUT_OFFSET, *column_sums = linear->column_sums + tile;
    const float *scale = linear->scale + tile;
    for (int o = 0; o < TILE_OUTPUTS; o++)
        y[o] = (float)(whole[o] - offset * column_sums[o]) * scale[o] + bias[o];
}

/* Of `rows` rows: the sums over inputs [from, to), added to `before` (rows, linear->outputs) if it is not null, into
 * `after` (the same, unfinished) if that is not null, else finished into y. */
static void multiply_part(const Linear *linear, int outputs, int rows, int from, int to, const uint8_t *inputs,
                          int64_t stride, const int32_t *before, int32_t *after, float *y, int64_t y_stride)
{
    for (int tile = 0; tile < outputs; tile += TILE_OUTPUTS) /* a tile of weights stays in the nearest cache */
        for (int first = 0; first < rows; first += TILE_ROWS) {
            const uint8_t *x = inputs + first * stride;
            int together = min_int(TILE_ROWS, rows - first);
            TileSums sums;
            if (linear->precision == FLOAT32)
                for (int row = 0; row < together; row++) {
                    for (int o = 0; o < TILE_OUTPUTS; o++)
                        sums.real[row][o] = 0.0f;
                    if (before)
                        __builtin_memcpy(sums.real[row], before + (int64_t)(first + row) * linear->outputs + tile,
                                         sizeof sums.real[row]);
                    sum_tile32(linear, tile, from, to, x + row * stride, sums.real[row]);
                }
            else {
                if (together == TILE_ROWS)
                    sum_tile8(linear, TILE_ROWS, tile, from, to, x, stride, sums.whole[0]);
                else
                    sum_tile8(linear, 1, tile, from, to, x, stride, sums.whole[0]);
                for (int row = 0; before && row < together; row++)
                    for (int o = 0; o < TILE_OUTPUTS; o++)
                        sums.whole[row][o] += before[(int64_t)(first + row) * linear->outputs + tile + o];
            }
            for (int row = 0; row < together; row++)
                if (after)
                    __builtin_memcpy(after + (int64_t)(first + row) * linear->outputs + tile, sums.whole[row],
                                     sizeof sums.whole[row]);
                else
                    finish_tile(linear, tile, sums.whole[row], sums.real[row], y + (first + row) * y_stride + tile);
        }
}

/* The first `outputs` outputs (rounded up to a tile) of `rows` rows of inputs. */
static void multiply(const Linear *linear, int outputs, int rows, const uint8_t *inputs, int64_t stride, float *y,
                     int64_t y_stride)
{
    multiply_part(linear, outputs, rows, 0, linear->inputs, inputs, stride, 0, 0, y, y_stride);
}

/* The same of rows most of whose inputs are 0, of which a zero byte tells: only the others are multiplied. `groups` has room
 * for the number of inputs. */
static void multiply_sparse(const Linear *linear, int outputs, int rows, const uint8_t *inputs, int64_t stride, float *y,
                            int64_t y_stride, int32_t *groups)
{
    if (linear->precision == FLOAT32 || INPUT_OFFSET != 0 || linear->zero_point != 0) {
        multiply(linear, outputs, rows, inputs, stride, y, y_stride);
        return;
    }
    for (int row = 0; row < rows; row++, inputs += stride, y += y_stride) {
        int count = 0;
        for (int i = 0; i < linear->inputs; i += 4) {
            int32_t four;
            __builtin_memcpy(&four, inputs + i, 4);
            groups[count] = i;
            count += four != 0;
        }
        for (int tile = 0; tile < outputs; tile += TILE_OUTPUTS) {
            Sums total[TILE_PARTS];
            int32_t sums[TILE_OUTPUTS];
            for (int part = 0; part < TILE_PARTS; part++)
                total[part] = (Sums)BROADCAST(0);
            for (int group = 0; group < count; group++) {
                const int8_t *weights = linear->weights8 + (int64_t)tile * linear->inputs;
                weights += (int64_t)groups[group] * TILE_OUTPUTS;
                int32_t four;
                __builtin_memcpy(&four, inputs + groups[group], 4);
                Bytes input = BROADCAST(four);
                for (int part = 0; part < TILE_PARTS; part++)
                    total[part] = MULTIPLY_ADD(total[part], input, LOAD(weights + part * (int)sizeof(Bytes)));
            }
            __builtin_memcpy(sums, total, sizeof sums);
            finish_tile(linear, tile, sums, 0, y + tile);
        }
    }
}

static int gates_of(int cell) /* a GRU's candidate has a part of the input and one of the state, between them its gate */
{
    return cell == RNN ? 1 : 4;
}

static int state_rows(int cell) /* an LSTM has its output and its memory */
{
    return cell == LSTM ? 2 : 1;
}

/* Take a layer's state (state_rows, units) one token further: `gates` are sums of its maps, in the order of pack.py. */
static void update_state(int cell, int units, const float *restrict gates, float *restrict state)
{
    float *restrict memory = state + units;
    if (cell == LSTM)
        for (int i = 0; i < units; i++) {
            float kept = sigmoid(gates[units + i]) * memory[i];
            kept += sigmoid(gates[i]) * hyperbolic_tangent(gates[3 * units + i]);
            memory[i] = kept;
            state[i] = sigmoid(gates[2 * units + i]) * hyperbolic_tangent(kept);
        }
    else if (cell == GRU)
        for (int i = 0; i < units; i++) {
            float fresh = hyperbolic_tangent(gates[2 * units + i] + sigmoid(gates[i]) * gates[3 * units + i]);
            state[i] = fresh + sigmoid(gates[units + i]) * (state[i] - fresh);
        }
    else
        for (int i = 0; i < units; i++)
            state[i] = hyperbolic_tangent(gates[i]);
}
