/* The contract between the compiled engine and whoever calls it (kernel.py; a page, by wasm).
 *
 * The caller gives a bundle's tensors in the order of `model/pack.py: layout`, checked for type, shape and finite
 * values, and all memory: nothing is allocated here, no library is called, nothing global is written. So any number of
 * threads may use one model at once, each with its own slots and scratch memory.
 *
 * Shapes: N slots (pieces that are written side by side), K keys and pedals, H units of a forward layer, L its layers,
 * R rows of state a slot (2 L for an LSTM, else L), D units of a head, C of the context (2 D if the model has a backward
 * stack, else D), A classes of all four fields together, E entries of a memory. Times are ticks of 10 ms; `NO_ONSET` is a
 * tick that never comes.
 */
#ifndef MUSIC_GENERATOR_KERNEL_H
#define MUSIC_GENERATOR_KERNEL_H
#include <stdint.h>

#define CONTRACT_VERSION 3 /* raised with every change below; kernel.py compares it and the sizes of the structs */
#define NO_ONSET 1000000000

enum { SHIFT, KEY, VELOCITY, DURATION, FIELDS };
enum { LSTM, GRU, RNN };
enum { INT8, FLOAT32 };

/* The shape of every memory: see model/config.py, whose numbers these are. */
enum {
    EVENT_HEADS = 4, GROUP_HEADS = 2, MEMORY_HEADS = 6, FINGERPRINT = 64, VALUE = 64, EVENT_TAPS = 8, GROUP_TAPS = 6,
    GROUP_TICKS = 3, INTERVAL_REACH = 48, ROLL_CENTRE = 45, LOW_BEFORE = 60, ENTRY_COLUMNS = 8, LAGS = 1024,
    HABITUATION_LAGS = 256, MATCH_TOKENS = 4, LEAST_MATCH_LAG = 25, SHIFT_REACH = 4
};

/* What a model is. */
typedef struct {
    int32_t precision, cell, has_backward;
    int32_t forward_layers, forward_units, backward_layers, backward_units, head_units;
    int32_t composers, num_keys, num_pedals; /* the pedals are the last of the keys */
    int32_t classes[FIELDS], input_classes[FIELDS];
    int32_t time_bins;                    /* of a time to go; the class after them: there is no future */
    int32_t has_memory, is_steered;
    int32_t recency_ticks, release_ticks; /* in which the memory of a key, and of its coming release, fades by e */
} Config;

/* A token as a stack reads it: classes of the fields, and when its key is struck and released. */
typedef struct {
    int32_t classes[FIELDS];
    int32_t onset, release;
} Token;

/* A token that is drawn, or that must be drawn: its classes, its shift and its duration in ticks. */
typedef struct {
    int32_t classes[FIELDS];
    int32_t shift_ticks, duration_ticks;
} Drawn;

/* How far the writing of a span has come: see generation/rules.py, which has the same fields and says what they mean. */
typedef struct {
    int32_t now, last_key, start, end, last_note, next_note, longest_rest;
    int32_t repeated_key, repeats, future_key, future_repeats, longest_repeat;
    int32_t notes_left, kept_key, done, place;
} SpanState;

/* How far a memory has come: see engine/memory.py. */
typedef struct {
    int32_t written, fixed_from, fixed_to, last_key, last_note, low, below, below_two;
} MemoryState;

/* N memories of E = fixed + ring entries: see engine/memory.py, which has the same arrays and says what they hold. */
typedef struct {
    void *fingerprints;   /* (N, MEMORY_HEADS, E / 32, FINGERPRINT / 4, 32, 4) int8, or (…, FINGERPRINT, 32) float */
    int32_t *sums;        /* (N, MEMORY_HEADS, E) */
    uint8_t *events;      /* (N, E, ENTRY_COLUMNS) */
    float *bonus;         /* (N, fixed) */
    float *pending;       /* (N, …) */
    MemoryState *state;   /* (N) */
    int32_t fixed, ring;  /* multiples of 32 */
} Memories;

/* The slots, an array of N rows for each fact. */
typedef struct {
    SpanState *span;                                 /* (N) */
    const int32_t *composer;                         /* (N) */
    const int32_t *has_future, *resume_tick;         /* (N), (N) the future's first onset */
    int32_t *last_onset, *last_release;              /* (N, K), (N, K) */
    const int32_t *next_onset;                       /* (N, K) in the future */
    float *states, *context;                         /* (N, R, H), (N, C) of the past */
    const float *future_context;                     /* (N, C) */
    const float *inverse_temperature, *top_p;        /* (N), (N) */
    const float *null_factor;                        /* (N) of the memory's score of nothing */
    const int32_t *density, *loudness;               /* (N), (N) classes, 0 if not told */
    int32_t *recent_keys;                            /* (N, LAGS), the latest first, -1 where there is none */
    float *lag_counts;                               /* (N, HABITUATION_LAGS) */
    int32_t *match_lengths;                          /* (N, LAGS) */
    const float *habituation;                        /* (N, 3): from which count on, nats, what a count keeps */
    const float *match_nats;                         /* (N) added to the key with which a match goes on */
    const float *noise, *uniforms;                   /* (N, block, A), (N, block, 3) */
    const Drawn *forced;                             /* (N), or null: the token is drawn */
    Drawn *drawn;                                    /* (N) */
    float *logits;                                   /* (N, A) before noise and constraints, or null */
    int32_t block;                                   /* tokens that there is noise for */
    Memories memory;
} Slots;

/* The exported functions, whose names end with the kind of vectors they are compiled for (`_avx2`, …).
 *
 * int64_t build(const Config *, const void *const *tensors, uint8_t *memory)
 *     Lay the model out in `memory`, aligned to 64 bytes, and return how many bytes that takes; null: count only.
 * int64_t encode_bytes(const void *model, int32_t count),
 * int64_t step_bytes(const void *model, int32_t slots, int32_t entries)
 *     Return how many bytes of scratch memory the next functions need.
 * void remember(const void *model, const Token *, int32_t count, const Memories *, int32_t slot)
 *     Take tokens into a memory; the first marks the beginning, at which the memory's ring is emptied.
 * void encode(const void *model, int32_t backward, const Token *, int32_t count, int32_t composer, int32_t every,
 *             float *states, float *contexts, uint8_t *scratch)
 *     Read `count` tokens in the order given: the past by the forward stack or the future, from its end, by the backward
 *     one. `states` (R, H) after the last; `contexts` (C) after the last, or (count, C) after `every` one.
 * void step(const void *model, const Slots *, int32_t first, int32_t count, int32_t commit, uint8_t *scratch)
 *     Draw the next token of the slots from `first` on, and, to `commit`, take it into their states.
 * int32_t write(const void *model, const Slots *, int32_t first, int32_t count, int32_t most, int32_t *rows,
 *               uint8_t *scratch)
 *     Write up to `most` tokens of each slot by the rules into `rows` (most, count, 4): shift, key, velocity, duration,
 *     key -1 where a slot is done. Return how many; it ends when all are done or one has used up its noise.
 * void fill_noise(Generator *, const float *quantiles, float temperature, int32_t classes, int32_t tokens, float *noise,
 *                 float *uniforms)
 *     Draw the random numbers of tokens, see noise.c; as WebAssembly only.
 * const int32_t *contract(void), int32_t best_vectors(void): without an ending. */
#endif
