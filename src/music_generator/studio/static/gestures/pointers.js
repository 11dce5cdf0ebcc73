// Mouse, pen and touch on the roll: each press begins a gesture, which the other files of this folder describe.
// A gesture has `move(point)`, `end(point)`, `click(point)` for a press that did not move, and `cancel()`.
import { ResizeEvents, MoveEvents } from "./change.js";
import { DrawEvent } from "./draw.js";
import { PlayKeys } from "./keys.js";
import { edgeAt, SelectRectangle, SelectSpan } from "./select.js";
import { AddVelocity, DrawVelocities } from "./velocity.js";
import { Pan, Pinch } from "./view.js";

const CLICK = 4; // pixels: the farthest a click may move
const SCROLL_ZONE = 26, SCROLL_STEP = 10; // pixels: near an edge of the roll a drag scrolls it
const WHEEL_LINE = 16; // pixels of a line of the wheel

/** @type {Point} */
const NOWHERE = { x: 0, y: 0, seconds: 0, row: 0, key: 0, velocity: 0, add: false, shift: false, alt: false, isTouch: false };

export class Pointers {
  /** @type {Map<number, Point>} */ #down = new Map(); // pointer id → point
  /** @type {Gesture | null} */ #gesture = null;
  #first = NOWHERE; // the point at which the gesture began
  #last = NOWHERE;
  #hasMoved = false;
  #scrolling = 0;

  /** @param {GesturePage} page */
  constructor(page) {
    this.page = page;
    this.roll = page.roll;
    this.canvas = page.roll.overlay;
    this.view = page.roll.view;
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.#start(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#end(event));
    canvas.addEventListener("pointercancel", (event) => this.#lose(event));
    canvas.addEventListener("dblclick", (event) => this.#doubleClick(event));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  get active() { return this.#gesture !== null; }

  /** End the gesture and all that it shows. */
  cancel() {
    const gesture = this.#gesture;
    this.#clear();
    gesture?.cancel();
  }

  #clear() {
    this.#gesture = null;
    cancelAnimationFrame(this.#scrolling);
  }

  /** Where an event is: in pixels and in the music. @param {MouseEvent} event @returns {Point} */
  #point(event) {
    const box = this.canvas.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const add = event.shiftKey || event.ctrlKey || event.metaKey, isTouch = event instanceof PointerEvent && event.pointerType === "touch";
    return { x, y, add, shift: event.shiftKey, alt: event.altKey, isTouch, ...this.roll.place(x, y) };
  }

  // --- begin -----------------------------------------------------------------------------------------------------

  /** @param {PointerEvent} event */
  #start(event) {
    if (event.button > 0) return;
    const point = this.#point(event);
    this.canvas.setPointerCapture?.(event.pointerId);
    this.#down.set(event.pointerId, point);
    this.#gesture?.cancel();
    this.#gesture = this.#down.size >= 2 ? new Pinch(this.page, this.#down) : this.#gestureAt(point);
    this.#first = this.#last = point;
    this.#hasMoved = false;
    if (this.#gesture.scrolls) this.#scrollAtEdges();
  }

  /** @param {Point} point @returns {Gesture} */
  #gestureAt(point) {
    const { page, roll } = this, tool = page.tool(), region = roll.regionOf(point);
    if (region === "ruler") return new SelectSpan(page, point);
    if (region === "keyboard") return new PlayKeys(page, point);
    if (region === "names" || (point.isTouch ? tool === "hand" : false)) return this.#handOf(point);
    if (tool === "hand" || page.studio.choice) return point.isTouch || tool === "hand" ? new Pan(page, point) : new SelectRectangle(page, point);
    if (region === "velocity") return this.#velocityGesture(point);
    return this.#eventGesture(point, tool);
  }

  /** A finger scrolls, but drags what is selected. @param {Point} point */
  #handOf(point) {
    const hit = this.roll.hit(point.x, point.y);
    const isChosen = hit && !this.page.studio.choice && this.page.studio.selected.has(hit.event.id);
    const gesture = isChosen ? new MoveEvents(this.page, point, hit.event) : new Pan(this.page, point);
    if (!isChosen) gesture.click = () => this.#tap(point, hit);
    return gesture;
  }

