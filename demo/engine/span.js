// The span to write, between a past and a future, and the options of drawing tokens: generation/span.py.
import { InputError, float } from "./errors.js";
import { strike } from "./keep.js";
import { LONGEST_SECONDS, Performance, join } from "./performance.js";
import { NUM_KEYS, TICKS_PER_SECOND, decode, encode } from "./tokens.js";
import { searchSorted } from "./tempo_map.js";

const LOWEST_TEMPERATURE = 0.01, MOST_NOTES_PER_SECOND = 100, MOST_RETURNS = 5;
const PEDAL_TAIL_SECONDS = 1, FINAL_PEDAL_SECONDS = 3;
const NULL_PER_RETURN = 0.04, MATCH_NATS_PER_RETURN = 1, HALF_A_TICK = 0.5 / TICKS_PER_SECOND;
const HABITUATION = [16, 0.15, 1 - 1 / 64]; // from which count on, nats, what a count keeps: engine/rules.py
export const LONGEST_REST_SECONDS = 4, LONGEST_REPEAT = 8;

/** The options of drawing tokens; their names are those of a request and, with dashes, of the command line. */
export class SamplingOptions {
  temperature = 1;
  top_p = 0.92;
  seed = null;
  composer = null;
  density = null;
  loudness = null;
  returns = 1;

  constructor(given = {}) {
    for (const [name, value] of Object.entries(given)) if (value !== null) this[name] = value;
    this.#check();
  }

  #check() {
    const { temperature, top_p, density, loudness, returns } = this;
    if (!(temperature >= LOWEST_TEMPERATURE && temperature <= 10)) {
      throw new InputError(
        `\`temperature\` must be ${LOWEST_TEMPERATURE} to 10, not ${float(temperature)}: near 0 the likeliest note is taken ` +
        "every time, and a recurrent model then repeats itself endlessly; try 0.8 for calmer music",
      );
    }
    if (!(top_p > 0 && top_p <= 1)) throw new InputError(`\`top_p\` must be above 0 and at most 1, not ${float(top_p)}`);
    if (density !== null && !(density > 0 && density <= MOST_NOTES_PER_SECOND)) {
      throw new InputError(
        `\`density\` must be above 0 and at most ${MOST_NOTES_PER_SECOND} notes a second, not ${float(density)}`,
      );
    }
    if (loudness !== null && !(loudness >= 1 && loudness <= 127)) {
      throw new InputError(`\`loudness\` must be 1 to 127, a mean velocity, not ${float(loudness)}`);
    }
    if (!(returns >= -MOST_RETURNS && returns <= MOST_RETURNS)) {
      throw new InputError(`\`returns\` must be ${-MOST_RETURNS} to ${MOST_RETURNS}, not ${float(returns)}`);
    }
  }

  /** The options as the engine takes them; `edges` are those of model.json. */
  drawing(edges) {
    const classOf = (name) => (this[name] === null ? 0 : 1 + searchSorted(edges[name], this[name], "right"));
    return {
      temperature: this.temperature, topP: this.top_p, density: classOf("density"), loudness: classOf("loudness"),
      nullFactor: 1 - NULL_PER_RETURN * this.returns, matchNats: MATCH_NATS_PER_RETURN * this.returns,
      habituation: HABITUATION,
    };
  }

  withSeed(seed) { return new SamplingOptions({ ...this, seed }); }
}

/** Options that differ in their seeds, which follow one another. */
export function variations(options, count) {
  const seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  return Array.from({ length: count }, (_, i) => options.withSeed(seed + i));
}

/** Events whose onsets lie in [start, end) seconds, between a past and a future. */
export class Span {
  constructor(past, future, start, end, { kept = new Performance(), closes = false, recall = null } = {}) {
    this.past = past;
    this.future = future;
    this.start = start;
    this.end = end;
    this.kept = kept;
    this.closes = closes;
    this.recall = recall;
  }

  with(fields) { return Object.assign(new Span(this.past, this.future, this.start, this.end, this), fields); }

  /** The places of the kept notes among the tokens, tick · NUM_KEYS + key. */
  get keptPlaces() {
    let tick = 0;
    return new Set(encode(this.kept).map(([shift, key]) => (tick += shift) * NUM_KEYS + key));
  }

