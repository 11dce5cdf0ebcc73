// Gestures that change selected events: drag their middle to move them (with Alt: copies), their edges to resize them.
import { moved, resized } from "../editing.js";
import { isNote } from "../piece.js";

const signed = (number, digits) => `${number > 0 ? "+" : number < 0 ? "−" : "±"}${Math.abs(number).toFixed(digits)}`;

/** The time by which a drag moves a place of the music: to the grid, unless Shift is held. */
function snappedMove({ studio }, from, point, start) {
  const to = from + point.seconds - start.seconds;
  return (point.shift ? to : studio.time.snap(to)) - from;
}

export class MoveEvents {
  scrolls = true;
  cursor = "grabbing";

  constructor(page, start, hit) { Object.assign(this, { page, start, hit }); }

  #distance(point) {
    const { editor } = this.page.studio;
    const semitones = isNote(this.hit) ? Math.round(point.row - this.start.row) : 0;
    return editor.limitedMove(snappedMove(this.page, this.hit.onset, point, this.start), semitones);
  }

  move(point) {
    const { roll, studio, sound } = this.page, [seconds, semitones] = this.#distance(point);
    if (point.alt) studio.editor.previewCopies(seconds, semitones);
    else studio.editor.preview(seconds || semitones ? moved(seconds, semitones) : null);
    if (semitones !== this.heard && isNote(this.hit)) sound.preview(this.hit.key + semitones, this.hit.velocity);
    this.heard = semitones;
    roll.tip = { ...point, text: `${signed(seconds, 2)} s, ${signed(semitones, 0)} st` };
  }

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

export class ResizeEvents {
  scrolls = true;
  cursor = "ew-resize";

  constructor(page, start, hit, edge) {
    Object.assign(this, { page, start, edge });
    this.place = edge === "end" ? hit.onset + hit.duration : hit.onset;
  }

  #seconds(point) { return snappedMove(this.page, this.place, point, this.start); }

  move(point) {
    const seconds = this.#seconds(point), { studio, roll } = this.page;
    studio.editor.preview(resized(seconds, this.edge));
    roll.tip = { ...point, text: `${signed(seconds, 2)} s` };
  }

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
