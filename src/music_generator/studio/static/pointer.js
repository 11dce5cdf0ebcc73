// Mouse, pen and touch on the roll. A mouse draws a selection rectangle; one finger scrolls, two fingers zoom;
// on the ruler both select a span.
import { isNote } from "./piece.js";

const EDGE = 9, CLICK = 4; // pixels: the reach of an edge of the span; the farthest a click may move
const SCROLL_ZONE = 24, SCROLL_STEP = 14; // pixels: near an edge of the roll a drag scrolls it

export class Pointers {
  #down = new Map(); // pointer id → [x, y]
  #drag = null; // {kind: "span", "pan", "pinch", "move" or "marquee", …}

  constructor(roll, actions) {
    Object.assign(this, { roll, actions, canvas: roll.overlay, view: roll.view });
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.#start(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#end(event));
    canvas.addEventListener("pointercancel", (event) => this.#cancel(event));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  #position(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // --- begin -----------------------------------------------------------------------------------------------------

  #start(event) {
    if (event.button > 0) return;
    const [x, y] = this.#position(event), isTouch = event.pointerType === "touch";
    this.canvas.setPointerCapture?.(event.pointerId);
    this.#down.set(event.pointerId, [x, y]);
    const drag = this.#down.size === 2 ? { kind: "pinch", ...this.#spread() } : this.#kindOf(x, y, isTouch, event);
    this.#drag = { ...drag, x, y, lastX: x, lastY: y, moved: false };
  }

  #kindOf(x, y, isTouch, event) {
    const { view, actions } = this, add = event.shiftKey || event.ctrlKey || event.metaKey;
    if (y < view.top) return { kind: "span", anchor: this.#anchor(x, isTouch ? 2 * EDGE : EDGE) };
    if (x < view.left) return { kind: "pan" };
    const hit = this.roll.hit(x, y);
    if (!hit || !actions.canEdit()) return { kind: isTouch ? "pan" : "marquee", add };
    if (isNote(hit)) actions.sound(hit);
    const wasSelected = actions.isSelected(hit.id);
    if (!wasSelected || add) actions.select([hit.id], add);
    return { kind: isTouch && !wasSelected ? "pan" : "move", hit };
  }

  /** The fixed end of the span that a drag on the ruler selects: the other edge if it starts on one. */
  #anchor(x, reach) {
    const { span } = this.roll, { view } = this;
    const edge = span?.findIndex((seconds) => Math.abs(view.x(seconds) - x) <= reach) ?? -1;
    return edge < 0 ? Math.max(0, view.seconds(x)) : span[1 - edge];
  }

  #spread() {
    const [[ax, ay], [bx, by]] = [...this.#down.values()];
    return { distance: Math.max(Math.hypot(ax - bx, ay - by), 10), middle: (ax + bx) / 2 };
  }

  // --- move ------------------------------------------------------------------------------------------------------

  #move(event) {
    const [x, y] = this.#position(event), drag = this.#drag;
    if (!this.#down.has(event.pointerId)) { this.#hover(x, y); return; }
    this.#down.set(event.pointerId, [x, y]);
    if (!drag) return;
    if (drag.kind === "pinch") { this.#pinch(drag); return; }
    if (!drag.moved && Math.hypot(x - drag.x, y - drag.y) < CLICK) return;
    drag.moved = true;
    this.#dragTo(drag, x, y);
    Object.assign(drag, { lastX: x, lastY: y });
  }

  #pinch(drag) {
    if (this.#down.size < 2) return;
    const now = this.#spread();
    this.roll.zoom(now.distance / drag.distance, now.middle, true);
    this.roll.scroll(drag.middle - now.middle, 0, true);
    Object.assign(drag, now);
  }

  #dragTo(drag, x, y) {
    const { roll, view, actions } = this;
    if (drag.kind === "pan") { roll.scroll(drag.lastX - x, (y - drag.lastY) / view.row, true); return; }
    if (drag.kind === "move") { this.#moveEvents(drag, x, y, false); return; }
    if (x > view.width - SCROLL_ZONE) roll.scroll(SCROLL_STEP);
    else if (x < view.left + 8 && view.t0 > 0) roll.scroll(-SCROLL_STEP);
    if (drag.kind === "span") { actions.setSpan(drag.anchor, Math.max(0, view.seconds(x))); return; }
    roll.marquee = [Math.min(x, drag.x), Math.min(y, drag.y), Math.abs(x - drag.x), Math.abs(y - drag.y)];
    roll.redraw("overlay");
  }

  #moveEvents(drag, x, y, final) {
    this.actions.move((x - drag.x) / this.view.pps, Math.round((drag.y - y) / this.view.row), final);
  }

  #hover(x, y) {
    const { view, roll, canvas } = this;
    if (y < view.top) {
      canvas.style.cursor = roll.span?.some((seconds) => Math.abs(view.x(seconds) - x) <= EDGE) ? "ew-resize" : "text";
    } else canvas.style.cursor = x > view.left && roll.hit(x, y) ? "grab" : "crosshair";
  }

  // --- end -------------------------------------------------------------------------------------------------------

  #end(event) {
    const drag = this.#drag;
    if (!this.#down.delete(event.pointerId) || !drag) return;
    if (drag.kind === "pinch") { if (!this.#down.size) this.#drag = null; return; }
    const [x, y] = this.#position(event);
    this.#clear();
    if (!drag.moved) this.#click(drag, x);
    else if (drag.kind === "move") this.#moveEvents(drag, x, y, true);
    else if (drag.kind === "marquee") this.#selectInside(drag, x, y);
  }

  #cancel(event) {
    this.#down.delete(event.pointerId);
    this.#clear();
    this.actions.move(0, 0, true);
  }

  #clear() {
    this.#drag = null;
    this.roll.marquee = null;
    this.roll.redraw("overlay");
  }

  #click(drag, x) {
    if (drag.hit) return;
    if (x >= this.view.left) this.actions.seek(Math.max(0, this.view.seconds(x)));
    if (drag.kind !== "span" && !drag.add) this.actions.clear();
  }

  /** Select the span of a rectangle, and the events that begin in it. */
  #selectInside(drag, x, y) {
    const { view, actions } = this, [from, to] = [Math.min(x, drag.x), Math.max(x, drag.x)].map((each) => view.seconds(each));
    const above = Math.min(y, drag.y), below = Math.max(y, drag.y), ids = [];
    for (const e of this.roll.events) {
      if (e.onset >= to) break;
      const [top, height] = isNote(e) ? [view.y(e.key), view.row] : [view.lane(e.key), view.laneHeight];
      if (e.onset >= from && top + height > above && top < below) ids.push(e.id);
    }
    actions.select(ids, drag.add);
    actions.setSpan(Math.max(0, from), Math.max(0, to));
  }

  #wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1, [x] = this.#position(event), { roll, view } = this;
    if (event.ctrlKey || event.metaKey) roll.zoom(Math.exp(-event.deltaY * unit * (event.deltaMode ? 0.01 : 0.004)), x);
    else if (event.shiftKey) roll.scroll(0, -(event.deltaY || event.deltaX) * unit / view.row);
    else roll.scroll((event.deltaX + event.deltaY) * unit);
  }
}
