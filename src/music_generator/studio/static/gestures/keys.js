// Playing the keyboard at the left of the roll: a key sounds while it is pressed, and the pointer glides over others.

/** @implements {Gesture} */
export class PlayKeys {
  cursor = "pointer";
  /** @type {number | null} */ key = null;

  /** @param {GesturePage} page @param {Point} start */
  constructor(page, start) {
    this.page = page;
    this.#strike(start);
  }

  /** The farther to the right a key is pressed, the louder it is. @param {Point} point */
  #strike(point) {
    const { roll, sound } = this.page, share = Math.min(Math.max(point.x / roll.view.left, 0), 1);
    this.key = roll.keyAt(point.y);
    if (this.key !== null) sound.strike(this.key, Math.round(30 + 85 * share));
  }

  /** @param {Point} point */
  move(point) {
    if (this.page.roll.keyAt(point.y) === this.key) return;
    this.cancel();
    this.#strike(point);
  }

  end() { this.cancel(); }
  click() { this.cancel(); }

  cancel() {
    if (this.key !== null) this.page.sound.release(this.key);
  }
}
