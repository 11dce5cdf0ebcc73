/* What the next token may be: engine/rules.py rule by rule, where each is explained. */
#define NEVER NO_ONSET
#define LEAST_CHANCE 1e-9f /* model/config.py */

typedef struct {
    int32_t earliest, latest; /* shift in ticks */
    int32_t may_resume;
} Constraints;

/* How often the last pitch may come in a row, less how often the future begins with it. */
static int32_t repeat_limit(const SpanState *span)
{
    int joins = span->repeated_key == span->future_key && span->future_repeats < span->longest_repeat;
    return joins ? span->longest_repeat - span->future_repeats : span->longest_repeat;
}

static void begin_at_span_start(const SpanState *span, Constraints *constraints)
{
    constraints->earliest = max_int(0, span->start - span->now);
}

static void end_before_span_end(const SpanState *span, int has_future, Constraints *constraints)
{
    if (has_future)
        constraints->latest = min_int(constraints->latest, span->end - 1 - span->now);
}

/* -> whether only a note, no pedal, may come now */
static int keep_rests_short(const SpanState *span, int has_future, Constraints *constraints)
{
    int32_t room = span->end - 1 - span->now, due = span->last_note + span->longest_rest - span->now;
    int unfinished = has_future && span->now + due < span->next_note;
    if (unfinished)
        due = min_int(due, room);
    constraints->may_resume = has_future && !unfinished;
    constraints->latest = min_int(constraints->latest, max_int(1, due - 1));
    return due <= 1;
}

static void keep_held_keys_down(const int32_t *last_release, int keys, int32_t *free_from)
{
    for (int key = 0; key < keys; key++)
        free_from[key] = last_release[key];
}

static void keep_keys_in_order(const SpanState *span, int32_t *free_from)
{
    for (int key = 0; key <= span->last_key; key++)
        free_from[key] = max_int(free_from[key], span->now + 1);
}

static void keep_repeats_short(const SpanState *span, int32_t *free_from)
{
    if (span->repeats >= repeat_limit(span))
        free_from[span->repeated_key] = NEVER;
}

/* Only lower keys may be struck in the tick of the kept note, or none if none is free; the gap may then be over. */
static void come_before_kept_note(const SpanState *span, const int32_t *free_from, Constraints *constraints)
{
    if (span->kept_key < 0)
        return;
    for (int key = 0; key < span->kept_key; key++)
        if (free_from[key] < span->end)
            return;
    constraints->latest = min_int(constraints->latest, span->end - 2 - span->now);
    constraints->may_resume |= constraints->latest < constraints->earliest;
}

/* The lowest key that may not be struck at a tick because a kept note comes first. */
static int too_high(const SpanState *span, int keys, int32_t onset)
{
    return span->kept_key >= 0 && onset == span->end - 1 ? span->kept_key : keys;
}

/* Count a token's key at all lags and make it the latest of the recent ones. */
static void count_key(const Slots *slots, int64_t slot, int32_t key)
{
    int32_t *recent_keys = slots->recent_keys + slot * LAGS, *match_lengths = slots->match_lengths + slot * LAGS;
    float *lag_counts = slots->lag_counts + slot * HABITUATION_LAGS, keep = slots->habituation[slot * 3 + 2];
    for (int lag = 0; lag < HABITUATION_LAGS; lag++) {
        lag_counts[lag] *= keep;
        lag_counts[lag] += recent_keys[lag] == key ? 1.0f : 0.0f;
    }
    for (int lag = 0; lag < LAGS; lag++)
        match_lengths[lag] = recent_keys[lag] == key ? match_lengths[lag] + 1 : 0;
    for (int lag = LAGS - 1; lag > 0; lag--)
        recent_keys[lag] = recent_keys[lag - 1];
    recent_keys[0] = key;
}

