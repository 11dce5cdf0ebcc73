// The piano roll: what is in sight, smooth zoom and scroll, and when to draw. Pointers are in pointer.js.
import { endOf, HIGHEST, isNote, LOWEST } from "./piece.js";
import { colours, paintChosen, paintFrame, paintGround, paintOver, paintStrokes } from "./paint.js";
import { Overview } from "./overview.js";
import { shelve } from "./shelf.js";

const RULER = 28, LANE = 14, FASTEST = 0.3; // of the way to the target, each frame
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Seconds and keys ⇄ pixels. `row` is the height of a key, `high` the (fractional) key at the upper edge. */
class View {
  constructor() { Object.assign(this, { t0: 0, pps: 60, high: 96, row: 6, width: 300, height: 200, left: 46 }); }

  get top() { return RULER; }
  get laneHeight() { return LANE; }
  get bottom() { return this.height - 3 * LANE - 2; }
  get t1() { return this.t0 + (this.width - this.left) / this.pps; }
  x(seconds) { return this.left + (seconds - this.t0) * this.pps; }
  seconds(x) { return this.t0 + (x - this.left) / this.pps; }
  y(key) { return RULER + (this.high - key) * this.row; }
  key(y) { return Math.ceil(this.high - (y - RULER) / this.row - 1e-9); }
  lane(pedal) { return this.bottom + 2 + pedal * LANE; }
}

export class Roll {
  constructor(box, base, over) {
    Object.assign(this, { box, base, over, view: new View(), strokes: [], shelves: shelve([]), extra: [], chosen: [] });
    Object.assign(this, { span: null, band: null, marquee: null, playhead: 0, loop: false, down: [], end: 0 });
    this.target = { t0: 0, pps: 60, high: 96 };
    this.frames = 0;
    this.stale = new Set();
    this.overview = new Overview();
    new ResizeObserver(() => this.resize()).observe(box);
    this.restyle();
  }

