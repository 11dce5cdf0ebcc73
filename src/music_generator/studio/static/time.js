// How time is shown and to what it snaps: in bars and beats of the piece's tempo map, or in seconds.
import { Beats } from "./beats.js";
import { clock } from "./piece.js";

/** The grids to snap to: [value, name]. A value is seconds, or a share of a whole note, "beat" or "bar". */
const IN_BEATS = [["off", "no snap"], ["bar", "bar"], ["beat", "beat"], ["1/2", "1/2"], ["1/4", "1/4"], ["1/4t", "1/4 tripl."], ["1/8", "1/8"],
  ["1/8t", "1/8 tripl."], ["1/16", "1/16"], ["1/16t", "1/16 tripl."], ["1/32", "1/32"]];
const IN_SECONDS = [["off", "no snap"], ["1", "1 s"], ["0.5", "0.5 s"], ["0.25", "0.25 s"], ["0.1", "0.1 s"], ["0.05", "0.05 s"]];
const GRID_SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200];
const LABEL_PIXELS = 64, LINE_PIXELS = 14; // the least distance of labels and of lines

/** @param {string} value @returns {GridStep | null} */
function stepOf(value) {
  if (value === "off") return null;
  if (value === "bar" || value === "beat") return value;
  const isTriplet = value.endsWith("t");
  return 1 / parseInt(value.slice(2)) / (isTriplet ? 1.5 : 1);
}

export class Time {
  /** @type {"seconds" | "beats"} */ units = "seconds";
  /** @type {TempoMap | null} */ map = null;
  #choices = { seconds: "off", beats: "1/16" };
  beats = new Beats(null);

  /** Take the tempo map of a piece. @param {TempoMap | null} [map] */
  setMap(map) { if ((map ?? null) !== this.map) Object.assign(this, { map: map ?? null, beats: new Beats(map) }); }

  get inBeats() { return this.units === "beats"; }
  get grids() { return this.inBeats ? IN_BEATS : IN_SECONDS; }
  get grid() { return this.#choices[this.units]; }
  set grid(value) { if (this.grids.some(([each]) => each === value)) this.#choices[this.units] = value; }
  /** @returns {GridStep | null} */
  get step() { return this.grid === "off" ? null : this.inBeats ? stepOf(this.grid) : Number(this.grid); }
  get stepName() { return this.grids.find(([value]) => value === this.grid)?.[1] ?? ""; }

  /** The place of the grid that is nearest to a second; the same second if there is no grid. @param {number} seconds */
  snap(seconds) {
    const { step } = this;
    if (!step) return seconds;
    return this.inBeats ? this.beats.snap(seconds, step) : Math.round(seconds / Number(step)) * Number(step);
  }

  /** The place of the grid at or before a second. @param {number} seconds */
  floor(seconds) {
    const { step } = this, near = this.snap(seconds);
    return !step || near <= seconds + 0.03 ? near : this.snap(Math.max(0, near - this.stepSeconds(near)));
  }

  /** The place of the grid at or after a second. @param {number} seconds */
  ceil(seconds) {
    const { step } = this, near = this.snap(seconds);
    return !step || near >= seconds - 0.03 ? near : this.snap(near + this.stepSeconds(near));
  }

  /** The length of a step of the grid, or `otherwise`. @param {number} seconds */
  stepSeconds(seconds, otherwise = 0.25) {
    const { step } = this;
    if (!step) return otherwise;
    return this.inBeats ? this.beats.stepSeconds(seconds, step) : Number(step);
  }

  /** The place of a second for the display. @param {number} seconds */
  text(seconds) { return this.inBeats ? this.beats.place(seconds) : clock(seconds); }

  /** The lines of the grid between two seconds, at a number of pixels per second.
   * @param {number} from @param {number} to @param {number} pixelsPerSecond @returns {GridLine[]} */
  lines(from, to, pixelsPerSecond) { return this.inBeats ? this.#beatLines(from, to, pixelsPerSecond) : this.#secondLines(from, to, pixelsPerSecond); }

  /** @param {number} from @param {number} to @param {number} scale */
  #secondLines(from, to, scale) {
    const step = GRID_SECONDS.find((each) => each * scale >= LABEL_PIXELS) ?? GRID_SECONDS[GRID_SECONDS.length - 1], lines = [];
    for (let i = Math.max(0, Math.floor(from / step)); i * step <= to; i++) {
      lines.push({ seconds: i * step, label: clock(i * step, step < 1 ? 1 : 0), strong: false });
    }
    return lines;
  }

  /** Bars, and as far as there is room beats and steps of the grid; long views have a line every 2, 4, 8, … bars.
   * @param {number} from @param {number} to @param {number} scale */
  #beatLines(from, to, scale) {
    const { beats } = this, bar = beats.stepSeconds(Math.max(0, from), "bar") * scale, beat = beats.stepSeconds(Math.max(0, from), "beat") * scale;
    const { step } = this, fine = typeof step === "number" && beats.stepSeconds(Math.max(0, from), step) * scale >= LINE_PIXELS;
    const every = 2 ** Math.max(0, Math.ceil(Math.log2(LABEL_PIXELS / 1.6 / bar))), lines = [];
    const shown = bar < LINE_PIXELS * 3 ? "bar" : fine ? step : beat >= LINE_PIXELS ? "beat" : "bar";
    for (const line of beats.lines(from - (every * bar) / scale, to, shown)) {
      if (line.isBar && (line.bar - 1) % every) continue;
      lines.push({ seconds: line.seconds, label: line.isBar ? String(line.bar) : "", strong: line.isBar });
    }
    return lines;
  }
}