/* Take off the logit of each key what habituation says; `taken` (keys). */
static void tire(const int32_t *recent_keys, const float *lag_counts, const float *habituation, int keys, float *taken,
                 float *logits)
{
    for (int key = 0; key < keys; key++)
        taken[key] = 0.0f;
    for (int lag = 0; lag < HABITUATION_LAGS; lag++)
        if (lag_counts[lag] > habituation[0] && recent_keys[lag] >= 0) {
            float nats = (lag_counts[lag] - habituation[0]) * habituation[1];
            int key = recent_keys[lag];
            taken[key] = nats > taken[key] ? nats : taken[key];
        }
    for (int key = 0; key < keys; key++)
        logits[key] = logits[key] - taken[key];
}

/* The sum of each value and its neighbours, the nearer with the greater weight. */
static void sum_neighbourhoods(const float *restrict values, int count, float *restrict sums)
{
    for (int i = 0; i < count; i++)
        sums[i] = 0.0f;
    for (int away = -SHIFT_REACH; away <= SHIFT_REACH; away++) {
        const float weight = (float)(SHIFT_REACH + 1 - (away < 0 ? -away : away));
        for (int i = max_int(0, -away); i < count - max_int(0, away); i++)
            sums[i] = sums[i] + weight * values[i + away];
    }
}

/* Make each peak of the distribution of the times from one group to the next narrower; `line` has room for 3 times `count`. */
static void sharpen_times(float *logits, int count, float *line)
{
    float *chances = line, *squares = line + count, *sums = line + 2 * count, most = logits[largest(logits, count)];
    for (int i = 0; i < count; i++) {
        float chance = exponential(logits[i] - most);
        chances[i] = chance > LEAST_CHANCE ? chance : LEAST_CHANCE;
    }
    sum_neighbourhoods(chances, count, sums);
    for (int i = 0; i < count; i++) {
        squares[i] = chances[i] * chances[i];
        chances[i] = squares[i] / sums[i];
    }
    sum_neighbourhoods(chances, count, sums);
    for (int i = 0; i < count; i++)
        logits[i] = logarithm(squares[i] / sums[i]) + most;
}

/* The key that came next where the longest match is, the latest of several; -1 if none is long enough. */
static int32_t returning_key(const int32_t *recent_keys, const int32_t *match_lengths)
{
    int32_t longest = 0, lag = LEAST_MATCH_LAG - 1;
    for (int i = lag; i < LAGS; i++)
        longest = max_int(longest, match_lengths[i]);
    if (longest < MATCH_TOKENS)
        return -1;
    while (match_lengths[lag] != longest)
        lag++;
    return recent_keys[lag];
}

/* The shift waits until a key is free, if need be past `latest`. */
static void wait_for_a_key(const SpanState *span, int keys, const int32_t *free_from, Constraints *constraints)
{
    int32_t soonest = NEVER;
    for (int key = 0; key < keys; key++)
        soonest = min_int(soonest, free_from[key]);
    constraints->earliest = max_int(constraints->earliest, soonest - span->now);
    constraints->latest = max_int(constraints->latest, constraints->earliest);
}

/* The constraints of a slot's next shift, and `free_from` (K): the first tick at which each key may be struck. */
static Constraints constrain(const Model *model, const Slots *slots, int64_t slot, int32_t *free_from)
{
    const int keys = model->config.num_keys;
    const SpanState *span = &slots->span[slot];
    Constraints constraints = {0, NEVER, 0};
    begin_at_span_start(span, &constraints);
    int note_is_due = keep_rests_short(span, slots->has_future[slot], &constraints);
    end_before_span_end(span, slots->has_future[slot], &constraints);
    keep_held_keys_down(slots->last_release + slot * keys, keys, free_from);
    keep_keys_in_order(span, free_from);
    keep_repeats_short(span, free_from);
    for (int key = keys - model->config.num_pedals; note_is_due && key < keys; key++)
        free_from[key] = NEVER;
    wait_for_a_key(span, keys, free_from, &constraints);
    come_before_kept_note(span, free_from, &constraints);
    return constraints;
}
