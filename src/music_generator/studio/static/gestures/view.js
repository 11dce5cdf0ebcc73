// Gestures that change the view: one finger or the hand tool scrolls, two fingers zoom.

export class Pan {
  cursor = "grabbing";

  constructor({ roll }, start) { Object.assign(this, { roll, last: start }); }

  move(point) {
    this.roll.scroll(this.last.x - point.x, (point.y - this.last.y) / this.roll.view.row, true);
    this.last = point;
  }

  end() {}
  cancel() {}
}

/** Two fingers: apart or together zooms in time, moving them scrolls. */
export class Pinch {
  constructor({ roll }, pointers) { Object.assign(this, { roll, pointers, last: spread(pointers) }); }

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

function spread(pointers) {
  const [a, b] = [...pointers.values()];
  return { distance: Math.max(Math.hypot(a.x - b.x, a.y - b.y), 10), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}
