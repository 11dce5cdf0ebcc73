// The memories of pieces that are written side by side: engine/memory.py, in 8 bits.
import { KEYS, NO_ONSET } from "./tokens.js";
import { searchSorted } from "./tempo_map.js";

const HEADS = 6, FINGERPRINT = 64, ENTRY_COLUMNS = 8, TILE = 32, GROUP = 4; // kernel.h
const EVENT_TAPS = 8, GROUP_TAPS = 6, GROUP_TICKS = 3, PENDING = EVENT_TAPS * 4 * FINGERPRINT + (GROUP_TAPS + 1) * 2 * FINGERPRINT;
const STATE_COLUMNS = 8, FIXED_FROM = 1, FIXED_TO = 2; // of MemoryState
export const MEMORY_FIELDS = 8; // of Memories

/** Events that stand in a memory beside those of its ring, in order of time. */
export class Entries {
  /** `fingerprints` (heads, n, units) int8; `events` (n, 8) uint8; `bonus` (n) float32. */
  constructor(fingerprints, events, bonus) {
    this.fingerprints = fingerprints;
    this.events = events;
    this.bonus = bonus;
  }

  get length() { return this.bonus.length; }

  fingerprintsOf(head, first, stop) {
    const at = head * this.length;
    return this.fingerprints.subarray((at + first) * FINGERPRINT, (at + stop) * FINGERPRINT);
  }

  followedBy(other) {
    const count = this.length + other.length, joined = Entries.empty(count);
    for (let head = 0; head < HEADS; head++) {
      const at = head * count;
      joined.fingerprints.set(this.fingerprintsOf(head, 0, this.length), at * FINGERPRINT);
      joined.fingerprints.set(other.fingerprintsOf(head, 0, other.length), (at + this.length) * FINGERPRINT);
    }
    joined.events.set(this.events);
    joined.events.set(other.events, this.events.length);
    joined.bonus.set(this.bonus);
    joined.bonus.set(other.bonus, this.length);
    return joined;
  }

  part(first, stop, bonus) {
    const some = Entries.empty(stop - first);
    for (let head = 0; head < HEADS; head++) {
      some.fingerprints.set(this.fingerprintsOf(head, first, stop), head * some.length * FINGERPRINT);
    }
    some.events.set(this.events.subarray(first * ENTRY_COLUMNS, stop * ENTRY_COLUMNS));
    some.bonus.fill(bonus);
    return some;
  }

  static empty(count) {
    return new Entries(
      new Int8Array(HEADS * count * FINGERPRINT), new Uint8Array(count * ENTRY_COLUMNS), new Float32Array(count),
    );
  }
}

/** N memories of fixed + ring entries in the kernel's memory. */
export class Memories {
  #kernel;
  #addresses;
  #fixedOf;

  /** `take` gives the addresses of blocks of bytes of the kernel. */
  constructor(kernel, size, fixed, ring, take) {
    this.#kernel = kernel;
    const [entriesFixed, entriesInRing] = [fixed, ring].map((each) => (kernel.config.memory ? Math.ceil(each / TILE) * TILE : 0));
    this.fixed = entriesFixed;
    this.ring = entriesInRing;
    this.entries = this.fixed + this.ring;
    const [address, ...addresses] = take(4 * MEMORY_FIELDS, ...this.#sizes.map((bytes) => size * bytes));
    this.address = address;
    this.#addresses = addresses;
    this.#fixedOf = Array(size).fill(null);
    this.fields = [...this.#addresses, this.fixed, this.ring];
    kernel.view(Int32Array, this.address, MEMORY_FIELDS).set(this.fields);
    for (let slot = 0; slot < size; slot++) this.state(slot).fill(0);
  }

  /** Bytes of a memory's fingerprints, sums, events, bonus, what is pending, and state. */
  get #sizes() {
    const { entries } = this;
    return [
      HEADS * entries * FINGERPRINT, 4 * HEADS * entries, ENTRY_COLUMNS * entries, 4 * this.fixed, 4 * PENDING,
      4 * STATE_COLUMNS,
    ];
  }

  /** The bytes of a memory's array. */
  #bytes(array, slot) {
    const bytes = this.#sizes[array];
    return this.#kernel.view(Uint8Array, this.#addresses[array] + slot * bytes, bytes);
  }

