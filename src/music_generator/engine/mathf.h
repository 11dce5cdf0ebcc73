/* Elementwise functions in float32, the same bits on every processor: no contraction, no library call, no reordered sum.
 * reference.py has the same ones, operation by operation. */
#define MIN_EXPONENT -80.0f /* far below, numbers are denormal, and an operation takes hundreds of cycles */

static inline float clamp(float x, float low, float high) /* low where x is not a number */
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

static inline float round_even(float x) /* to the nearest whole number, halves to even; |x| < 2^22 */
{
    return (x + 12582912.0f) - 12582912.0f;
}

/* e^x: Cody & Waite's reduction and the polynomial of Cephes' expf (S. L. Moshier), within 2 units of the last digit. */
static inline float exponential(float x)
{
    x = clamp(x, -87.0f, 88.0f);
    float n = round_even(x * 1.44269504088896341f);
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

/* e^(ticks * rate) for ticks that lie at or below 0. */
static inline float fade(int32_t ticks, float rate)
{
    return exponential(clamp((float)ticks * rate, MIN_EXPONENT, 0.0f));
}

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + exponential(-x));
}

static inline float hyperbolic_tangent(float x)
{
    return 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f;
}

/* x times the normal distribution up to x; erf by Abramowitz & Stegun 7.1.26, within 1.5e-7. */
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

/* The natural logarithm of a normal positive number: the polynomial of Cephes' logf (S. L. Moshier). */
static inline float logarithm(float x)
{
    union {
        float value;
        int32_t bits;
    } parts = {x};
    float exponent = (float)((parts.bits >> 23) - 126);
    parts.bits = (parts.bits & 0x007fffff) | 0x3f000000; /* in [0.5, 1) */
    float m = parts.value;
    int small = m < 0.707106781186547524f;
    exponent = exponent - (small ? 1.0f : 0.0f);
    m = (small ? m + m : m) - 1.0f;
    float z = m * m, y = m * 7.0376836292e-2f;
    y = (y + -1.1514610310e-1f) * m;
    y = (y + 1.1676998740e-1f) * m;
    y = (y + -1.2420140846e-1f) * m;
    y = (y + 1.4249322787e-1f) * m;
    y = (y + -1.6668057665e-1f) * m;
    y = (y + 2.0000714765e-1f) * m;
    y = (y + -2.4999993993e-1f) * m;
    y = (y + 3.3333331174e-1f) * m * z;
    y = y + exponent * -2.12194440e-4f;
    y = y - 0.5f * z;
    y = y + m;
    return y + exponent * 0.693359375f;
}

static inline float total_of(const float *values, int count) /* added one after another */
{
    float total = values[0];
    for (int i = 1; i < count; i++)
        total += values[i];
    return total;
}

static void add(float *restrict sum, const float *restrict term, int count)
{
    for (int i = 0; i < count; i++)
        sum[i] += term[i];
}

static int largest(const float *values, int count) /* the first of the largest */
{
    int best = 0;
    for (int i = 1; i < count; i++)
        best = values[i] > values[best] ? i : best;
    return best;
}

static inline int max_int(int a, int b)
{
    return a > b ? a : b;
}

static inline int min_int(int a, int b)
{
    return a < b ? a : b;
}