  /** @param {Point} point @param {{event: MusicEvent} | null} hit */
  #tap(point, hit) {
    const { studio, sound, seek } = this.page;
    if (hit && !studio.choice) { studio.select([hit.event.id], point.add); sound.preview(hit.event.key, hit.event.velocity); }
    else seek(Math.max(0, point.seconds));
  }

  /** @param {Point} point */
  #velocityGesture(point) {
    const { page, roll } = this, hit = roll.hitVelocity(point.x);
    return hit && page.studio.selected.has(hit.id) ? new AddVelocity(page, point) : new DrawVelocities(page, point);
  }

  /** @param {Point} point @param {Tool} tool */
  #eventGesture(point, tool) {
    const { page, roll } = this, { studio } = page, hit = roll.hit(point.x, point.y);
    if (!hit) return tool === "draw" && point.seconds >= 0 ? new DrawEvent(page, point, point.key) : new SelectRectangle(page, point);
    const { event, part } = hit, wasSelected = studio.selected.has(event.id), add = point.add && !point.alt;
    if (!wasSelected || add) studio.select([event.id], add);
    return part === "middle" ? new MoveEvents(page, point, event) : new ResizeEvents(page, point, event, part);
  }

  // --- move ------------------------------------------------------------------------------------------------------

  /** @param {PointerEvent} event */
  #move(event) {
    const point = this.#point(event);
    if (!this.#down.has(event.pointerId)) { this.#hover(point); return; }
    this.#down.set(event.pointerId, point);
    if (!this.#gesture) return;
    if (!this.#hasMoved && Math.hypot(point.x - this.#first.x, point.y - this.#first.y) < CLICK) return;
    this.#hasMoved = true;
    this.#last = point;
    this.canvas.style.cursor = this.#gesture.cursor ?? "";
    this.#gesture.move(point);
  }

  /** While the pointer rests near an edge, the view scrolls and the gesture goes on. */
  #scrollAtEdges() {
    const step = () => {
      if (!this.#gesture) return;
      const { x, y } = this.#last, { view, roll } = this;
      const right = x > view.width - SCROLL_ZONE, left = x < view.left + 8 && view.t0 > 0;
      const inNotes = this.#first.y >= view.top && this.#first.y < view.bottom;
      const up = inNotes && y < view.top + 10, down = inNotes && y > view.bottom - 6;
      if (this.#hasMoved && (right || left || up || down)) {
        roll.scroll(right ? SCROLL_STEP : left ? -SCROLL_STEP : 0, up ? 0.25 : down ? -0.25 : 0, true);
        this.#last = { ...this.#last, ...roll.place(x, y) };
        this.#gesture.move(this.#last);
      }
      this.#scrolling = requestAnimationFrame(step);
    };
    this.#scrolling = requestAnimationFrame(step);
  }

  /** @param {Point} point */
  #hover(point) {
    const { roll, page } = this, region = roll.regionOf(point), tool = page.tool();
    const hit = ["notes", "pedals"].includes(region) && !page.studio.choice ? roll.hit(point.x, point.y) : null;
    /** @type {Partial<Record<Region, string>>} */
    const cursors = { ruler: edgeAt(page, point) >= 0 ? "ew-resize" : "text", keyboard: "pointer", names: "default", velocity: "ns-resize" };
    const overNote = hit && (hit.part === "middle" ? "grab" : "ew-resize");
    this.canvas.style.cursor = cursors[region] ?? (tool === "hand" ? "grab" : overNote ?? (tool === "draw" ? "cell" : "crosshair"));
    roll.setHovered(hit?.event ?? null);
  }

  // --- end -------------------------------------------------------------------------------------------------------

  /** @param {PointerEvent} event */
  #end(event) {
    if (!this.#down.delete(event.pointerId) || !this.#gesture) return;
    if (this.#gesture instanceof Pinch) { if (!this.#down.size) this.#clear(); return; }
    const gesture = this.#gesture, point = { ...this.#point(event) };
    this.#clear();
    if (this.#hasMoved) gesture.end(point); else gesture.click?.(point);
    this.roll.redraw("overlay");
  }

  /** @param {PointerEvent} event */
  #lose(event) {
    this.#down.delete(event.pointerId);
    this.cancel();
  }

  /** A double click draws a note where there is none, and makes the extent of one the span. @param {MouseEvent} event */
  #doubleClick(event) {
    const point = this.#point(event), { page, roll } = this, region = roll.regionOf(point);
    if (!["notes", "pedals"].includes(region) || page.studio.choice || page.tool() === "draw") return;
    if (roll.hit(point.x, point.y)) { page.studio.spanOfSelection(); return; }
    new DrawEvent(page, point, point.key).end();
  }

  /** The wheel moves up and down, with Shift in time; with Ctrl it zooms in time, with Alt the height of the keys. @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? WHEEL_LINE : 1, { x, y } = this.#point(event), { roll, view } = this;
    const [dx, dy] = [event.deltaX * unit, event.deltaY * unit], scale = event.deltaMode ? 0.01 : 0.004;
    if (event.ctrlKey || event.metaKey) roll.zoom(Math.exp(-dy * scale), x);
    else if (event.altKey) roll.zoomRows(Math.exp(-(dy || dx) * scale), y);
    else if (event.shiftKey || roll.showsAllKeys) roll.scroll(dx + dy);
    else roll.scroll(dx, -dy / view.row);
  }
}