  restyle() { this.overview.clear(); this.colour = colours(this.box); this.redraw(); }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.box, scale = devicePixelRatio || 1;
    if (!width || !height) return;
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.getContext("2d", { alpha: canvas === this.over }).setTransform(scale, 0, 0, scale, 0, 0);
    }
    Object.assign(this.view, { width, height, left: width < 560 ? 34 : 58 });
    this.#settleRows();
    this.redraw();
    this.draw(); // a canvas that was resized is blank: not to be seen
  }

  /** Show a piece; `chosen` is a set of ids, `band` [from, to] what is being written. */
  show(strokes, chosen, band) {
    if (strokes !== this.strokes) {
      Object.assign(this, { strokes, shelves: shelve(strokes), end: endOf(strokes) });
      this.extra = [];
      this.overview.clear();
    }
    this.chosen = chosen.size ? strokes.filter((s) => chosen.has(s.id)) : [];
    this.band = band;
    this.redraw();
  }

  /** One more stroke while it is written. */
  add(stroke) {
    this.extra.push(stroke);
    this.extraShelves = null;
    this.end = Math.max(this.end, stroke.on + stroke.dur);
    this.redraw();
  }

  redraw(only) {
    if (only) this.stale.add(only); else this.stale.add("base").add("over");
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    const moving = this.#glide(), { view, colour } = this;
    if (moving || this.stale.has("base")) {
      const ctx = this.base.getContext("2d", { alpha: false });
      paintGround(ctx, view, colour, this.band);
      const pictured = moving && this.overview.paint(ctx, view, colour, this.shelves, this.end);
      paintStrokes(ctx, view, colour, pictured ? this.shelves.filter((shelf) => shelf.pedals) : this.shelves);
      if (this.extra.length) paintStrokes(ctx, view, colour, this.extraShelves ??= shelve(this.extra));
      if (this.chosen.length) paintChosen(ctx, view, colour, this.chosen);
      paintFrame(ctx, view, colour);
    }
    paintOver(this.over.getContext("2d"), view, colour, this);
    this.stale.clear();
    this.frames++;
    if (moving) this.redraw("base");
    this.onview?.(moving);
  }

  /** A step of the way to where zoom and scroll want to be; whether there is more to go. */
  #glide() {
    const { view, target } = this, share = calm.matches ? 1 : FASTEST;
    const far = (a, b, by) => Math.abs(a - b) > by;
    const moving = far(view.t0 * view.pps, target.t0 * target.pps, 0.5) || far(view.pps, target.pps, target.pps * 1e-3)
      || far(view.high, target.high, 0.02);
    if (!moving) { Object.assign(view, target); return false; }
    const right = this.#rightOf(view) + share * (this.#rightOf(target) - this.#rightOf(view));
    view.t0 += share * (target.t0 - view.t0);
    view.pps = (view.width - view.left) / (right - view.t0); // both edges glide: what is zoomed about stands still
    view.high += share * (target.high - view.high);
    return true;
  }

  #rightOf({ t0, pps }) { return t0 + (this.view.width - this.view.left) / pps; }

  get room() { return this.view.width - this.view.left; }

  #aim(t0, pps, now = false) {
    const widest = Math.max(this.end * 1.15 + 4, 12);
    pps = Math.min(Math.max(pps, this.room / widest), 2000);
    const last = Math.max(0, this.end + 4 - (0.5 * this.room) / pps);
    Object.assign(this.target, { pps, t0: Math.min(Math.max(t0, 0), last) });
    if (now) Object.assign(this.view, this.target);
    this.redraw();
  }

  zoom(factor, x = this.view.left + this.room / 2, now = false) {
    const { left } = this.view, at = this.target.t0 + (x - left) / this.target.pps;
    const widest = Math.max(this.end * 1.15 + 4, 12), pps = Math.min(Math.max(this.target.pps * factor, this.room / widest), 2000);
    this.#aim(at - (x - left) / pps, pps, now);
  }

  scroll(pixels, rows = 0, now = false) {
    this.target.high = this.#highest(this.target.high + rows);
    this.#aim(this.target.t0 + pixels / this.target.pps, this.target.pps, now);
  }

  /** The whole piece, or a span with some room around it, into sight. */
  fit(span = null, now = false) {
    const [from, to] = span ?? [0, Math.max(this.end, 8)], room = span ? 0.35 * (to - from) + 0.5 : 0.02 * to;
    const start = Math.max(0, from - room);
    this.#aim(start, this.room / (to + room - start), now);
    if (!span) this.#settleRows(now);
  }

  inSight(seconds) { return seconds >= this.target.t0 && seconds <= this.target.t0 + this.room / this.target.pps; }

  /** Bring a second into sight, a page further on. */
  follow(seconds) {
    const { target } = this, width = this.room / target.pps;
    if (seconds < target.t0 || seconds > target.t0 + 0.96 * width) this.#aim(seconds - 0.08 * width, target.pps);
  }

  #highest(high) {
    const rows = (this.view.bottom - this.view.top) / this.view.row;
    return Math.min(HIGHEST + 1, Math.max(high, LOWEST + rows - 2));
  }

  /** The height of the keys: what is played fills the height, but no key is under 4 pixels or over 14. */
  #settleRows(now = true) {
    const some = this.strokes.some(isNote);
    let low = some ? 48 : 30, high = some ? 84 : 96; // with nothing yet, room for what may be written
    for (const s of this.strokes) if (isNote(s)) { low = Math.min(low, s.key); high = Math.max(high, s.key); }
    const room = this.view.bottom - this.view.top;
    this.view.row = Math.min(14, Math.max(4, room / (high - low + 5)));
    const middle = (high + low) / 2 + room / this.view.row / 2 - 0.5;
    this.target.high = this.#highest(Math.round(middle));
    if (now) this.view.high = this.target.high;
  }

  /** The stroke at a place of the canvas: the last drawn, a little wider than it looks. */
  hit(x, y) {
    const { view } = this, seconds = view.seconds(x), slack = 3 / view.pps;
    const pedal = Math.floor((y - view.lane(0)) / view.laneHeight), key = y > view.bottom ? pedal : view.key(y);
    if (x < view.left || y < view.top || (y > view.bottom && (pedal < 0 || pedal > 2))) return null;
    let found = null;
    for (const s of this.strokes) {
      if (s.on - slack > seconds) break;
      if (s.key === key && s.on + s.dur + slack >= seconds) found = s;
    }
    return found;
  }
}
