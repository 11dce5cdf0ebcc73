// Drawing the roll: the ground with keyboard and ruler, the strokes, and what lies over them.
import { after } from "./shelf.js";
import { clock, HIGHEST, LOWEST, PEDALS } from "./piece.js";

const BLACK = new Set([1, 3, 6, 8, 10]);
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
const NAMES = ["paper", "paper-black", "line", "line-strong", "ink", "ink-soft", "key-white", "key-black", "key-ink", "accent",
  "accent-soft", "playhead", "band", "pedal-given", "pedal-made",
  ...["given", "made"].flatMap((role) => Array.from({ length: 8 }, (_, i) => `${role}-${i}`))];

/** The colours of the style sheet as they are now, dark or light. */
export function colours(element) {
  const probe = document.createElement("span"), found = {};
  element.append(probe);
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

export function paintGround(ctx, view, colour, band) {
  const { width, height, left, top, bottom } = view;
  ctx.fillStyle = colour.paper;
  ctx.fillRect(0, 0, width, height);
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width - left, bottom - top);
  ctx.clip();
  ctx.fillStyle = colour["paper-black"];
  for (let key = LOWEST; key <= HIGHEST; key++) {
    if (BLACK.has(key % 12)) ctx.fillRect(left, view.y(key), width - left, view.row);
  }
  ctx.fillStyle = colour["line-strong"];
  for (let key = 24; key <= HIGHEST; key += 12) ctx.fillRect(left, Math.round(view.y(key) + view.row) - 0.5, width, 1);
  ctx.restore();
  paintGrid(ctx, view, colour);
  if (band) {
    ctx.fillStyle = colour.band;
    const x = Math.max(view.x(band[0]), left);
    ctx.fillRect(x, top, Math.max(view.x(band[1]) - x, 0), height - top);
  }
}

function paintGrid(ctx, view, colour) {
  const { width, height, left, top } = view;
  const step = STEPS.find((each) => each * view.pps >= 64) ?? 1200;
  ctx.font = "11px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  for (let i = Math.max(0, Math.floor(view.t0 / step)); i * step <= view.t1; i++) {
    const x = Math.round(view.x(i * step));
    if (x < left) continue;
    ctx.fillStyle = colour.line;
    ctx.fillRect(x, top, 1, height - top);
    ctx.fillRect(x, top - 7, 1, 7);
    ctx.fillStyle = colour["ink-soft"];
    ctx.fillText(clock(i * step, step < 1 ? 1 : 0), x + 4, top / 2);
  }
  ctx.fillStyle = colour["line-strong"];
  ctx.fillRect(left, top - 1, width, 1);
}

/** All strokes of shelves that are in sight. Far out, what falls on a painted pixel is not painted again. */
export function paintStrokes(ctx, view, colour, shelves) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(view.left, view.top, view.width - view.left, view.height - view.top);
  ctx.clip();
  for (const shelf of shelves) {
    ctx.fillStyle = colour[shelf.colour];
    const first = after(shelf.reach, view.t0), last = after(shelf.on, view.t1);
    if (shelf.pedals) paintPedals(ctx, view, shelf, first, last);
    else if (last - first < 1500 && view.row >= 5) paintRound(ctx, view, shelf, first, last);
    else paintPlain(ctx, view, shelf, first, last);
  }
  ctx.restore();
}

function paintRound(ctx, view, shelf, first, last) {
  const height = Math.max(view.row - 1, 2);
  ctx.beginPath();
  for (let i = first; i < last; i++) {
    const y = view.y(shelf.key[i]);
    if (y < view.top - height || y > view.bottom) continue;
    const x = view.x(shelf.on[i]), width = Math.max((shelf.end[i] - shelf.on[i]) * view.pps - 0.75, 2);
    ctx.roundRect(x, y + 0.5, width, height, Math.min(2.5, width / 2, height / 2));
  }
  ctx.fill();
}

const painted = new Float64Array(128);

function paintPlain(ctx, view, shelf, first, last) {
  const height = Math.max(Math.round(view.row - (view.row > 4 ? 1 : 0)), 2); // whole pixels are drawn fastest
  painted.fill(-1);
  for (let i = first; i < last; i++) {
    const key = shelf.key[i], right = Math.ceil(view.x(shelf.end[i]));
    if (right <= painted[key]) continue;
    const y = Math.round(view.y(key));
    if (y < view.top - height || y > view.bottom) continue;
    const x = Math.max(Math.floor(view.x(shelf.on[i])), painted[key]);
    painted[key] = Math.max(right, x + 1);
    ctx.fillRect(x, y, painted[key] - x, height);
  }
}

function paintPedals(ctx, view, shelf, first, last) {
  const right = [-1, -1, -1];
  for (let i = first; i < last; i++) {
    const key = shelf.key[i], end = view.x(shelf.end[i]);
    if (end < right[key] + 0.5) continue;
    const x = Math.max(view.x(shelf.on[i]), right[key]);
    ctx.fillRect(x, view.lane(key) + 2, Math.max(end - x - 0.75, 1), view.laneHeight - 4);
    right[key] = end;
  }
}

