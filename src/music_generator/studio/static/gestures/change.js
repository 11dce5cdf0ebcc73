// Gestures that change selected events: drag their middle to move them (with Alt: copies), their edges to resize them.
import { moved, resized } from "../editing.js";
import { isNote } from "../piece.js";

/** @param {number} number @param {number} digits */
const signed = (number, digits) => `${number > 0 ? "+" : number < 0 ? "−" : "±"}${Math.abs(number).toFixed(digits)}`;

/** The time by which a drag moves a place of the music: to the grid, unless Shift is held.
 * @param {GesturePage} page @param {number} from @param {Point} point @param {Point} start */
function snappedMove({ studio }, from, point, start) {
  const to = from + point.seconds - start.seconds;
  return (point.shift ? to : studio.time.snap(to)) - from;
}

/** @implements {Gesture} */
export class MoveEvents {
  scrolls = true;
  cursor = "grabbing";

  heard = 0; // the transposition that was heard last

  /** @param {GesturePage} page @param {Point} start @param {MusicEvent} hit */
  constructor(page, start, hit) {
    this.page = page;
    this.start = start;
    this.hit = hit;
  }

  /** @param {Point} point */
  #distance(point) {
    const { editor } = this.page.studio;
    const semitones = isNote(this.hit) ? Math.round(point.row - this.start.row) : 0;
    return editor.limitedMove(snappedMove(this.page, this.hit.onset, point, this.start), semitones);
  }

  /** @param {Point} point */
  move(point) {
    const { roll, studio, sound } = this.page, [seconds, semitones] = this.#distance(point);
    if (point.alt) studio.editor.previewCopies(seconds, semitones);
    else studio.editor.preview(seconds || semitones ? moved(seconds, semitones) : null);
    if (semitones !== this.heard && isNote(this.hit)) sound.preview(this.hit.key + semitones, this.hit.velocity);
    this.heard = semitones;
    roll.tip = { ...point, text: `${signed(seconds, 2)} s, ${signed(semitones, 0)} st` };
  }

  /** @param {Point} point */
  end(point) {
    const { editor } = this.page.studio, distance = this.#distance(point);
    this.page.roll.tip = null;
    if (point.alt) editor.copyTo(...distance); else editor.move(...distance);
  }

  cancel() {
    this.page.roll.tip = null;
    this.page.studio.setPreview(null);
  }

  click() { this.page.sound.preview(this.hit.key, this.hit.velocity); }
}

/** @implements {Gesture} */
export class ResizeEvents {
  scrolls = true;
  cursor = "ew-resize";

  /** @param {GesturePage} page @param {Point} start @param {MusicEvent} hit @param {Edge} edge */
  constructor(page, start, hit, edge) {
    this.page = page;
    this.start = start;
    this.edge = edge;
    this.place = edge === "end" ? hit.onset + hit.duration : hit.onset;
  }

  /** @param {Point} point */
  #seconds(point) { return snappedMove(this.page, this.place, point, this.start); }

  /** @param {Point} point */
  move(point) {
    const seconds = this.#seconds(point), { studio, roll } = this.page;
    studio.editor.preview(resized(seconds, this.edge));
    roll.tip = { ...point, text: `${signed(seconds, 2)} s` };
  }

  /** @param {Point} point */
  end(point) {
    this.page.roll.tip = null;
    this.page.studio.editor.resize(this.#seconds(point), this.edge);
  }

  cancel() {
    this.page.roll.tip = null;
    this.page.studio.setPreview(null);
  }

  click() {}
}
