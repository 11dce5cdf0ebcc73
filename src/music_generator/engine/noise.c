/* The random numbers of generation for a caller without NumPy: those of noise.py, bit for bit.
 *
 * PCG64 is numpy.random.PCG64: M. E. O'Neill, PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms
 * for Random Number Generation, 2014; XSL-RR 128/64. */

typedef struct { /* numbers of 128 bits as two halves */
    uint64_t high, low, step_high, step_low;
} Generator;

static uint64_t next_bits(Generator *generator)
{
    const uint64_t factor_high = 2549297995355413924u, factor_low = 4865540595714422341u, half = 0xffffffffu;
    uint64_t low = generator->low, a = low & half, b = low >> 32, c = factor_low & half, d = factor_low >> 32;
    uint64_t middle = (a * c >> 32) + (a * d & half) + (b * c & half);
    uint64_t carried = b * d + (a * d >> 32) + (b * c >> 32) + (middle >> 32);
    generator->high = carried + low * factor_high + generator->high * factor_low + generator->step_high;
    generator->low = low * factor_low + generator->step_low;
    generator->high += generator->low < generator->step_low;
    uint64_t mixed = generator->high ^ generator->low, turn = generator->high >> 58;
    return mixed >> turn | mixed << (-turn & 63);
}

/* Fill the noise of `tokens` tokens: Gumbel noise times the temperature, looked up among 2^16 `quantiles`, (tokens, classes),
 * then uniform numbers in [0, 1), (tokens, 3). */
EXPORT void VARIANT(fill_noise)(Generator *generator, const float *quantiles, float temperature, int32_t classes,
                                int32_t tokens, float *noise, float *uniforms)
{
    const int32_t of_noise = tokens * classes, wanted = of_noise + tokens * 3;
    uint64_t bits = 0;
    for (int32_t i = 0; i < wanted; i++, bits >>= 16) {
        if (i % 4 == 0)
            bits = next_bits(generator);
        if (i < of_noise)
            noise[i] = quantiles[bits & 0xffff] * temperature;
        else
            uniforms[i - of_noise] = (float)(bits & 0xffff) / 65536.0f;
    }
}
