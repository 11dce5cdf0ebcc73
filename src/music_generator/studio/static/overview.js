// Pictures of the whole of a long piece: while it moves, far out, one is cheaper to show than thousands of strokes.
import { paintStrokes } from "./paint.js";
import { HIGHEST, LOWEST } from "./piece.js";

const WIDE = [1600, 6400], STRETCH = 1.6; // pixels, and how far a picture may be drawn out
const MANY = 1500; // strokes in sight from which it is worth it

export class Overview {
  #pictures = new Map();

  /** Forget the pictures: the strokes or their colours are others. */
  clear() { this.#pictures.clear(); }

  /** Paint the notes in sight from a picture, if there are many and one is fine enough; whether it did. */
  paint(ctx, view, colour, shelves, end) {
    const wide = WIDE.find((each) => view.pps * end <= STRETCH * each);
    if (!wide || (shelves.count * (view.t1 - view.t0)) / end < MANY) return false;
    if (this.row !== view.row || this.end !== end) this.clear();
    Object.assign(this, { row: view.row, end });
    if (!this.#pictures.has(wide)) this.#pictures.set(wide, picture(wide, view.row, colour, shelves, end));
    const { left, top, bottom, width, high, row } = view, pps = wide / end;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width - left, bottom - top);
    ctx.clip();
    ctx.drawImage(this.#pictures.get(wide), view.t0 * pps, (HIGHEST - high) * row, (view.t1 - view.t0) * pps, bottom - top,
      left, top, width - left, bottom - top);
    ctx.restore();
    return true;
  }
}

function picture(width, row, colour, shelves, end) {
  const height = Math.ceil((HIGHEST - LOWEST + 1) * row), canvas = new OffscreenCanvas(width, height), pps = width / end;
  const view = { left: 0, top: 0, width, height, bottom: height, t0: 0, t1: end, pps, row,
    x: (seconds) => seconds * pps, y: (key) => (HIGHEST - key) * row };
  paintStrokes(canvas.getContext("2d"), view, colour, shelves.filter((shelf) => !shelf.pedals));
  return canvas;
}
