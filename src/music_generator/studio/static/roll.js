// The piano roll: what is in sight, smooth zoom and scroll, and when to draw. Pointers are handled in pointer.js.
import { makeDrawLists } from "./draw_lists.js";
import { Overview } from "./overview.js";
import { paintBackground, paintEvents, paintFrame, paintOverlay, paintSelected, readColours } from "./paint.js";
import { endOf, HIGHEST, isNote, LOWEST, PEDAL_KEYS } from "./piece.js";

const RULER = 28, LANE = 14; // heights in pixels
const GLIDE = 0.3; // the share of the way to the target that a frame covers
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** Converts seconds and keys to pixels and back. `t0`: seconds at the left edge; `pps`: pixels per second; `row`: height
 * of a key; `high`: the key at the upper edge, with a fraction. */
class View {
  constructor() { Object.assign(this, { t0: 0, pps: 60, high: 96, row: 6, width: 300, height: 200, left: 46 }); }

  get top() { return RULER; }
  get laneHeight() { return LANE; }
  get bottom() { return this.height - PEDAL_KEYS * LANE - 2; }
  get t1() { return this.t0 + (this.width - this.left) / this.pps; }
  x(seconds) { return this.left + (seconds - this.t0) * this.pps; }
  seconds(x) { return this.t0 + (x - this.left) / this.pps; }
  y(key) { return RULER + (this.high - key) * this.row; }
  key(y) { return Math.ceil(this.high - (y - RULER) / this.row - 1e-9); }
  lane(pedal) { return this.bottom + 2 + pedal * LANE; }
}

export class Roll {
  constructor(box, base, overlay) {
    Object.assign(this, { box, base, overlay, view: new View(), events: [], lists: makeDrawLists([]), extra: [], selected: [] });
    Object.assign(this, { span: null, band: null, marquee: null, playhead: 0, loop: false, sounding: [], end: 0 });
    this.target = { t0: 0, pps: 60, high: 96 };
    this.frames = 0;
    this.stale = new Set();
    this.overview = new Overview();
    new ResizeObserver(() => this.resize()).observe(box);
    this.restyle();
  }

