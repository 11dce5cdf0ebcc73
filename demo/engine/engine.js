// The engine: a model that reads what there is of a piece and draws tokens: engine/engine.py, in 8 bits.
import { InputError } from "./errors.js";
import { Kernel, Scratch, TOKEN_COLUMNS } from "./kernel.js";
import { Memories, futureFrom } from "./memory.js";
import { gumbelQuantiles } from "./noise.js";
import { LAGS, Slots } from "./slots.js";
import { NO_ONSET, NUM_KEYS, classesOf, onsetTicks } from "./tokens.js";

export const MAX_CONTEXT = 512; // tokens of past and of future
const EDGE_OF_PIECE = NUM_KEYS, CUT = NUM_KEYS + 1;

/** A name without accents and capitals. */
const plain = (name) => name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().trim();

/** Onsets counted from another tick, except those that never come. */
const fromTick = (onsets, tick) => onsets.map((onset) => (onset < NO_ONSET ? onset + tick : NO_ONSET));

export class Engine {
  #free = new Map();
  #reading;

  /** `files`: the bytes of kernel.wasm, the object of model.json, and the bytes of weights.bin.gz, unpacked. */
  static async load({ wasm, model, weights }) { return new Engine(await Kernel.load(wasm, model, weights), model); }

  constructor(kernel, model) {
    this.kernel = kernel;
    this.config = model.config;
    this.classes = model.classes;
    this.edges = model.edges;
    this.allClasses = Object.values(model.classes).reduce((sum, count) => sum + count, 0);
    this.#reading = new Scratch(kernel);
    this.quantiles = kernel.put(Float32Array, gumbelQuantiles());
  }

  get hasFuture() { return this.config.direction === "both"; }

  /** The class of a composer by name or a part of it; 0 without a name. */
  composer(name) {
    if (name === null) return 0;
    const { composers } = this.config, known = composers.map(plain), wanted = plain(name);
    const found = known.includes(wanted) ? [wanted] : known.filter((each) => wanted && each.includes(wanted));
    const alone = found.filter((each) => !each.includes("/"));
    for (const candidates of [found, alone]) if (candidates.length === 1) return known.indexOf(candidates[0]) + 1;
    if (!found.length) throw new InputError(`unknown composer '${name}'; choose one of the list`);
    const several = (alone.length ? alone : found).slice(0, 5).map((each) => composers[known.indexOf(each)]);
    throw new InputError(`composer '${name}' may be ${several.join(", ")}; say which`);
  }

