// Gestures that select: a rectangle selects events and a span, the ruler a span.

/** A rectangle: it stays at its first place of the music when the view scrolls. @implements {Gesture} */
export class SelectRectangle {
  scrolls = true;
  cursor = "crosshair";

  /** @param {GesturePage} page @param {Point} start */
  constructor(page, start) {
    this.page = page;
    this.start = start;
  }

  /** @param {Point} point */
  move(point) {
    const { roll } = this.page;
    roll.marquee = { from: this.start.seconds, row: this.start.row, to: point.seconds, toRow: point.row };
    roll.redraw("overlay");
  }

  /** @param {Point} point */
  end(point) {
    const { studio, roll } = this.page, found = roll.marquee ? roll.eventsInside(roll.marquee) : [];
    this.cancel();
    studio.select(found.map((e) => e.id), point.add);
    if (!point.add) this.#setSpan(point.seconds);
    if (found.length) studio.announce(`${studio.selectionText} selected`);
  }

  /** The rectangle is the new span, unless it lies inside the span: then the user selects which of its notes stay. @param {number} seconds */
  #setSpan(seconds) {
    const { studio } = this.page, { span } = studio;
    const [from, to] = [this.start.seconds, seconds].sort((a, b) => a - b).map((each) => Math.max(0, studio.time.snap(each)));
    if (!span || from < span[0] || to > span[1]) studio.setSpan(from, to);
  }

  cancel() {
    this.page.roll.marquee = null;
    this.page.roll.redraw("overlay");
  }

  /** A click on nothing moves the playhead and deselects. @param {Point} point */
  click(point) {
    const { studio, seek } = this.page;
    seek(studio.time.snap(Math.max(0, point.seconds)));
    if (!point.add && studio.selected.size) studio.select([]);
  }
}

const EDGE = 9; // pixels: the reach of an edge of the span

/** A span, along the ruler. A drag that begins on an edge of the span moves that edge. @implements {Gesture} */
export class SelectSpan {
  scrolls = true;
  cursor = "ew-resize";

  /** @param {GesturePage} page @param {Point} start */
  constructor(page, start) {
    this.page = page;
    const { span } = page.studio, index = edgeAt(page, start);
    this.before = span;
    this.anchor = span && index >= 0 ? span[1 - index] : this.#place(start);
  }

  /** @param {Point} point */
  #place(point) { return Math.max(0, point.shift ? point.seconds : this.page.studio.time.snap(point.seconds)); }

  /** @param {Point} point */
  move(point) { this.page.studio.setSpan(this.anchor, this.#place(point)); }

  /** @param {Point} point */
  end(point) {
    this.move(point);
    this.page.studio.announce(this.page.studio.spanText);
  }

  cancel() { this.page.studio.setSpan(...(this.before ?? [0, 0])); }
  /** @param {Point} point */
  click(point) { this.page.seek(Math.max(0, point.seconds)); }
}

/** The index of the edge of the span at a place of the ruler, or −1. @param {GesturePage} page @param {{x: number, isTouch: boolean}} point */
export function edgeAt({ studio, roll }, { x, isTouch }) {
  const reach = isTouch ? 2 * EDGE : EDGE;
  return studio.span?.findIndex((seconds) => Math.abs(roll.view.x(seconds) - x) <= reach) ?? -1;
}
