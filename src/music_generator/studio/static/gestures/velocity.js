// The velocity lane: drag a selected note's bar to raise or lower all selected notes; anywhere else, draw velocities.
import { edited, withVelocity } from "../editing.js";
import { isNote } from "../piece.js";

/** Raises or lowers the selected notes, which keeps their dynamics. @implements {Gesture} */
export class AddVelocity {
  cursor = "ns-resize";

  /** @param {GesturePage} page @param {Point} start */
  constructor(page, start) {
    this.page = page;
    this.start = start;
  }

  /** @param {Point} point */
  #by(point) { return point.velocity - this.start.velocity; }

  /** @param {Point} point */
  move(point) {
    const by = this.#by(point);
    this.page.studio.editor.preview(withVelocity((velocity) => velocity + by));
    this.page.roll.tip = { ...point, text: `${by > 0 ? "+" : by < 0 ? "−" : "±"}${Math.abs(by)}` };
  }

  /** @param {Point} point */
  end(point) {
    this.page.roll.tip = null;
    this.page.studio.setPreview(null);
    this.page.studio.editor.addVelocity(this.#by(point), null);
  }

  cancel() {
    this.page.roll.tip = null;
    this.page.studio.setPreview(null);
  }

  click() {}
}

/** Gives each note that the pointer passes the velocity at its height: the selected notes alone, if there are any. @implements {Gesture} */
export class DrawVelocities {
  cursor = "crosshair";
  /** @type {Map<number, number>} */ velocities = new Map(); // id → velocity

  /** @param {GesturePage} page @param {Point} start */
  constructor(page, start) {
    this.page = page;
    this.last = start;
    const { history, selected } = page.studio;
    this.notes = history.events.filter((e) => isNote(e) && (!selected.size || selected.has(e.id)));
    this.#take(start, start);
  }

  /** @param {Point} a @param {Point} b */
  #take(a, b) {
    const { view } = this.page.roll, [from, to] = a.seconds <= b.seconds ? [a, b] : [b, a], reach = 4 / view.pps;
    for (const e of this.notes) {
      if (e.onset > to.seconds + reach) break;
      if (e.onset < from.seconds - reach) continue;
      const share = to.seconds > from.seconds ? Math.min(Math.max((e.onset - from.seconds) / (to.seconds - from.seconds), 0), 1) : 1;
      this.velocities.set(e.id, Math.round(from.velocity + share * (to.velocity - from.velocity)));
    }
    this.#show(b);
  }

  /** @param {Point} point */
  #show(point) {
    const { studio, roll } = this.page, { velocities } = this;
    /** @type {Change} */
    const change = (e) => ({ velocity: velocities.get(e.id) });
    if (velocities.size) {
      const { events, made } = edited(studio.history.events, new Set(velocities.keys()), change);
      studio.setPreview({ events, selected: studio.selected.size ? made : [] });
    }
    roll.tip = { ...point, text: String(point.velocity) };
  }

  /** @param {Point} point */
  move(point) {
    this.#take(this.last, point);
    this.last = point;
  }

  end() {
    this.page.roll.tip = null;
    this.page.studio.setPreview(null);
    this.page.studio.editor.paintVelocities(this.velocities);
  }

  click() { this.end(); }

  cancel() {
    this.page.roll.tip = null;
    this.page.studio.setPreview(null);
  }
}
