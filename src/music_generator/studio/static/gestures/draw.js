// Drawing a note or a pedal press: press where it begins, drag to its end.
import { SHORTEST } from "../editing.js";
import { HIGHEST, isNote, keyName, LOWEST, makeEvent, PEDAL_KEYS, toTick } from "../piece.js";

const PEDAL_DOWN = 127;

/** @implements {Gesture} */
export class DrawEvent {
  scrolls = true;
  cursor = "crosshair";

  /** `key`: of the note, or the number of the pedal. @param {GesturePage} page @param {Point} start @param {number} key */
  constructor(page, start, key) {
    const { studio } = page, { time, editor } = studio, isPedal = key < PEDAL_KEYS;
    this.page = page;
    const onset = toTick(Math.max(0, this.#onset(start)));
    const length = isPedal || !time.step ? editor.lastLength : time.stepSeconds(onset);
    this.event = makeEvent(onset, toTick(Math.max(length, SHORTEST)), key, isPedal ? PEDAL_DOWN : editor.lastVelocity);
    this.#show(start);
    if (!isPedal) page.sound.preview(key, this.event.velocity);
  }

  /** A note begins at the place of the grid before the pointer. @param {Point} point */
  #onset({ seconds, shift }) { return shift ? seconds : this.page.studio.time.floor(seconds); }

  /** @param {Point} point */
  move(point) {
    const { studio, sound } = this.page, { event } = this;
    const end = point.shift ? point.seconds : studio.time.snap(point.seconds);
    const least = point.shift || !studio.time.step ? SHORTEST : studio.time.stepSeconds(event.onset);
    const key = isNote(event) ? Math.min(HIGHEST, Math.max(LOWEST, point.key)) : event.key;
    if (key !== event.key) sound.preview(key, event.velocity);
    this.event = { ...event, key, duration: toTick(Math.max(least, end - event.onset)) };
    this.#show(point);
  }

  /** @param {Point} point */
  #show(point) {
    this.page.studio.editor.previewDrawn(this.event);
    this.page.roll.tip = { ...point, text: isNote(this.event) ? keyName(this.event.key) : `${this.event.duration.toFixed(2)} s` };
  }

  end() {
    this.page.roll.tip = null;
    this.page.studio.editor.draw(this.event);
  }

  click() { this.end(); }

  cancel() {
    this.page.roll.tip = null;
    this.page.studio.setPreview(null);
  }
}
