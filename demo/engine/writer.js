// Writing a span token by token, several variations side by side: generation/writer.py.
import { MAX_CONTEXT } from "./engine.js";
import { InputError, float, general } from "./errors.js";
import { NoiseSource } from "./noise.js";
import { LONGEST_SECONDS, LOWEST_PITCH } from "./performance.js";
import { DONE, INVALID, WRITING, spanState } from "./slots.js";
import { LONGEST_REPEAT, LONGEST_REST_SECONDS, SamplingOptions } from "./span.js";
import { rint, searchSorted } from "./tempo_map.js";
import { KEYS, TICKS_PER_SECOND, classesOf, encode, onsetTicks } from "./tokens.js";

const FARTHEST_FUTURE_TICKS = 30 * TICKS_PER_SECOND; // that the model has been trained to write towards
const MAX_RECALLED = 512, RECALL_BONUS = 4;

/** Read the past and the future of a span: what writers of all seeds share. */
function readSpan(engine, span, options) {
  checkRequest(engine.config, span, options);
  const composer = engine.composer(options.composer), past = encode(span.past), future = encode(span.future);
  const read = engine.readPast(past, composer);
  holdPastKeys(read, span.past);
  const state = begin(span, read, past, future);
  return { past: read, state, gaps: planGaps(engine, span, state, future, composer), recalled: recalled(engine, span, past) };
}

/** Writers of a span, one for each of some options, which differ in their seeds. */
export function writersOf(engine, span, options) {
  const read = readSpan(engine, span, options[0]);
  return options.map((each) => new Writer(engine, read, each));
}

/** What writes a span with one seed; `firstTick` is what the first token's shift counts from. */
class Writer {
  #read;
  #nextGap = 0;

  constructor(engine, read, options) {
    this.engine = engine;
    this.options = options;
    this.firstTick = read.past.now;
    this.state = { ...read.state };
    this.#read = read;
    this.#beginGap();
  }

  /** Whether nothing more will be written. */
  get done() {
    const goesOn = this.state.done === DONE && this.state.notes_left !== 0;
    return this.state.done !== WRITING && (this.#nextGap === this.#read.gaps.length || !goesOn);
  }

  get #gap() { return this.#read.gaps[this.#nextGap - 1]; }

  /** Let the state be that of the next gap's beginning. */
  #beginGap() {
    const { gaps, state } = this.#read, isLast = ++this.#nextGap === gaps.length, { end, nextNote, kept } = this.#gap;
    Object.assign(this.state, { done: WRITING, end, kept_key: kept?.key ?? -1, next_note: nextNote });
    this.state.future_key = isLast ? state.future_key : -1; // what the future begins with matters only before it
    this.state.future_repeats = isLast ? state.future_repeats : 0;
  }

  /** Begin to write in a slot; its noise. */
  attach(slots, slot) {
    const { engine, options } = this;
    const noise = new NoiseSource(engine, options.seed, options.temperature);
    slots.attach(slot, this.#read.past, this.state, options.drawing(engine.edges));
    noise.fill(slots, slot);
    this.#setFuture(slots, slot);
    return noise;
  }

  /** Give the slot the present gap's future, and the passage to come back to. */
  #setFuture(slots, slot) {
    const { future } = this.#gap, ahead = future?.entries ?? null, { recalled: passage } = this.#read;
    slots.setFuture(slot, future, ahead && passage ? ahead.followedBy(passage) : ahead ?? passage);
  }

  /** Take the kept note with which the present gap ends into the slot, if there is one, and begin the next gap; its rows. */
  goOn(slots, slot) {
    const { kept } = this.#gap, rows = kept ? [this.#take(slots, slot, kept)] : [];
    this.#beginGap();
    slots.setSpan(slot, this.state);
    this.#setFuture(slots, slot);
    return rows;
  }

  /** Take a kept note into a slot; its row. */
  #take(slots, slot, { onset, key, velocity, duration, release }) {
    const { state } = this, row = [onset - state.now, key, velocity, duration];
    slots.setSpan(slot, state);
    this.engine.kernel.force(slots, slot, [...classesOf(this.engine.edges, row), row[0], duration]);
    slots.of("last_release", slot)[key] = release;
    slots.countKey(slot, key);
    const repeats = key === state.repeated_key ? state.repeats + 1 : 1;
    Object.assign(state, { now: onset, last_key: key, last_note: onset, repeats, repeated_key: key });
    return row;
  }
}