  state(slot) { return this.#kernel.view(Int32Array, this.#addresses[5] + 4 * STATE_COLUMNS * slot, STATE_COLUMNS); }

  /** What `restore` takes: the ring of a memory and all but its fixed entries. */
  save(slot) {
    return { parts: this.#ring(slot).map((part) => part.slice()), state: this.state(slot).slice() };
  }

  /** Take over the events of another memory; the fixed entries stay. */
  restore(slot, { parts, state }) {
    this.#ring(slot).forEach((part, i) => part.set(parts[i]));
    const mine = this.state(slot), [from, to] = [mine[FIXED_FROM], mine[FIXED_TO]];
    mine.set(state);
    [mine[FIXED_FROM], mine[FIXED_TO]] = [from, to];
  }

  /** The ring's part of each array of a memory, and what is pending. */
  #ring(slot) {
    const [fingerprints, sums, events, , pending] = this.#sizes.map((_, array) => this.#bytes(array, slot));
    const ofHead = (array, head) => {
      const bytes = array.length / HEADS;
      return array.subarray(bytes * head + (bytes * this.fixed) / this.entries, bytes * (head + 1));
    };
    const heads = [...Array(HEADS).keys()];
    return [
      ...heads.map((head) => ofHead(fingerprints, head)), ...heads.map((head) => ofHead(sums, head)),
      events.subarray(ENTRY_COLUMNS * this.fixed), pending,
    ];
  }

  move(slot, to) {
    this.#sizes.forEach((_, array) => this.#bytes(array, to).set(this.#bytes(array, slot)));
    this.#fixedOf[to] = this.#fixedOf[slot];
  }

  /** Let a memory have these fixed entries, as many as there is room for; those from `first` on are used. */
  setFixed(slot, entries, first = 0) {
    const count = entries ? Math.min(entries.length, this.fixed) : 0;
    if (entries && this.#fixedOf[slot] !== entries) {
      this.#fixedOf[slot] = entries;
      this.#put(slot, entries, count);
    }
    const state = this.state(slot);
    [state[FIXED_FROM], state[FIXED_TO]] = [Math.min(first, count), count];
  }

  #put(slot, entries, count) {
    const [fingerprints, sums, events, bonus] = this.#sizes.map((_, array) => this.#bytes(array, slot));
    const totals = new Int32Array(sums.buffer, sums.byteOffset, sums.length / 4);
    for (let head = 0; head < HEADS; head++) {
      for (let i = 0; i < count; i++) {
        const from = entries.fingerprintsOf(head, i, i + 1);
        let total = 0;
        for (let unit = 0; unit < FINGERPRINT; unit++) {
          fingerprints[this.#place(head, i, unit)] = from[unit];
          total += from[unit];
        }
        totals[head * this.entries + i] = total;
      }
    }
    events.set(entries.events.subarray(0, ENTRY_COLUMNS * count));
    new Float32Array(bonus.buffer, bonus.byteOffset, this.fixed).set(entries.bonus.subarray(0, count));
  }

  /** Where a unit of an entry's fingerprint stands: (heads, tiles, groups of units, entries of a tile, units of a group). */
  #place(head, entry, unit) {
    const tile = head * (this.entries / TILE) + Math.floor(entry / TILE);
    return ((tile * (FINGERPRINT / GROUP) + Math.floor(unit / GROUP)) * TILE + (entry % TILE)) * GROUP + (unit % GROUP);
  }

  /** The events of a memory's ring, in order of time, to stand in another memory. */
  entriesOf(slot) {
    const written = this.state(slot)[0], oldest = Math.max(written - this.ring, 0), found = Entries.empty(written - oldest);
    const fingerprints = this.#bytes(0, slot), events = this.#bytes(2, slot);
    for (let i = 0; i < found.length; i++) {
      const entry = this.fixed + ((oldest + i) % this.ring);
      for (let head = 0; head < HEADS; head++) {
        const to = (head * found.length + i) * FINGERPRINT;
        for (let unit = 0; unit < FINGERPRINT; unit++) found.fingerprints[to + unit] = fingerprints[this.#place(head, entry, unit)];
      }
      found.events.set(events.subarray(ENTRY_COLUMNS * entry, ENTRY_COLUMNS * (entry + 1)), ENTRY_COLUMNS * i);
    }
    return found;
  }
}

/** For each token the first whose fingerprint tells of nothing before that token: engine/memory.py. */
export function futureFrom(rows, onsets) {
  let earlier = -NO_ONSET, count = 0;
  const number = rows.map(([, key], i) => {
    if (key < KEYS) {
      if (onsets[i] - earlier >= GROUP_TICKS) count++;
      earlier = onsets[i];
    }
    return count;
  });
  const firsts = Array(rows.length);
  for (let i = rows.length - 1, first = NO_ONSET; i >= 0; i--) {
    if (rows[i][1] < KEYS) first = Math.min(first, number[i]);
    firsts[i] = Math.max(searchSorted(number, first + GROUP_TAPS + 2), i + EVENT_TAPS + 1);
  }
  return firsts;
}
