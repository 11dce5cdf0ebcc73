// The resolution, tempo changes and time signatures of a piece: music/tempo_map.py.
import { InputError } from "./errors.js";

const BEAT_UNITS = [1, 2, 4, 8, 16, 32, 64];
export const LARGEST_RESOLUTION = 32767;

/** The nearest whole number, halves to even, as `numpy.rint` and Python's `round`. */
export function rint(x) {
  const below = Math.floor(x), rest = x - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 ? below + 1 : below;
}

/** How many of the values, which rise, are below x, or at most x with `side` "right": `numpy.searchsorted`. */
export function searchSorted(values, x, side = "left") {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < x || (side === "right" && values[middle] === x)) low = middle + 1;
    else high = middle;
  }
  return low;
}

const rises = (ticks) => ticks.every((tick, i) => i === 0 || tick > ticks[i - 1]);

export class TempoMap {
  constructor(ticksPerQuarter = 500, tempos = [[0, 500000]], timeSignatures = []) {
    this.ticksPerQuarter = ticksPerQuarter;
    this.tempos = tempos;
    this.timeSignatures = timeSignatures;
    this.#check();
    this.ticks = tempos.map(([tick]) => tick);
    this.rates = tempos.map(([, tempo]) => tempo / (1e6 * ticksPerQuarter));
    this.seconds = [0];
    for (let i = 1; i < tempos.length; i++) {
      this.seconds.push(this.seconds[i - 1] + (this.ticks[i] - this.ticks[i - 1]) * this.rates[i - 1]);
    }
  }

  #check() {
    const { ticksPerQuarter, tempos, timeSignatures } = this;
    if (!(ticksPerQuarter > 0 && ticksPerQuarter <= LARGEST_RESOLUTION)) {
      throw new InputError(`\`ticks_per_quarter\` must be 1 to ${LARGEST_RESOLUTION}, not ${ticksPerQuarter}`);
    }
    if (!tempos.length || tempos[0][0] !== 0 || !rises(tempos.map(([tick]) => tick))) {
      throw new InputError("`tempos` must begin at tick 0 and rise strictly");
    }
    if (tempos.some(([, tempo]) => !(tempo > 0 && tempo < 1 << 24))) {
      throw new InputError("a tempo must be 1 to 16777215 microseconds per quarter note");
    }
    const ticks = timeSignatures.map(([tick]) => tick);
    if (ticks.some((tick) => tick < 0) || !rises(ticks)) {
      throw new InputError("`time_signatures` must begin at tick 0 or later and rise strictly");
    }
    if (timeSignatures.some(([, top, bottom]) => !(top > 0 && top < 256 && BEAT_UNITS.includes(bottom)))) {
      throw new InputError("a time signature must be 1 to 255 over 1, 2, 4, 8, 16, 32 or 64");
    }
  }

  toSeconds(tick) {
    const i = searchSorted(this.ticks, tick, "right") - 1;
    return this.seconds[i] + (tick - this.ticks[i]) * this.rates[i];
  }

  toTicks(seconds) { return rint(this.toFractionalTicks(seconds)); }

  toFractionalTicks(seconds) {
    const i = searchSorted(this.seconds, seconds, "right") - 1;
    return this.ticks[i] + (seconds - this.seconds[i]) / this.rates[i];
  }

  /** The first tick at or after a second. */
  firstTickFrom(seconds) {
    const tick = this.toTicks(seconds);
    return this.toSeconds(tick) < seconds - 1e-9 ? tick + 1 : tick;
  }

  /** The map with ticks divided so that each lasts at most 1 ms, where MIDI allows it. */
  refined() {
    const coarsest = Math.max(...this.tempos.map(([, tempo]) => tempo)) / (1e6 * this.ticksPerQuarter);
    const most = Math.floor(LARGEST_RESOLUTION / this.ticksPerQuarter);
    const factor = Math.min(Math.ceil(coarsest / 0.001 - 1e-9), most);
    return factor <= 1 ? this : this.scaled(factor);
  }

  /** The map with `factor` times as many ticks in a quarter. */
  scaled(factor) {
    const scale = ([tick, ...values]) => [rint(tick * factor), ...values];
    const [tempos, signatures] = [this.tempos.map(scale), this.timeSignatures.map(scale)];
    return TempoMap.ofEvents(rint(this.ticksPerQuarter * factor), tempos, signatures);
  }

  /** The map of tempos and time signatures in any order; of several on one tick the last one counts. */
  static ofEvents(ticksPerQuarter, tempos, signatures) {
    const last = (events) => [...new Map(events.map((event) => [event[0], event])).values()].sort((a, b) => a[0] - b[0]);
    return new TempoMap(ticksPerQuarter, last([[0, 500000], ...tempos]), last(signatures));
  }

  equals(other) { return JSON.stringify(this.toJson()) === JSON.stringify(other.toJson()); }

  toJson() {
    return { ticks_per_quarter: this.ticksPerQuarter, tempos: this.tempos, time_signatures: this.timeSignatures };
  }
}
