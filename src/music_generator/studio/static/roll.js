// The piano roll: what is in sight, smooth zoom and scroll, and when to draw. The folder gestures has the pointers.
import { firstAbove, makeDrawLists } from "./draw_lists.js";
import { Overview } from "./overview.js";
import {
  paintBackground, paintEvents, paintFrame, paintGhosts, paintOverlay, paintSelected, paintVelocities, readColours,
} from "./paint.js";
import { endOf, HIGHEST, isNote, LOWEST, PEDAL_KEYS } from "./piece.js";

const RULER = 28, LANE = 14, VELOCITY = 54; // heights in pixels
const TALL = 360; // pixels of height from which on there is room for the velocity lane
const GLIDE = 0.3; // the share of the way to the target that a frame covers
const MIN_ROW = 3, MAX_ROW = 40, MAX_SCALE = 2000; // pixels: of a key, of a second
const EDGE = 7, WIDE = 20; // pixels: of a note's edge that resizes it, and the width from which on a note has such edges
const NOTES = HIGHEST - LOWEST + 1;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * The context of a canvas, `isClear` if what lies below it is seen.
 * @param {HTMLCanvasElement} canvas @param {boolean} isClear
 */
function contextOf(canvas, isClear) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: isClear }));
}

/** Converts seconds and keys to pixels and back. */
class View {
  t0 = 0; // seconds at the left edge
  pps = 60; // pixels per second
  high = 96; // the key at the upper edge, with a fraction
  row = 6; // the height of a key
  width = 300;
  height = 200;
  left = 46;
  velocityHeight = 0;

  get top() { return RULER; }
  get laneHeight() { return LANE; }
  get bottom() { return this.height - PEDAL_KEYS * LANE - 2 - this.velocityHeight; }
  get velocityTop() { return this.height - this.velocityHeight + 2; }
  get t1() { return this.t0 + (this.width - this.left) / this.pps; }
  /** @param {number} seconds */
  x(seconds) { return this.left + (seconds - this.t0) * this.pps; }
  /** @param {number} x */
  seconds(x) { return this.t0 + (x - this.left) / this.pps; }
  /** @param {number} key */
  y(key) { return RULER + (this.high - key) * this.row; }
  /** The key at a pixel, with a fraction. @param {number} y */
  keyHeight(y) { return this.high - (y - RULER) / this.row; }
  /** @param {number} y */
  key(y) { return Math.ceil(this.keyHeight(y) - 1e-9); }
  /** @param {number} pedal */
  lane(pedal) { return this.bottom + 2 + pedal * LANE; }
  /** @param {number} y */
  velocity(y) { return Math.min(127, Math.max(1, Math.round((127 * (this.height - y)) / Math.max(this.velocityHeight - 4, 1)))); }
  /** @param {number} velocity */
  velocityY(velocity) { return this.height - (velocity / 127) * (this.velocityHeight - 4); }
}

/** @implements {Overlay} */
export class Roll {
  view = new View();
  target = { t0: 0, pps: 60, high: 96, row: 6 }; // of zoom and scroll, to which the view glides
  /** @type {number | null} */ chosenRow = null; // the height of a key that the user has chosen
  /** @type {MusicEvent[]} */ events = [];
  lists = makeDrawLists([]);
  /** @type {MusicEvent[]} */ extra = []; // events that were just written
  /** @type {DrawLists | null} */ extraLists = null; // of them, once they are made
  others = makeDrawLists([]); // notes of other tracks
  overview = new Overview();
  end = 0;
  /** @type {MusicEvent[]} */ selected = [];
  /** @type {MusicEvent[]} */ ghosts = []; // the selected events where they were before a drag
  /** @type {MusicEvent | null} */ hovered = null;
  /** @type {Span | null} */ span = null;
  /** @type {Span | null} */ band = null; // what is being written
  /** @type {Marquee | null} */ marquee = null;
  /** @type {Tip | null} */ tip = null;
  playhead = 0;
  loop = false;
  /** @type {number[]} */ sounding = []; // keys
  hidden = { above: 0, below: 0 }; // the numbers of notes above and below the keys in sight
  frames = 0; // that were drawn
  /** @type {number | null} */ frame = null; // that is asked for
  /** @type {Set<"base" | "overlay">} */ stale = new Set(); // what is to be drawn again

  /** @param {HTMLElement} box @param {HTMLCanvasElement} base @param {HTMLCanvasElement} overlay @param {Time} time */
  constructor(box, base, overlay, time) {
    this.box = box;
    this.base = base;
    this.overlay = overlay;
    this.time = time;
    new ResizeObserver(() => this.resize()).observe(box);
    this.colour = readColours(box);
    this.redraw();
  }

