// Bars and beats: from the tempo map of a piece to its grid, and a tempo map from taps or numbers.
// A tempo map is {ticks_per_quarter, tempos: [[tick, microseconds of a quarter]], time_signatures: [[tick, top, bottom]]}.

/** @type {TempoMap} */
const NEW_MAP = { ticks_per_quarter: 500, tempos: [[0, 500_000]], time_signatures: [] };
const EPSILON = 1e-6;
export const SLOWEST = 20, FASTEST = 400; // quarters per minute of a tempo that is set or tapped
export const BEAT_UNITS = [1, 2, 4, 8, 16, 32, 64];

/** The last index of a sorted list for which `at(item)` is at most `value`; 0 if there is none.
 * @template Item @param {Item[]} list @param {number} value @param {(item: Item) => number} at */
function lastIndex(list, value, at) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(list[middle]) > value) high = middle; else low = middle + 1;
  }
  return Math.max(low - 1, 0);
}

export class Beats {
  /** `map`: a tempo map as the server gives it, or null for that of a new piece. @param {TempoMap | null} [map] */
  constructor(map) {
    this.map = map ?? NEW_MAP;
    this.tempos = this.#withSeconds();
    this.metres = this.#withBars();
  }

  #withSeconds() {
    const { ticks_per_quarter: resolution, tempos } = this.map;
    /** @type {{tick: number, seconds: number, rate: number, perMinute: number}[]} */
    const changes = [];
    let seconds = 0;
    tempos.forEach(([tick, tempo], i) => {
      if (i) seconds += (tick - tempos[i - 1][0]) * changes[i - 1].rate;
      changes.push({ tick, seconds, rate: tempo / 1e6 / resolution, perMinute: 6e7 / tempo });
    });
    return changes;
  }

  /** Each metre with its first tick and the number of the bar that begins there: a change begins a bar. */
  #withBars() {
    const { ticks_per_quarter: resolution, time_signatures: signatures } = this.map;
    /** @type {{tick: number, top: number, bottom: number, beat: number, bar: number}[]} */
    const metres = [];
    const all = signatures[0]?.[0] === 0 ? signatures : [[0, 4, 4], ...signatures];
    for (const [tick, top, bottom] of all) {
      const last = metres.at(-1), bar = last ? last.bar + Math.ceil((tick - last.tick) / (last.beat * last.top) - EPSILON) : 0;
      metres.push({ tick, top, bottom, beat: (4 * resolution) / bottom, bar });
    }
    return metres;
  }

  /** @param {number} tick */
  toSeconds(tick) {
    const change = this.tempos[lastIndex(this.tempos, tick, (each) => each.tick)];
    return change.seconds + (tick - change.tick) * change.rate;
  }

  /** @param {number} seconds */
  toTicks(seconds) {
    const change = this.tempos[lastIndex(this.tempos, seconds, (each) => each.seconds)];
    return change.tick + (seconds - change.seconds) / change.rate;
  }

  /** @param {number} tick */
  #metreAt(tick) { return this.metres[lastIndex(this.metres, tick + EPSILON, (each) => each.tick)]; }

  /** Quarters per minute and the metre [top, bottom] at a second. @param {number} seconds */
  tempoAt(seconds) { return this.tempos[lastIndex(this.tempos, seconds + EPSILON, (each) => each.seconds)].perMinute; }

  /** @param {number} seconds @returns {Metre} */
  metreAt(seconds) {
    const { top, bottom } = this.#metreAt(this.toTicks(seconds));
    return [top, bottom];
  }

  /** The place of a second as bar and beat, both from 1, for example 12.3. @param {number} seconds */
  place(seconds) {
    const tick = this.toTicks(seconds), { tick: first, beat, top, bar } = this.#metreAt(tick);
    const beats = Math.floor((tick - first) / beat + 1e-3);
    return `${bar + Math.floor(beats / top) + 1}.${(beats % top) + 1}`;
  }

  /**
   * The seconds of the grid from `from` to `to`. `step` is "bar", or a share of a whole note, such as 1/4.
   * Returns {seconds, bar, isBar, isBeat}; bars count from 1.
   * @param {number} from @param {number} to @param {GridStep} step
   */
  *lines(from, to, step) {
    for (let i = 0; i < this.metres.length; i++) {
      const metre = this.metres[i], end = this.metres[i + 1]?.tick ?? Infinity, size = this.#stepTicks(step, metre);
      const begin = Math.max(0, Math.ceil((this.toTicks(Math.max(from, 0)) - metre.tick) / size - EPSILON));
      for (let n = begin; ; n++) {
        const offset = n * size, tick = metre.tick + offset, seconds = this.toSeconds(tick);
        if (tick >= end - EPSILON || seconds > to) break;
        const beats = offset / metre.beat, isBeat = Math.abs(beats - Math.round(beats)) < EPSILON;
        const isBar = isBeat && Math.round(beats) % metre.top === 0;
        yield { seconds, bar: metre.bar + Math.floor(beats / metre.top + EPSILON) + 1, isBar, isBeat };
      }
    }
  }

  /** @param {GridStep} step @param {{beat: number, top: number}} metre */
  #stepTicks(step, metre) {
    if (step === "bar") return metre.beat * metre.top;
    if (step === "beat") return metre.beat;
    return 4 * this.map.ticks_per_quarter * step;
  }

  /** The place of the grid that is nearest to a second; bars bound the grid, as a bar may not be whole steps long.
   * @param {number} seconds @param {GridStep | null} step */
  snap(seconds, step) {
    if (!step) return seconds;
    const tick = Math.max(0, this.toTicks(seconds)), metre = this.#metreAt(tick), size = this.#stepTicks(step, metre);
    const barTicks = metre.beat * metre.top, bar = Math.floor((tick - metre.tick) / barTicks + EPSILON) * barTicks;
    const inBar = tick - metre.tick - bar, onGrid = Math.min(Math.round(inBar / size) * size, barTicks);
    const nearest = barTicks - inBar < Math.abs(inBar - onGrid) ? barTicks : onGrid;
    return this.toSeconds(metre.tick + bar + nearest);
  }

  /** The length in seconds of a step of the grid at a second. @param {number} seconds @param {GridStep} step */
  stepSeconds(seconds, step) {
    const tick = this.toTicks(seconds);
    return this.toSeconds(tick + this.#stepTicks(step, this.#metreAt(tick))) - this.toSeconds(tick);
  }

  /** The beats from one second to another, for the metronome: {seconds, isBar}. @param {number} from @param {number} to */
  *beats(from, to) { for (const { seconds, isBar } of this.lines(from, to, "beat")) if (seconds < to) yield { seconds, isBar }; }
}