  /** The whole piece, given the tokens that a `Writer` gave and its first tick. */
  filled(rows, firstTick) {
    const { past, future, kept } = this;
    let { tempoMap, source } = [past, future].find((part) => part.source || part.hasEvents) ?? past;
    let written = decode(this.#withoutKept(rows, firstTick), tempoMap);
    if (!source && ![past, future, kept].some((part) => part.notes.length)) return this.#withPedalsEnded(written);
    if (source) {
      const end = future.hasEvents ? this.end : LONGEST_SECONDS; // what the file has there is gone
      written = until(source.firstMessages(end), withinTicks(written, this.start, this.end));
      source = source.withRewritten(this.start, end);
    }
    written = clearOf(cutBy(written, kept), future);
    const again = new Performance([], this.#pedalsAfter(written));
    return this.#withPedalsEnded(join([past, written, kept, again, future]).with({ tempoMap, source }));
  }

  /** Tokens with shifts from tick 0, without those of the kept notes: these come back as they were. */
  #withoutKept(rows, firstTick) {
    const places = this.keptPlaces, found = [];
    let tick = firstTick, last = 0;
    for (const [shift, key, ...values] of rows) {
      tick += shift;
      if (places.has(tick * NUM_KEYS + key)) continue;
      found.push([tick - last, key, ...values]);
      last = tick;
    }
    return found;
  }

  /** The presses of the past that last into the future, from there on, where a written one came between. */
  #pedalsAfter(written) {
    if (!this.future.notes.length) return [];
    return heldOver(this.past.pedals, this.end).filter(([, , pedal]) => written.pedals.some((press) => press[2] === pedal));
  }

  /** Let the written pedals end with the piece, or the span. */
  #withPedalsEnded(whole) {
    if (!whole.notes.length || !whole.pedals.length) return whole;
    const last = whole.notes.reduce((end, [onset, duration]) => Math.max(end, onset + duration), 0);
    const end = this.future.hasEvents ? Math.min(last, this.end) + PEDAL_TAIL_SECONDS : last + FINAL_PEDAL_SECONDS;
    const pedals = whole.pedals.map(([onset, duration, ...press]) => {
      const isWritten = onset >= this.start && onset < this.end;
      return [onset, isWritten ? Math.min(duration, end - onset) : duration, ...press];
    });
    return whole.with({ pedals: pedals.filter(([, duration]) => duration > 0) });
  }
}

/** A performance without the notes that begin when and on the key that one of `notes` does. */
export function withoutNotes(performance, notes) {
  const left = new Set(notes.map(strike));
  return performance.with({ notes: performance.notes.filter((note) => !left.has(strike(note))) });
}

/** What is left of pedal presses from a second on: of those that begin before it and last longer. */
export function heldOver(pedals, second) {
  return pedals
    .filter(([onset, duration]) => onset < second && onset + duration > second + 1 / TICKS_PER_SECOND)
    .map(([onset, duration, ...press]) => [second, duration - (second - onset), ...press]);
}

/** What was written, its notes ending where a kept note strikes their key. */
function cutBy(written, kept) {
  const notes = written.notes.map((note) => {
    const [onset, duration, pitch, velocity] = note;
    const following = kept.notes.find((other) => other[2] === pitch && other[0] >= onset)?.[0] ?? Infinity;
    return [onset, Math.min(duration, following - onset), pitch, velocity];
  });
  return written.with({ notes: notes.filter(([, duration]) => duration > HALF_A_TICK) });
}

/** What was written, its pedals let go at a second for each pedal. */
function until(seconds, written) {
  const pedals = written.pedals.map(([onset, duration, pedal, depth]) =>
    [onset, Math.min(duration, seconds[pedal] - onset), pedal, depth]);
  return written.with({ pedals });
}

/** What was written without events that the future's next one on their key leaves no time to sound. */
function clearOf(written, future) {
  const [notes, pedals] = ["notes", "pedals"].map((kind) => {
    const first = new Map();
    for (const [onset, , key] of future[kind]) first.set(key, Math.min(onset, first.get(key) ?? Infinity));
    return written[kind].filter(([onset, , key]) => (first.get(key) ?? Infinity) - onset > HALF_A_TICK);
  });
  return written.with({ notes, pedals });
}

/** A performance whose onsets are nearest to ticks of its tempo map in [start, end) seconds: music/splice.py. */
function withinTicks(performance, start, end) {
  const { tempoMap } = performance, low = tempoMap.firstTickFrom(start), high = tempoMap.firstTickFrom(end) - 1;
  const moved = (events) => events.map(([onset, ...values]) => {
    const tick = tempoMap.toTicks(onset), nearest = Math.min(Math.max(tick, low), high);
    return [tick === nearest ? onset : tempoMap.toSeconds(nearest), ...values];
  });
  if (low > high) return performance.with({ notes: [], pedals: [] });
  return performance.with({ notes: moved(performance.notes), pedals: moved(performance.pedals) });
}