  restyle() { this.overview.clear(); this.colour = readColours(this.box); this.redraw(); }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.box, scale = devicePixelRatio || 1;
    if (!width || !height) return;
    for (const canvas of [this.base, this.overlay]) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      contextOf(canvas, canvas === this.overlay).setTransform(scale, 0, 0, scale, 0, 0);
    }
    Object.assign(this.view, { width, height, left: width < 560 ? 34 : 58, velocityHeight: height >= TALL ? VELOCITY : 0 });
    this.#settleRows();
    this.redraw();
    this.draw(); // at once: a resized canvas is blank
  }

  /**
   * Show a piece. `selected` are events of it, `band` is [from, to] in seconds: what is being written; `ghosts`: the
   * selected events where they were before a drag.
   * @param {MusicEvent[]} events @param {MusicEvent[]} selected @param {Span | null} band @param {MusicEvent[]} ghosts
   */
  show(events, selected, band, ghosts = []) {
    if (events !== this.events) {
      Object.assign(this, { events, lists: makeDrawLists(events), end: endOf(events) });
      this.extra = [];
      this.overview.clear();
    }
    Object.assign(this, { selected, band, ghosts });
    this.redraw();
  }

  /** Show notes of other tracks behind those of the piece. @param {MusicEvent[]} notes */
  setOthers(notes) {
    this.others = makeDrawLists(notes);
    this.redraw();
  }

  /** Show one more event, which was just written. @param {MusicEvent} event */
  add(event) {
    this.extra.push(event);
    this.extraLists = null;
    this.end = Math.max(this.end, event.onset + event.duration);
    this.redraw();
  }

  /** Show events that are being played, up to a second, beside the piece. @param {MusicEvent[]} events */
  setLive(events, now = 0) {
    if (!events.length && !this.extra.length) return;
    Object.assign(this, { extra: events, extraLists: null });
    this.end = Math.max(this.end, now, endOf(events));
    this.reveal(events);
    this.redraw();
  }

  /** @param {"base" | "overlay"} [only] */
  redraw(only) {
    if (only) this.stale.add(only); else this.stale.add("base").add("overlay");
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    const moving = this.#glide(), { view, colour } = this;
    if (moving || this.stale.has("base")) this.#drawBase(moving);
    paintOverlay(contextOf(this.overlay, true), view, colour, this);
    this.stale.clear();
    this.frames++;
    if (moving) this.redraw("base");
  }

  /** @param {boolean} moving */
  #drawBase(moving) {
    const ctx = contextOf(this.base, false), { view, colour, lists, extra, selected } = this;
    paintBackground(ctx, view, colour, this.band, this.time.lines(view.t0, view.t1, view.pps));
    paintEvents(ctx, view, colour, this.others);
    const notesDone = moving && this.overview.paint(ctx, view, colour, lists, this.end);
    paintEvents(ctx, view, colour, notesDone ? lists.filter((list) => list.isPedal) : lists);
    if (extra.length) paintEvents(ctx, view, colour, this.#listsOfExtra);
    paintVelocities(ctx, view, colour, extra.length ? [...lists, ...this.#listsOfExtra] : lists, selected);
    if (this.ghosts.length) paintGhosts(ctx, view, colour, this.ghosts);
    if (selected.length) paintSelected(ctx, view, colour, selected);
    paintFrame(ctx, view, colour, moving ? this.hidden : (this.hidden = this.#countHidden()));
  }

  get #listsOfExtra() { return this.extraLists ??= makeDrawLists(this.extra); }

  /** The numbers of notes in sight of time that lie above and below the keys in sight. */
  #countHidden() {
    const { view } = this, hidden = { above: 0, below: 0 };
    const high = view.high, low = high - (view.bottom - view.top) / view.row;
    for (const list of this.extra.length ? [...this.lists, ...this.#listsOfExtra] : this.lists) {
      if (list.isPedal) continue;
      const last = firstAbove(list.onset, view.t1);
      for (let i = firstAbove(list.reach, view.t0); i < last; i++) {
        if (list.end[i] < view.t0) continue;
        if (list.key[i] - 0.5 > high) hidden.above++;
        else if (list.key[i] - 0.5 < low) hidden.below++;
      }
    }
    return hidden;
  }

  /** Move the view a step towards the target of zoom and scroll. Return whether it has moved. */
  #glide() {
    const { view, target } = this, share = reducedMotion.matches ? 1 : GLIDE;
    /** @param {number} a @param {number} b @param {number} tolerance */
    const far = (a, b, tolerance) => Math.abs(a - b) > tolerance;
    const moving = far(view.t0 * view.pps, target.t0 * target.pps, 0.5) || far(view.pps, target.pps, target.pps * 1e-3)
      || far(view.high, target.high, 0.02) || far(view.row, target.row, 0.02);
    if (!moving) { Object.assign(view, target); return false; }
    const right = this.#rightOf(view) + share * (this.#rightOf(target) - this.#rightOf(view));
    view.t0 += share * (target.t0 - view.t0);
    view.pps = (view.width - view.left) / (right - view.t0); // both edges glide, so that the centre of a zoom stands still
    view.high += share * (target.high - view.high);
    view.row += share * (target.row - view.row);
    return true;
  }

  /** @param {{t0: number, pps: number}} view */
  #rightOf({ t0, pps }) { return t0 + (this.view.width - this.view.left) / pps; }

  get room() { return this.view.width - this.view.left; }

  /** Limit pixels per second: at least the whole piece with some room is in sight. @param {number} pps */
  #clampScale(pps) { return Math.min(Math.max(pps, this.room / Math.max(this.end * 1.15 + 4, 12)), MAX_SCALE); }

  /** @param {number} t0 @param {number} scale */
  #aim(t0, scale, now = false) {
    const pps = this.#clampScale(scale), last = Math.max(0, this.end + 4 - (0.5 * this.room) / pps);
    Object.assign(this.target, { pps, t0: Math.min(Math.max(t0, 0), last) });
    if (now) Object.assign(this.view, this.target);
    this.redraw();
  }

  /** Zoom about the pixel `x`. @param {number} factor */
  zoom(factor, x = this.view.left + this.room / 2, now = false) {
    const { target } = this, offset = x - this.view.left, seconds = target.t0 + offset / target.pps;
    const pps = this.#clampScale(target.pps * factor);
    this.#aim(seconds - offset / pps, pps, now);
  }

  /** @param {number} pixels */
  scroll(pixels, rows = 0, now = false) {
    this.target.high = this.#highest(this.target.high + rows);
    this.#aim(this.target.t0 + pixels / this.target.pps, this.target.pps, now);
  }

  /** Zoom the height of the keys about the pixel `y`. @param {number} factor */
  zoomRows(factor, y = (this.view.top + this.view.bottom) / 2) {
    const { target, view } = this, offset = y - view.top, key = target.high - offset / target.row;
    target.row = this.chosenRow = Math.min(MAX_ROW, Math.max(MIN_ROW, target.row * factor));
    target.high = this.#highest(key + offset / target.row);
    this.redraw();
  }

  get #rows() { return (this.view.bottom - this.view.top) / this.target.row; }
  get showsAllKeys() { return this.#rows >= NOTES; }

  /** Scroll up or down by the fewest keys that bring these into sight. @param {MusicEvent[]} events */
  reveal(events) {
    const keys = events.filter(isNote).map((e) => e.key);
    if (!keys.length) return;
    const { target } = this, high = keys.reduce((a, b) => Math.max(a, b)), low = keys.reduce((a, b) => Math.min(a, b));
    if (low - 1 < target.high - this.#rows) target.high = this.#highest(low - 1.5 + this.#rows);
    if (high > target.high) target.high = this.#highest(high + 1.5);
    this.redraw();
  }

  /** Bring the whole piece, or a span with some room around it, into sight. @param {Span | null} span */
  fit(span = null, now = false) {
    const [from, to] = span ?? [0, Math.max(this.end, 8)], room = span ? 0.35 * (to - from) + 0.5 : 0.02 * to;
    const start = Math.max(0, from - room);
    this.#aim(start, this.room / (to + room - start), now);
    if (!span) { this.chosenRow = null; this.#settleRows(now); }
  }

  /** @param {number} seconds */
  inSight(seconds) { return seconds >= this.target.t0 && seconds <= this.target.t0 + this.room / this.target.pps; }

  /** Turn the page if a second is out of sight. @param {number} seconds */
  follow(seconds) {
    const { target } = this, width = this.room / target.pps;
    if (seconds < target.t0 || seconds > target.t0 + 0.96 * width) this.#aim(seconds - 0.08 * width, target.pps);
  }

  /** @param {number} high */
  #highest(high) { return Math.min(HIGHEST + 1, Math.max(high, LOWEST + this.#rows - 2)); }

  /** Set the height of the keys so that the notes fill the roll, 4 to 14 pixels, unless the user has chosen one. */
  #settleRows(now = true) {
    const { view, target } = this, room = view.bottom - view.top, hasNotes = this.events.some(isNote);
    let low = hasNotes ? 48 : 30, high = hasNotes ? 84 : 96; // an empty piece shows the keys that are used most
    for (const e of this.events) if (isNote(e)) { low = Math.min(low, e.key); high = Math.max(high, e.key); }
    target.row = this.chosenRow ?? Math.min(14, Math.max(4, room / (high - low + 5)));
    const middle = (high + low) / 2 + room / target.row / 2 - 0.5;
    target.high = this.#highest(this.chosenRow ? target.high : Math.round(middle));
    if (now) Object.assign(view, { row: target.row, high: target.high });
    this.redraw();
  }

  // --- what is at a place ----------------------------------------------------------------------------------------

  /** A pixel in the music: seconds, the key with a fraction (`row`), the key or pedal, and the velocity of its lane.
   * @param {number} x @param {number} y @returns {Place} */
  place(x, y) {
    const { view } = this, pedal = Math.floor((y - view.lane(0)) / view.laneHeight), row = view.keyHeight(y);
    const key = y > view.bottom ? Math.min(Math.max(pedal, 0), PEDAL_KEYS - 1) : Math.min(HIGHEST, Math.max(LOWEST, Math.ceil(row - 1e-9)));
    return { seconds: view.seconds(x), row, key, velocity: view.velocity(y) };
  }

  /** The part of the roll at a pixel: "ruler", "keyboard", "names" (of the lanes), "notes", "pedals" or "velocity".
   * @param {{x: number, y: number}} point @returns {Region} */
  regionOf({ x, y }) {
    const { view } = this;
    if (y < view.top) return "ruler";
    if (x < view.left) return y < view.bottom ? "keyboard" : "names";
    if (y < view.bottom) return "notes";
    return view.velocityHeight && y >= view.velocityTop - 2 ? "velocity" : "pedals";
  }

  /** The key of the keyboard at a pixel, or null. @param {number} y */
  keyAt(y) {
    const { view } = this, key = view.key(y);
    return y >= view.top && y < view.bottom && key >= LOWEST && key <= HIGHEST ? key : null;
  }

  /** The event at a pixel, the last one drawn and a little wider than drawn, and its part: "start", "middle", "end".
   * @param {number} x @param {number} y */
  hit(x, y) {
    const { view } = this, region = this.regionOf({ x, y }), { seconds, key } = this.place(x, y), slack = 3 / view.pps;
    if (!["notes", "pedals"].includes(region)) return null;
    /** @type {MusicEvent | null} */
    let event = null;
    for (const e of this.events) {
      if (e.onset - slack > seconds) break;
      if (e.key === key && e.onset + e.duration + slack >= seconds) event = e;
    }
    return event && { event, part: this.#partOf(event, x) };
  }

  /** @param {MusicEvent} event @param {number} x @returns {NotePart} */
  #partOf(event, x) {
    const left = this.view.x(event.onset), right = this.view.x(event.onset + event.duration);
    const edge = right - left >= WIDE ? EDGE : right - left >= WIDE / 2 ? EDGE / 2 : 0;
    if (x > right - edge) return "end";
    return x < left + edge / 2 ? "start" : "middle";
  }

  /** The note whose bar of the velocity lane is at a pixel, or null. @param {number} x */
  hitVelocity(x) {
    const { view } = this, at = view.seconds(x), reach = 4 / view.pps, near = this.events.filter((e) => isNote(e) && Math.abs(e.onset - at) <= reach);
    return near.find((e) => this.selected.includes(e)) ?? near[0] ?? null;
  }

  /** The events that begin inside a rectangle {from, row, to, toRow}. @param {Marquee} rectangle */
  eventsInside(rectangle) {
    const { view } = this, [from, to] = [rectangle.from, rectangle.to].sort((a, b) => a - b);
    const [above, below] = [rectangle.row, rectangle.toRow].map((row) => view.y(row)).sort((a, b) => a - b), found = [];
    for (const e of this.events) {
      if (e.onset >= to) break;
      const [top, height] = isNote(e) ? [view.y(e.key), view.row] : [view.lane(e.key), view.laneHeight];
      if (e.onset >= from && top + height > above && top < below) found.push(e);
    }
    return found;
  }

  /** @param {MusicEvent | null} event */
  setHovered(event) {
    if (event === this.hovered) return;
    this.hovered = event;
    this.redraw("overlay");
  }
}
