// Gestures that change the view: one finger or the hand tool scrolls, two fingers zoom.

/** @implements {Gesture} */
export class Pan {
  cursor = "grabbing";
  /** @type {(point: Point) => void} */ click = () => {};

  /** @param {GesturePage} page @param {Point} start */
  constructor({ roll }, start) {
    this.roll = roll;
    this.last = start;
  }

  /** @param {Point} point */
  move(point) {
    this.roll.scroll(this.last.x - point.x, (point.y - this.last.y) / this.roll.view.row, true);
    this.last = point;
  }

  end() {}
  cancel() {}
}

/** Two fingers: apart or together zooms in time, moving them scrolls. @implements {Gesture} */
export class Pinch {
  /** @param {GesturePage} page @param {Map<number, Point>} pointers */
  constructor({ roll }, pointers) {
    this.roll = roll;
    this.pointers = pointers;
    this.last = spread(pointers);
  }

  move() {
    if (this.pointers.size < 2) return;
    const now = spread(this.pointers), { last, roll } = this;
    roll.zoom(now.distance / last.distance, now.x, true);
    roll.scroll(last.x - now.x, (now.y - last.y) / roll.view.row, true);
    this.last = now;
  }

  end() {}
  cancel() {}
}

/** @param {Map<number, Point>} pointers */
function spread(pointers) {
  const [a, b] = [...pointers.values()];
  return { distance: Math.max(Math.hypot(a.x - b.x, a.y - b.y), 10), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}
