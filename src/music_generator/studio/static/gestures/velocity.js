// The velocity lane: drag a selected note's bar to raise or lower all selected notes; anywhere else, draw velocities.
import { edited, withVelocity } from "../editing.js";
import { isNote } from "../piece.js";

/** Raises or lowers the selected notes, which keeps their dynamics. */
export class AddVelocity {
  cursor = "ns-resize";

  constructor(page, start) { Object.assign(this, { page, start }); }

  #by(point) { return point.velocity - this.start.velocity; }

  move(point) {
    const by = this.#by(point);
    this.page.studio.editor.preview(withVelocity((velocity) => velocity + by));
    this.page.roll.tip = { ...point, text: `${by > 0 ? "+" : by < 0 ? "−" : "±"}${Math.abs(by)}` };
  }

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

/** Gives each note that the pointer passes the velocity at its height: the selected notes alone, if there are any. */
export class DrawVelocities {
  cursor = "crosshair";
  velocities = new Map(); // id → velocity

  constructor(page, start) {
    Object.assign(this, { page, last: start });
    const { history, selected } = page.studio;
    this.notes = history.events.filter((e) => isNote(e) && (!selected.size || selected.has(e.id)));
    this.#take(start, start);
  }

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

  #show(point) {
    const { studio, roll } = this.page, { velocities } = this;
    const change = (e) => ({ velocity: velocities.get(e.id) });
    if (velocities.size) {
      const { events, made } = edited(studio.history.events, new Set(velocities.keys()), change);
      studio.setPreview({ events, selected: studio.selected.size ? made : [] });
    }
    roll.tip = { ...point, text: String(point.velocity) };
  }

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