  /** Slots for `size` pieces; `release` gives them back. */
  slots(size) { return this.#free.get(size)?.pop() ?? new Slots(this.kernel, size, this.allClasses); }

  release(slots) { this.#free.set(slots.size, [...(this.#free.get(slots.size) ?? []), slots]); }

  /** Tokens as the engine reads them; the first one marks the edge of the piece, or a cut. */
  #tokens(rows, onsets, edge, edgeTick) {
    const tokens = new Int32Array((1 + rows.length) * TOKEN_COLUMNS);
    tokens.set([0, edge, 0, 0, edgeTick, edgeTick]);
    rows.forEach((row, i) => {
      tokens.set([...classesOf(this.edges, row), onsets[i], onsets[i] + row[3]], (1 + i) * TOKEN_COLUMNS);
    });
    return tokens;
  }

  /** Read what comes before: token rows, none for the start of a piece. */
  readPast(rows, composer) {
    const onsets = onsetTicks(rows), memory = this.#remember(rows, onsets, this.config.memory).save(0);
    const recent_keys = new Int32Array(LAGS).fill(-1);
    rows.slice(-LAGS).reverse().forEach(([, key], i) => { recent_keys[i] = key; });
    const skipped = Math.max(0, rows.length - MAX_CONTEXT), read = rows.slice(skipped), ticks = onsets.slice(skipped);
    const before = read.length ? ticks[0] - read[0][0] : 0;
    const tokens = this.#tokens(read, ticks, skipped ? CUT : EDGE_OF_PIECE, before);
    const { states, contexts } = this.kernel.encode(tokens, composer, { backward: false });
    const [last_onset, last_release] = [0, 1].map(() => new Int32Array(NUM_KEYS).fill(-NO_ONSET));
    read.forEach(([, key, , duration], i) => {
      last_onset[key] = ticks[i];
      last_release[key] = ticks[i] + duration;
    });
    return {
      states, context: contexts, last_onset, last_release, memory, recent_keys, composer,
      now: ticks.at(-1) ?? before, lastKey: read.at(-1)?.[1] ?? -1,
    };
  }

  /** One memory of tokens whose ring has room for the last `ring` events; it holds until the next call. */
  #remember(rows, onsets, ring) {
    const memory = new Memories(this.kernel, 1, 0, ring, (...sizes) => this.#reading.take(...sizes));
    if (this.config.memory) this.kernel.remember(this.#tokens(rows, onsets, CUT, 0), memory);
    return memory;
  }

  /** What comes after a gap, of which the first `MAX_CONTEXT` tokens are read; `firstTick` is the first onset. */
  readFuture(rows, firstTick, composer) {
    const read = rows.slice(0, MAX_CONTEXT);
    const { contexts, nextOnsets } = this.#readBackward(read, composer, { cut: rows.length > MAX_CONTEXT, every: false });
    const { entries, firsts } = this.#futureEntries(read, 0);
    return {
      context: contexts, tick: firstTick, nextOnset: fromTick(nextOnsets[0], firstTick), entries, first: firsts[0],
    };
  }

  /** The end of a piece as a future: nothing comes after the last onset, at `lastTick`. */
  readEnd(lastTick, composer) {
    const { contexts } = this.kernel.encode(this.#tokens([], [], EDGE_OF_PIECE, 0), composer, { backward: true });
    const nextOnset = new Int32Array(NUM_KEYS).fill(NO_ONSET);
    return { context: contexts, tick: lastTick, nextOnset, entries: null, first: 0 };
  }

  /** The future from each token on; of the first `thinned` tokens each stands alone. */
  readFutures(rows, composer, { cut, thinned }) {
    const { contexts, nextOnsets } = this.#readBackward(rows, composer, { cut, every: true });
    const onsets = onsetTicks(rows), { entries, firsts } = this.#futureEntries(rows, thinned);
    const size = this.kernel.contextSize;
    return rows.map((_, i) => ({
      context: contexts.slice((rows.length - i) * size, (rows.length - i + 1) * size),
      tick: onsets[i], nextOnset: fromTick(nextOnsets[i], onsets[0]), entries, first: firsts[i],
    }));
  }

  /** Tokens `first` to `stop` of a piece as entries of a memory, with a bonus on their score. */
  recalled(rows, first, stop, bonus) {
    if (!this.config.memory) return null;
    return this.#remember(rows, onsetTicks(rows), rows.length).entriesOf(0).part(first, stop, bonus);
  }

  /** The entries of tokens after the `thinned` ones, and which is the first for each token. */
  #futureEntries(rows, thinned) {
    const whole = rows.slice(thinned);
    if (!this.config.memory || !whole.length) return { entries: null, firsts: Array(rows.length).fill(0) };
    const onsets = onsetTicks(whole), firsts = futureFrom(whole, onsets);
    const entries = this.#remember(whole, onsets, whole.length).entriesOf(0);
    return { entries, firsts: [...Array(thinned).fill(firsts[0]), ...firsts] };
  }

  /** The contexts in the order read, and each key's next onset at each token, the first token being at 0. */
  #readBackward(rows, composer, { cut, every }) {
    if (!this.hasFuture) {
      throw new InputError("this model has no backward stack and cannot read a future; use one trained with `both`");
    }
    const onsets = onsetTicks([[0], ...rows.slice(1)]).slice(0, rows.length), last = onsets.at(-1);
    // read backwards, a shift is the time to the token read before; the last token has none
    const backward = rows.map((row, i) => [rows[i + 1]?.[0] ?? 0, ...row.slice(1)]).reverse();
    const tokens = this.#tokens(backward, onsets.map((onset) => last - onset).reverse(), cut ? CUT : EDGE_OF_PIECE, 0);
    const { contexts } = this.kernel.encode(tokens, composer, { backward: true, every });
    const nextOnsets = Array(rows.length);
    let ahead = new Int32Array(NUM_KEYS).fill(NO_ONSET);
    for (let i = rows.length - 1; i >= 0; i--) {
      ahead = ahead.slice();
      ahead[rows[i][1]] = onsets[i];
      nextOnsets[i] = ahead;
    }
    return { contexts, nextOnsets };
  }
}