  restyle() { this.overview.clear(); this.colour = readColours(this.box); this.redraw(); }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.box, scale = devicePixelRatio || 1;
    if (!width || !height) return;
    for (const canvas of [this.base, this.overlay]) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.getContext("2d", { alpha: canvas === this.overlay }).setTransform(scale, 0, 0, scale, 0, 0);
    }
    Object.assign(this.view, { width, height, left: width < 560 ? 34 : 58 });
    this.#settleRows();
    this.redraw();
    this.draw(); // at once: a resized canvas is blank
  }

  /** Show a piece. `selected` is a set of ids, `band` is [from, to] in seconds: what is being written. */
  show(events, selected, band) {
    if (events !== this.events) {
      Object.assign(this, { events, lists: makeDrawLists(events), end: endOf(events) });
      this.extra = [];
      this.overview.clear();
    }
    this.selected = selected.size ? events.filter((e) => selected.has(e.id)) : [];
    this.band = band;
    this.redraw();
  }

  /** Show one more event, which was just written. */
  add(event) {
    this.extra.push(event);
    this.extraLists = null;
    this.end = Math.max(this.end, event.onset + event.duration);
    this.redraw();
  }

  redraw(only) {
    if (only) this.stale.add(only); else this.stale.add("base").add("overlay");
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    const moving = this.#glide(), { view, colour } = this;
    if (moving || this.stale.has("base")) this.#drawBase(moving);
    paintOverlay(this.overlay.getContext("2d"), view, colour, this);
    this.stale.clear();
    this.frames++;
    if (moving) this.redraw("base");
  }

  #drawBase(moving) {
    const ctx = this.base.getContext("2d", { alpha: false }), { view, colour, lists, extra, selected } = this;
    paintBackground(ctx, view, colour, this.band);
    const notesDone = moving && this.overview.paint(ctx, view, colour, lists, this.end);
    paintEvents(ctx, view, colour, notesDone ? lists.filter((list) => list.isPedal) : lists);
    if (extra.length) paintEvents(ctx, view, colour, this.extraLists ??= makeDrawLists(extra));
    if (selected.length) paintSelected(ctx, view, colour, selected);
    paintFrame(ctx, view, colour);
  }

  /** Move the view a step towards the target of zoom and scroll. Return whether it has moved. */
  #glide() {
    const { view, target } = this, share = reducedMotion.matches ? 1 : GLIDE;
    const far = (a, b, tolerance) => Math.abs(a - b) > tolerance;
    const moving = far(view.t0 * view.pps, target.t0 * target.pps, 0.5) || far(view.pps, target.pps, target.pps * 1e-3)
      || far(view.high, target.high, 0.02);
    if (!moving) { Object.assign(view, target); return false; }
    const right = this.#rightOf(view) + share * (this.#rightOf(target) - this.#rightOf(view));
    view.t0 += share * (target.t0 - view.t0);
    view.pps = (view.width - view.left) / (right - view.t0); // both edges glide, so that the centre of a zoom stands still
    view.high += share * (target.high - view.high);
    return true;
  }

  #rightOf({ t0, pps }) { return t0 + (this.view.width - this.view.left) / pps; }

  get room() { return this.view.width - this.view.left; }

  /** Limit pixels per second: the whole piece with some room, to 2,000. */
  #clampScale(pps) { return Math.min(Math.max(pps, this.room / Math.max(this.end * 1.15 + 4, 12)), 2000); }

  #aim(t0, scale, now = false) {
    const pps = this.#clampScale(scale), last = Math.max(0, this.end + 4 - (0.5 * this.room) / pps);
    Object.assign(this.target, { pps, t0: Math.min(Math.max(t0, 0), last) });
    if (now) Object.assign(this.view, this.target);
    this.redraw();
  }

  /** Zoom about the pixel `x`. */
  zoom(factor, x = this.view.left + this.room / 2, now = false) {
    const { target } = this, offset = x - this.view.left, seconds = target.t0 + offset / target.pps;
    const pps = this.#clampScale(target.pps * factor);
    this.#aim(seconds - offset / pps, pps, now);
  }

  scroll(pixels, rows = 0, now = false) {
    this.target.high = this.#highest(this.target.high + rows);
    this.#aim(this.target.t0 + pixels / this.target.pps, this.target.pps, now);
  }

  /** Bring the whole piece, or a span with some room around it, into sight. */
  fit(span = null, now = false) {
    const [from, to] = span ?? [0, Math.max(this.end, 8)], room = span ? 0.35 * (to - from) + 0.5 : 0.02 * to;
    const start = Math.max(0, from - room);
    this.#aim(start, this.room / (to + room - start), now);
    if (!span) this.#settleRows(now);
  }

  inSight(seconds) { return seconds >= this.target.t0 && seconds <= this.target.t0 + this.room / this.target.pps; }

  /** Turn the page if a second is out of sight. */
  follow(seconds) {
    const { target } = this, width = this.room / target.pps;
    if (seconds < target.t0 || seconds > target.t0 + 0.96 * width) this.#aim(seconds - 0.08 * width, target.pps);
  }

  #highest(high) {
    const rows = (this.view.bottom - this.view.top) / this.view.row;
    return Math.min(HIGHEST + 1, Math.max(high, LOWEST + rows - 2));
  }

  /** Set the height of the keys so that the notes fill the roll: 4 to 14 pixels. */
  #settleRows(now = true) {
    const hasNotes = this.events.some(isNote);
    let low = hasNotes ? 48 : 30, high = hasNotes ? 84 : 96; // an empty piece shows the keys that are used most
    for (const e of this.events) if (isNote(e)) { low = Math.min(low, e.key); high = Math.max(high, e.key); }
    const room = this.view.bottom - this.view.top;
    this.view.row = Math.min(14, Math.max(4, room / (high - low + 5)));
    const middle = (high + low) / 2 + room / this.view.row / 2 - 0.5;
    this.target.high = this.#highest(Math.round(middle));
    if (now) this.view.high = this.target.high;
  }

  /** The event at a position of the canvas: the last one drawn, and a little wider than it is drawn. */
  hit(x, y) {
    const { view } = this, seconds = view.seconds(x), slack = 3 / view.pps;
    const pedal = Math.floor((y - view.lane(0)) / view.laneHeight), key = y > view.bottom ? pedal : view.key(y);
    if (x < view.left || y < view.top || (y > view.bottom && (pedal < 0 || pedal >= PEDAL_KEYS))) return null;
    let found = null;
    for (const e of this.events) {
      if (e.onset - slack > seconds) break;
      if (e.key === key && e.onset + e.duration + slack >= seconds) found = e;
    }
    return found;
  }
}