/**
 * A tempo map of one tempo and one metre, of which a bar begins at second `downbeat`. If that is not a whole number of
 * bars from 0, the bars before it are shorter or longer, so that all later ones are regular.
 * @param {number} perMinute @param {Metre} metre @returns {TempoMap}
 */
export function steadyMap(perMinute, [top, bottom] = [4, 4], downbeat = 0, resolution = 480) {
  const micros = Math.round(6e7 / Math.min(Math.max(perMinute, SLOWEST), FASTEST));
  const barTicks = (4 * resolution * top) / bottom, barSeconds = (barTicks / resolution) * (micros / 1e6);
  const bars = downbeat < 0.005 ? 0 : Math.max(1, Math.round(downbeat / barSeconds));
  const before = bars ? Math.round((downbeat * 1e6 * resolution) / (bars * barTicks)) : micros;
  /** @type {TempoMap["tempos"]} */
  const tempos = before === micros ? [[0, micros]] : [[0, before], [bars * barTicks, micros]];
  return { ticks_per_quarter: resolution, tempos, time_signatures: [[0, top, bottom]] };
}

/** Quarters per minute from the times of taps in seconds, one tap on each beat (a share of a whole note); null if too few.
 * @param {number[]} times */
export function tappedTempo(times, beat = 1 / 4) {
  if (times.length < 2) return null;
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length, middle = (times.length - 1) / 2;
  let above = 0, below = 0; // least squares: each tap counts
  times.forEach((time, i) => { above += (i - middle) * (time - mean); below += (i - middle) ** 2; });
  return above > 0 ? (60 / (above / below)) * 4 * beat : null;
}
