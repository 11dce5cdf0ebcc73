// Mouse, pen and fingers on the roll. A mouse draws a rectangle to select, a finger scrolls and two fingers zoom;
// on the ruler both select a span.

const EDGE = 9, STILL = 4; // pixels: how near an edge is taken, and up to where a press is a click

export function listen(roll, actions) {
  const canvas = roll.over, { view } = roll, fingers = new Map();
  let drag = null;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  function begin(event) {
    const [x, y] = place(event), touch = event.pointerType === "touch";
    if (event.button > 0) return;
    canvas.setPointerCapture?.(event.pointerId);
    fingers.set(event.pointerId, [x, y]);
    if (fingers.size === 2) { drag = { kind: "pinch", ...spread() }; return; }
    drag = { ...kindOf(x, y, touch, event), x, y, lastX: x, lastY: y, moved: false, at: event.pointerId };
  }

  function kindOf(x, y, touch, event) {
    const { span } = roll, add = event.shiftKey || event.ctrlKey || event.metaKey;
    if (y < view.top) {
      const edge = span && [0, 1].find((i) => Math.abs(view.x(span[i]) - x) <= (touch ? 2 * EDGE : EDGE));
      if (span && edge !== undefined) return { kind: "span", anchor: span[1 - edge] };
      return { kind: "span", anchor: Math.max(0, view.seconds(x)) };
    }
    if (x < view.left) return { kind: "pan" };
    const hit = roll.hit(x, y);
    if (hit && actions.canEdit()) {
      const was = actions.isChosen(hit.id);
      if (!was || add) actions.choose([hit.id], add);
      return { kind: touch && !was ? "pan" : "move", hit };
    }
    return { kind: touch ? "pan" : "marquee", add };
  }

  function spread() {
    const [[ax, ay], [bx, by]] = [...fingers.values()];
    return { wide: Math.max(Math.hypot(ax - bx, ay - by), 10), middle: (ax + bx) / 2 };
  }

  function move(event) {
    const [x, y] = place(event);
    if (!fingers.has(event.pointerId)) { hover(x, y); return; }
    fingers.set(event.pointerId, [x, y]);
    if (!drag) return;
    if (drag.kind === "pinch") {
      if (fingers.size < 2) return;
      const now = spread();
      roll.zoom(now.wide / drag.wide, now.middle, true);
      roll.scroll(drag.middle - now.middle, 0, true);
      Object.assign(drag, now);
      return;
    }
    if (!drag.moved && Math.hypot(x - drag.x, y - drag.y) < STILL) return;
    drag.moved = true;
    dragged(x, y);
    Object.assign(drag, { lastX: x, lastY: y });
  }

  function dragged(x, y) {
    if (drag.kind === "pan") { roll.scroll(drag.lastX - x, (y - drag.lastY) / view.row, true); return; }
    if (drag.kind === "move") {
      actions.move((x - drag.x) / view.pps, Math.round((drag.y - y) / view.row), false);
      return;
    }
    if (x > view.width - 24) roll.scroll(14); else if (x < view.left + 8 && view.t0 > 0) roll.scroll(-14);
    const seconds = Math.max(0, view.seconds(x));
    if (drag.kind === "span") { actions.setSpan(drag.anchor, seconds); return; }
    roll.marquee = [Math.min(x, drag.x), Math.min(y, drag.y), Math.abs(x - drag.x), Math.abs(y - drag.y)];
    roll.redraw("over");
  }

  function end(event) {
    if (!fingers.delete(event.pointerId) || !drag) return;
    const [x, y] = place(event), done = drag;
    if (done.kind === "pinch") { if (!fingers.size) drag = null; return; }
    drag = null;
    roll.marquee = null;
    roll.redraw("over");
    if (!done.moved) { clicked(done, x); return; }
    if (done.kind === "move") actions.move((x - done.x) / view.pps, Math.round((done.y - y) / view.row), true);
    if (done.kind === "marquee") enclosed(done, x, y);
  }

  function clicked(done, x) {
    if (done.hit) return;
    if (x >= view.left) actions.seek(Math.max(0, view.seconds(x)));
    if (done.kind !== "span" && !done.add) actions.clear();
  }

  /** The span of a rectangle, and the strokes that begin in it. */
  function enclosed(done, x, y) {
    const [from, to] = [view.seconds(Math.min(x, done.x)), view.seconds(Math.max(x, done.x))];
    const above = Math.min(y, done.y), below = Math.max(y, done.y), ids = [];
    for (const s of roll.strokes) {
      if (s.on >= to) break;
      const at = s.key < 3 ? view.lane(s.key) : view.y(s.key), high = s.key < 3 ? view.laneHeight : view.row;
      if (s.on >= from && at + high > above && at < below) ids.push(s.id);
    }
    actions.choose(ids, done.add);
    actions.setSpan(Math.max(0, from), Math.max(0, to));
  }

  function hover(x, y) {
    const { span } = roll;
    if (y < view.top) {
      canvas.style.cursor = span?.some((t) => Math.abs(view.x(t) - x) <= EDGE) ? "ew-resize" : "text";
    } else canvas.style.cursor = x > view.left && roll.hit(x, y) ? "grab" : "crosshair";
  }

  function wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1, [x] = place(event);
    if (event.ctrlKey || event.metaKey) roll.zoom(Math.exp(-event.deltaY * unit * (event.deltaMode ? 0.01 : 0.004)), x);
    else if (event.shiftKey) roll.scroll(0, -(event.deltaY || event.deltaX) * unit / view.row);
    else roll.scroll((event.deltaX + event.deltaY) * unit);
  }

  canvas.addEventListener("pointerdown", begin);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", (event) => {
    fingers.delete(event.pointerId);
    drag = null;
    roll.marquee = null;
    actions.move(0, 0, true);
  });
  canvas.addEventListener("wheel", wheel, { passive: false });
}
