// Slots: the pieces that are written side by side, as arrays in the kernel's memory: engine/slots.py.
import { TOKEN_COLUMNS } from "./kernel.js";
import { Memories } from "./memory.js";
import { NOISE_BLOCK_TOKENS, UNIFORMS } from "./noise.js";
import { NO_ONSET, NUM_KEYS } from "./tokens.js";

export const MAX_FIXED = 1024; // fixed entries of a memory: a future's, and a passage's to come back to
export const LAGS = 1024; // tokens, the longest distance at which a match is seen
const HABITUATION_LAGS = 256; // at which habituation sees a repetition
export const WRITING = 0, DONE = 1, INVALID = 2;

/** The fields of a span's state in their order, see engine/rules.py, and what they are where nothing else is said. */
const SPAN = {
  now: 0, last_key: -1, start: 0, end: NO_ONSET, last_note: 0, next_note: NO_ONSET, longest_rest: NO_ONSET, repeated_key: -1,
  repeats: 0, future_key: -1, future_repeats: 0, longest_repeat: NO_ONSET, notes_left: -1, kept_key: -1, done: WRITING,
  place: 0,
};
const SPAN_FIELDS = Object.keys(SPAN), PLACE_FIELD = SPAN_FIELDS.indexOf("place");

export const spanState = (fields) => ({ ...SPAN, ...fields });

const f32 = Float32Array, i32 = Int32Array;
const ARRAYS = (kernel, allClasses) => ({ // in the order of `Slots` in kernel.h
  span: [i32, SPAN_FIELDS.length], composer: [i32, 1], has_future: [i32, 1], resume_tick: [i32, 1],
  last_onset: [i32, NUM_KEYS], last_release: [i32, NUM_KEYS], next_onset: [i32, NUM_KEYS],
  states: [f32, kernel.config.forward_layers * kernel.stateRows * kernel.config.forward_size],
  context: [f32, kernel.contextSize], future_context: [f32, kernel.contextSize], inverse_temperature: [f32, 1],
  top_p: [f32, 1], null_factor: [f32, 1], density: [i32, 1], loudness: [i32, 1], recent_keys: [i32, LAGS],
  lag_counts: [f32, HABITUATION_LAGS], match_lengths: [i32, LAGS], habituation: [f32, 3], match_nats: [f32, 1],
  noise: [f32, NOISE_BLOCK_TOKENS * allClasses],
  uniforms: [f32, NOISE_BLOCK_TOKENS * UNIFORMS], forced: null, drawn: [i32, TOKEN_COLUMNS], logits: null,
});

export class Slots {
  #kernel;
  #arrays;
  #addresses = {};
  #forcedAt;

  constructor(kernel, size, allClasses) {
    this.#kernel = kernel;
    this.#arrays = ARRAYS(kernel, allClasses);
    for (const [name, array] of Object.entries(this.#arrays)) {
      this.#addresses[name] = array ? kernel.allocate(size * array[1] * array[0].BYTES_PER_ELEMENT) : 0;
    }
    this.size = size;
    const take = (...sizes) => sizes.map((bytes) => kernel.allocate(bytes));
    this.memory = new Memories(kernel, size, MAX_FIXED, kernel.config.memory, take);
    const fields = [...Object.values(this.#addresses), NOISE_BLOCK_TOKENS, ...this.memory.fields];
    if (4 * fields.length !== kernel.slotsBytes || 4 * SPAN_FIELDS.length !== kernel.spanBytes) {
      throw new Error("the slots are of another version than the kernel");
    }
    this.address = kernel.put(i32, fields);
    this.#forcedAt = this.address + 4 * Object.keys(this.#arrays).indexOf("forced");
  }

  addressOf(name, slot) {
    const [Type, length] = this.#arrays[name];
    return this.#addresses[name] + slot * length * Type.BYTES_PER_ELEMENT;
  }

  /** A slot's part of an array. */
  of(name, slot) {
    const [Type, length] = this.#arrays[name];
    return this.#kernel.view(Type, this.addressOf(name, slot), length);
  }

  /** The address of the slots with forced tokens at `forced`, without any at 0. */
  withForced(forced) {
    this.#kernel.view(i32, this.#forcedAt, 1)[0] = forced;
    return this.address;
  }

  /** Put a piece that has been read into a slot, to begin a span there. */
  attach(slot, past, span, drawing) {
    for (const name of ["states", "context", "last_onset", "last_release", "recent_keys"]) this.of(name, slot).set(past[name]);
    this.memory.restore(slot, past.memory);
    for (const name of ["lag_counts", "match_lengths"]) this.of(name, slot).fill(0);
    const numbers = {
      composer: past.composer, inverse_temperature: 1 / drawing.temperature, top_p: drawing.topP,
      density: drawing.density, loudness: drawing.loudness, null_factor: drawing.nullFactor,
      match_nats: drawing.matchNats,
    };
    for (const [name, value] of Object.entries(numbers)) this.of(name, slot)[0] = value;
    this.of("habituation", slot).set(drawing.habituation);
    this.setSpan(slot, span);
  }

  /** Give a slot a future, or another one, or none; `entries` stand in its memory. */
  setFuture(slot, future, entries) {
    this.of("has_future", slot)[0] = future ? 1 : 0;
    if (future) {
      this.of("future_context", slot).set(future.context);
      this.of("resume_tick", slot)[0] = future.tick;
      this.of("next_onset", slot).set(future.nextOnset);
    }
    this.memory.setFixed(slot, entries, future?.first);
  }

  /** Take the key of a token that was written into what is counted of a slot's keys: engine/rules.py. */
  countKey(slot, key) {
    const [recentKeys, lagCounts, matchLengths] = ["recent_keys", "lag_counts", "match_lengths"].map((name) => this.of(name, slot));
    const keep = this.of("habituation", slot)[2];
    lagCounts.forEach((count, lag) => { lagCounts[lag] = Math.fround(count * keep) + Number(recentKeys[lag] === key); });
    matchLengths.forEach((length, lag) => { matchLengths[lag] = recentKeys[lag] === key ? length + 1 : 0; });
    recentKeys.copyWithin(1, 0);
    recentKeys[0] = key;
  }

  setSpan(slot, span) { this.of("span", slot).set(SPAN_FIELDS.map((name) => span[name])); }

  spanOf(slot) {
    const values = this.of("span", slot);
    return Object.fromEntries(SPAN_FIELDS.map((name, i) => [name, values[i]]));
  }

  /** Give a slot that has used up its noise new one. */
  refill(slot, noise) {
    if (this.of("span", slot)[PLACE_FIELD] < NOISE_BLOCK_TOKENS) return;
    noise.fill(this, slot);
    this.of("span", slot)[PLACE_FIELD] = 0;
  }

  /** Copy what is in a slot into another one. */
  move(slot, to) {
    for (const [name, array] of Object.entries(this.#arrays)) if (array) this.of(name, to).set(this.of(name, slot));
    this.memory.move(slot, to);
  }
}