/** Writers side by side: they use the first slots; when one leaves, the last one moves to its slot. */
export class BatchWriter {
  #engine;
  #slots;
  #writers = [];
  #noise = [];

  constructor(engine, writers) {
    this.#engine = engine;
    this.#slots = engine.slots(writers.length);
    writers.forEach((writer, slot) => {
      this.#noise.push(writer.attach(this.#slots, slot));
      this.#writers.push(writer);
    });
  }

  get length() { return this.#writers.length; }

  /** Give the slots back. */
  close() { this.#engine.release(this.#slots); }

  /** Write a token of each writer: [writer, rows] of each; those that are done then have left. */
  step() {
    const writers = [...this.#writers], slots = this.#slots;
    const written = this.#engine.kernel.write(slots, writers.length, 1);
    writers.forEach((writer, slot) => {
      slots.refill(slot, this.#noise[slot]);
      writer.state = slots.spanOf(slot);
      if (writer.state.done === INVALID) throw invalidToken(writer);
      while (writer.state.done && !writer.done) written[slot].push(...writer.goOn(slots, slot));
    });
    for (let slot = writers.length - 1; slot >= 0; slot--) if (writers[slot].done) this.#remove(slot);
    return writers.map((writer, slot) => [writer, written[slot]]);
  }

  #remove(slot) {
    const writer = this.#writers.pop(), noise = this.#noise.pop();
    if (slot === this.length) return;
    this.#slots.move(this.length, slot);
    [this.#writers[slot], this.#noise[slot]] = [writer, noise];
  }
}

const invalidToken = (writer) => new Error(
  `the model produced an invalid token after ${(writer.state.now / TICKS_PER_SECOND).toFixed(2)} s; it is damaged or from ` +
  "another version",
);

/** The gaps that a span is written in: up to each kept note, and the rest. */
function planGaps(engine, span, state, future, composer) {
  const notes = keptNotes(span.kept), futures = notes.length ? keptFutures(engine, encode(span.kept), future, composer) : [];
  const wanted = notes.map((kept, i) => ({ end: kept.onset + 1, nextNote: kept.onset, future: futures[i], kept }));
  let last = null;
  if (future.length) last = notes.length ? futures.at(-1) : engine.readFuture(future, future[0][0], composer);
  else if (engine.hasFuture && (span.closes || notes.length)) last = engine.readEnd(state.end - 1, composer);
  wanted.push({ end: state.end, nextNote: state.next_note, future: last, kept: null });
  return splitLong(wanted, Math.max(state.now, state.start));
}

/** The gaps with long ones as two, the first of them without a future. */
function splitLong(wanted, start) {
  const gaps = [];
  for (const gap of wanted) {
    const near = gap.end - FARTHEST_FUTURE_TICKS;
    if (gap.future && near > start) gaps.push({ end: near, nextNote: near, future: null, kept: null });
    gaps.push(gap);
    start = gap.end;
  }
  return gaps;
}

/** Kept notes as tokens; `release` is the first tick at which the key may be struck again. */
function keptNotes(kept) {
  const lastRelease = new Map();
  for (const note of kept.notes) {
    const place = `${rint(note[0] * TICKS_PER_SECOND)} ${note[2] - LOWEST_PITCH}`;
    lastRelease.set(place, Math.max(releaseTick(note), lastRelease.get(place) ?? -Infinity));
  }
  let onset = 0;
  return encode(kept).map(([shift, key, velocity, duration]) => {
    onset += shift;
    return { onset, key, velocity, duration, release: Math.max(lastRelease.get(`${onset} ${key}`), onset + duration) };
  });
}

/** What comes from each kept note on, and from the end of the span on if there is a future. */
function keptFutures(engine, kept, future, composer) {
  const after = future.slice(0, MAX_CONTEXT), last = onsetTicks(kept).at(-1);
  if (after.length) after[0] = [after[0][0] - last, ...after[0].slice(1)];
  const futures = engine.readFutures([...kept, ...after], composer, { cut: future.length > MAX_CONTEXT, thinned: kept.length });
  return futures.slice(0, kept.length + (after.length > 0));
}

/** The passage that the music shall come back to, as entries of a memory. */
function recalled(engine, span, past) {
  if (!span.recall) return null;
  const onsets = onsetTicks(past), [first, last] = span.recall;
  const [low, high] = [first, last].map((seconds) => searchSorted(onsets, seconds * TICKS_PER_SECOND));
  if (low === high) {
    throw new InputError(`the passage to come back to, from ${float(first)} to ${float(last)} s, has no notes`);
  }
  return engine.recalled(past, low, Math.min(high, low + MAX_RECALLED), RECALL_BONUS);
}

/** The state of a span before its first token, given the tokens of past and future. */
function begin(span, read, past, future) {
  const start = Math.max(firstTickFrom(span.start), read.now), end = firstTickFrom(span.end);
  const isNote = ([, key]) => key < KEYS, ticks = onsetTicks(past), last = past.findLastIndex(isNote);
  const longest_rest = Math.floor(LONGEST_REST_SECONDS * TICKS_PER_SECOND + 1e-6);
  const state = spanState({
    now: read.now, last_key: read.lastKey, start, end, last_note: last < 0 ? start : ticks[last], next_note: end,
    longest_rest, longest_repeat: LONGEST_REPEAT,
  });
  [state.repeated_key, state.repeats] = repeatsAtEnd(past.filter(isNote));
  const next = future.findIndex(isNote);
  if (next >= 0) {
    [state.future_key, state.future_repeats] = repeatsAtEnd(future.filter(isNote).reverse());
    const tick = onsetTicks(future)[next];
    if (tick - longest_rest < end) state.next_note = tick; // else the rest after the span is too long by itself
  }
  return state;
}

/** The last key of some notes and how often it came in a row. */
function repeatsAtEnd(notes) {
  if (!notes.length) return [-1, 0];
  const key = notes.at(-1)[1];
  return [key, notes.length - 1 - notes.findLastIndex((note) => note[1] !== key)];
}

/** Keep keys from being struck while the past holds them, however old the onset is. */
function holdPastKeys(read, { notes, pedals }) {
  for (const [events, first] of [[notes, -LOWEST_PITCH], [pedals, KEYS]]) {
    for (const event of events) {
      const key = event[2] + first;
      read.last_release[key] = Math.max(read.last_release[key], releaseTick(event));
    }
  }
}

/** The first tick at or after the release of an event. */
function releaseTick([onset, duration]) {
  const tick = Math.ceil((onset + duration) * TICKS_PER_SECOND - 1e-6);
  return tick / TICKS_PER_SECOND - onset < duration ? tick + 1 : tick;
}

/** The first tick at or after a second. */
function firstTickFrom(seconds) {
  const tick = Math.ceil(seconds * TICKS_PER_SECOND - 1e-6);
  return tick / TICKS_PER_SECOND < seconds ? tick + 1 : tick;
}

/** Check that a span fits its past and future, and that a model can do what is asked for. */
export function checkRequest(config, span, options) {
  checkSpan(span);
  const check = (holds, message) => { if (!holds) throw new InputError(`this model ${message}`); };
  const hasFuture = config.direction === "both";
  check(hasFuture || !span.kept.notes.length, "has no backward stack and cannot keep notes; use one trained with `both`");
  const cannotRecall = "has no memory and cannot come back to a passage; use another, or leave `recall` out";
  check(config.memory || !span.recall, cannotRecall);
  const isStandard = options.returns === new SamplingOptions().returns;
  check(config.memory || isStandard, "has no memory and returns to nothing; use another, or leave `returns` out");
  for (const name of ["density", "loudness"]) {
    check(config.steered || options[name] === null, `cannot be told a ${name}; use another, or leave \`${name}\` out`);
  }
}

function checkSpan({ past, future, start, end, kept, recall }) {
  if (recall && !(recall[0] >= 0 && recall[0] < recall[1] && recall[1] <= start)) {
    throw new InputError(
      "the passage to come back to must lie before the music that is written, which begins at " +
      `${general(start)} s, not from ${general(recall[0])} to ${general(recall[1])} s`,
    );
  }
  const span = `${float(start)} to ${float(end)} s`, all = (part) => [...part.notes, ...part.pedals];
  if (!kept.notes.every(([onset]) => onset >= start && onset < end)) {
    throw new InputError(`kept notes must begin in the span to write, from ${span}`);
  }
  if (end > LONGEST_SECONDS) {
    throw new InputError(`the span to write must end within ${LONGEST_SECONDS / 3600} hours, not at ${float(end)} s`);
  }
  if (!all(past).every(([onset]) => onset < start)) {
    throw new InputError(`the past must begin before the span to write, at ${float(start)} s`);
  }
  if (!all(future).every(([onset]) => onset >= end)) {
    throw new InputError(`the future must not begin before the end of the span to write, at ${float(end)} s`);
  }
}