export function paintChosen(ctx, view, colour, chosen) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(view.left, view.top, view.width - view.left, view.height - view.top);
  ctx.clip();
  ctx.fillStyle = colour.accent;
  ctx.strokeStyle = colour.ink;
  const outlined = chosen.length < 2000;
  for (const s of chosen) {
    if (s.on > view.t1 || s.on + s.dur < view.t0) continue;
    const y = s.key < 3 ? view.lane(s.key) + 2 : view.y(s.key), height = s.key < 3 ? view.laneHeight - 4 : view.row;
    const x = view.x(s.on), width = Math.max(s.dur * view.pps, 2);
    ctx.fillRect(x, y, width, height);
    if (outlined) ctx.strokeRect(x + 0.5, y + 0.5, Math.max(width - 1, 1), Math.max(height - 1, 1));
  }
  ctx.restore();
}

const blackWidth = (left) => left * (left < 50 ? 0.5 : 0.62); // so that the names of the Cs find room

/** The frame over everything: keyboard, lanes' names. */
export function paintFrame(ctx, view, colour) {
  const { left, top, bottom, height, width } = view;
  ctx.save();
  ctx.beginPath();
  ctx.rect(0, top, left, bottom - top);
  ctx.clip();
  ctx.fillStyle = colour["key-white"];
  ctx.fillRect(0, top, left, bottom - top);
  for (let key = LOWEST; key <= HIGHEST; key++) {
    const y = view.y(key), black = BLACK.has(key % 12);
    if (y > bottom || y + view.row < top) continue;
    if (black) {
      ctx.fillStyle = colour["key-black"];
      ctx.fillRect(0, y, blackWidth(left), view.row);
    }
    if (key % 12 === 0 || key % 12 === 5) {
      ctx.fillStyle = colour.line;
      ctx.fillRect(0, Math.round(y + view.row) - 0.5, left, 1);
    }
    if (key % 12 === 0) {
      ctx.fillStyle = colour["key-ink"];
      ctx.font = `${Math.min(11, Math.max(8, view.row + 3))}px system-ui, sans-serif`;
      ctx.textAlign = "right";
      ctx.textBaseline = "middle";
      ctx.fillText(`C${key / 12 - 1}`, left - 4, y + view.row / 2);
    }
  }
  ctx.restore();
  ctx.fillStyle = colour.paper;
  ctx.fillRect(0, bottom, left, height - bottom);
  ctx.fillRect(0, 0, left, top);
  ctx.fillStyle = colour["line-strong"];
  ctx.fillRect(left - 1, 0, 1, height);
  ctx.fillRect(0, bottom, width, 1);
  ctx.fillStyle = colour["ink-soft"];
  ctx.font = "9px system-ui, sans-serif";
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  const names = left < 50 ? ["sust", "sost", "una c"] : PEDALS;
  names.forEach((name, i) => ctx.fillText(name, 3, view.lane(i) + view.laneHeight / 2));
}

/** What moves without the notes: selected span, gap, marquee, playhead. */
export function paintOver(ctx, view, colour, { span, marquee, playhead, loop, down, band }) {
  const { width, height, left, top, bottom } = view;
  ctx.clearRect(0, 0, width, height);
  ctx.fillStyle = colour.playhead;
  for (const key of down) { // keys that sound
    const y = Math.max(view.y(key), top);
    if (y < bottom) ctx.fillRect(0, y, BLACK.has(key % 12) ? blackWidth(left) : left - 1, view.row);
  }
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, 0, width - left, height);
  ctx.clip();
  if (span) {
    const x = view.x(span[0]), right = view.x(span[1]);
    if (!band) { // while something is written there, its own ground shows where
      ctx.fillStyle = colour["accent-soft"];
      ctx.fillRect(x, 0, right - x, height);
    }
    ctx.fillStyle = colour.accent;
    ctx.fillRect(x, 0, 1.5, height);
    ctx.fillRect(right - 1.5, 0, 1.5, height);
    ctx.fillRect(x, 0, right - x, loop ? 5 : 2);
    for (const edge of [x, right]) { // handles to drag
      ctx.beginPath();
      ctx.roundRect(edge - 4, 4, 8, top - 8, 3);
      ctx.fill();
    }
  }
  if (marquee) {
    ctx.strokeStyle = colour.accent;
    ctx.setLineDash([4, 3]);
    ctx.strokeRect(...marquee);
    ctx.setLineDash([]);
  }
  if (playhead !== null) {
    const x = view.x(playhead);
    ctx.fillStyle = colour.playhead;
    ctx.fillRect(x - 0.75, top - 8, 1.5, height);
    ctx.beginPath();
    ctx.moveTo(x - 6, top - 12);
    ctx.lineTo(x + 6, top - 12);
    ctx.lineTo(x, top - 2);
    ctx.fill();
  }
  ctx.restore();
}
