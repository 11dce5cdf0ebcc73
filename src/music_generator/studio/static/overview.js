// Images of a whole long piece: while the view moves, one image is faster to draw than thousands of events.
import { paintEvents } from "./paint.js";
import { HIGHEST, LOWEST } from "./piece.js";

const WIDTHS = [1600, 6400], MAX_STRETCH = 1.6; // of an image, in pixels; how far it may be stretched
const MIN_EVENTS = 1500; // in sight, from which on an image is faster
const ROW = 8; // pixels: the height of a key in an image

export class Overview {
  /** @type {Map<number, OffscreenCanvas>} */ #images = new Map(); // by their widths
  #end = 0; // the seconds of the piece that they show

  /** Drop the images: the events or the colours have changed. */
  clear() { this.#images.clear(); }

  /** Paint the notes in sight from an image. Return false if there are few notes or no image is fine enough.
   * @param {Context2D} ctx @param {View} view @param {Colours} colour @param {DrawLists} lists @param {number} end */
  paint(ctx, view, colour, lists, end) {
    const imageWidth = WIDTHS.find((each) => view.pps * end <= MAX_STRETCH * each);
    if (!imageWidth || (lists.count * (view.t1 - view.t0)) / end < MIN_EVENTS) return false;
    if (this.#end !== end) this.clear();
    this.#end = end;
    const image = this.#images.get(imageWidth) ?? makeImage(imageWidth, colour, lists, end);
    this.#images.set(imageWidth, image);
    const { left, top, bottom, width, high, row } = view, pps = imageWidth / end;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width - left, bottom - top);
    ctx.clip();
    ctx.drawImage(image, view.t0 * pps, (HIGHEST - high) * ROW, (view.t1 - view.t0) * pps,
      ((bottom - top) / row) * ROW, left, top, width - left, bottom - top);
    ctx.restore();
    return true;
  }
}

/** @param {number} width @param {Colours} colour @param {DrawList[]} lists @param {number} end */
function makeImage(width, colour, lists, end) {
  const row = ROW, height = (HIGHEST - LOWEST + 1) * row, canvas = new OffscreenCanvas(width, height), pps = width / end;
  /** @type {PaintView} */
  const view = { left: 0, top: 0, width, height, bottom: height, t0: 0, t1: end, pps, row,
    x: (seconds) => seconds * pps, y: (key) => (HIGHEST - key) * row, lane: () => height, laneHeight: 0 };
  paintEvents(/** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d")), view, colour, lists.filter((list) => !list.isPedal));
  return canvas;
}
