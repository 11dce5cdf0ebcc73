// Painting the roll: the background with its grid, the events, the keyboard, and what lies over them.
import { firstAbove, NOTE_COLOURS, PEDAL_COLOURS } from "./draw_lists.js";
import { clock, HIGHEST, isNote, LOWEST, PEDALS } from "./piece.js";

const BLACK = new Set([1, 3, 6, 8, 10]); // keys of an octave
const GRID_SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
const FONT = "system-ui, sans-serif";
const COLOURS = ["paper", "paper-black", "line", "line-strong", "ink", "ink-soft", "key-white", "key-black", "key-ink", "accent",
  "accent-soft", "playhead", "band", ...NOTE_COLOURS, ...PEDAL_COLOURS];

const isBlack = (key) => BLACK.has(key % 12);

/** The colours of the style sheet as they are now, dark or light. */
export function readColours(element) {
  const probe = document.createElement("span"), found = {};
  element.append(probe);
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

function clipped(ctx, [left, top, right, bottom], paint) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, right - left, bottom - top);
  ctx.clip();
  paint();
  ctx.restore();
}

function setText(ctx, font, align) {
  Object.assign(ctx, { font: `${font} ${FONT}`, textAlign: align, textBaseline: "middle" });
}

// --- the background ----------------------------------------------------------------------------------------------

export function paintBackground(ctx, view, colour, band) {
  const { width, height, left, top, bottom } = view;
  ctx.fillStyle = colour.paper;
  ctx.fillRect(0, 0, width, height);
  clipped(ctx, [left, top, width, bottom], () => paintRows(ctx, view, colour));
  paintGrid(ctx, view, colour);
  if (!band) return;
  ctx.fillStyle = colour.band;
  const x = Math.max(view.x(band[0]), left);
  ctx.fillRect(x, top, Math.max(view.x(band[1]) - x, 0), height - top);
}

function paintRows(ctx, view, colour) {
  const { left, width, row } = view;
  ctx.fillStyle = colour["paper-black"];
  for (let key = LOWEST; key <= HIGHEST; key++) if (isBlack(key)) ctx.fillRect(left, view.y(key), width - left, row);
  ctx.fillStyle = colour["line-strong"];
  for (let key = 24; key <= HIGHEST; key += 12) ctx.fillRect(left, Math.round(view.y(key) + row) - 0.5, width, 1);
}

function paintGrid(ctx, view, colour) {
  const { width, height, left, top } = view;
  const step = GRID_SECONDS.find((each) => each * view.pps >= 64) ?? 1200;
  setText(ctx, "11px", "left");
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

// --- events ------------------------------------------------------------------------------------------------------

/** Paint the events in sight. */
export function paintEvents(ctx, view, colour, lists) {
  clipped(ctx, [view.left, view.top, view.width, view.height], () => {
    for (const list of lists) {
      ctx.fillStyle = colour[list.colour];
      const first = firstAbove(list.reach, view.t0), last = firstAbove(list.onset, view.t1);
      if (list.isPedal) paintPedals(ctx, view, list, first, last);
      else if (last - first < 1500 && view.row >= 5) paintRounded(ctx, view, list, first, last);
      else paintPlain(ctx, view, list, first, last);
    }
  });
}

function paintRounded(ctx, view, list, first, last) {
  const height = Math.max(view.row - 1, 2);
  ctx.beginPath();
  for (let i = first; i < last; i++) {
    const y = view.y(list.key[i]);
    if (y < view.top - height || y > view.bottom) continue;
    const x = view.x(list.onset[i]), width = Math.max((list.end[i] - list.onset[i]) * view.pps - 0.75, 2);
    ctx.roundRect(x, y + 0.5, width, height, Math.min(2.5, width / 2, height / 2));
  }
  ctx.fill();
}

const paintedTo = new Float64Array(128); // the right edge of what is painted so far, of each key

/** Paint notes as plain rectangles, without those that are hidden by painted ones. Whole pixels are the fastest. */
function paintPlain(ctx, view, list, first, last) {
  const height = Math.max(Math.round(view.row - (view.row > 4 ? 1 : 0)), 2);
  paintedTo.fill(-1);
  for (let i = first; i < last; i++) {
    const key = list.key[i], right = Math.ceil(view.x(list.end[i]));
    if (right <= paintedTo[key]) continue;
    const y = Math.round(view.y(key));
    if (y < view.top - height || y > view.bottom) continue;
    const x = Math.max(Math.floor(view.x(list.onset[i])), paintedTo[key]);
    paintedTo[key] = Math.max(right, x + 1);
    ctx.fillRect(x, y, paintedTo[key] - x, height);
  }
}

function paintPedals(ctx, view, list, first, last) {
  const right = PEDALS.map(() => -1);
  for (let i = first; i < last; i++) {
    const key = list.key[i], end = view.x(list.end[i]);
    if (end < right[key] + 0.5) continue;
    const x = Math.max(view.x(list.onset[i]), right[key]);
    ctx.fillRect(x, view.lane(key) + 2, Math.max(end - x - 0.75, 1), view.laneHeight - 4);
    right[key] = end;
  }
}

export function paintSelected(ctx, view, colour, selected) {
  const outlined = selected.length < 2000;
  clipped(ctx, [view.left, view.top, view.width, view.height], () => {
    ctx.fillStyle = colour.accent;
    ctx.strokeStyle = colour.ink;
    for (const e of selected) {
      if (e.onset > view.t1 || e.onset + e.duration < view.t0) continue;
      const [y, height] = isNote(e) ? [view.y(e.key), view.row] : [view.lane(e.key) + 2, view.laneHeight - 4];
      const x = view.x(e.onset), width = Math.max(e.duration * view.pps, 2);
      ctx.fillRect(x, y, width, height);
      if (outlined) ctx.strokeRect(x + 0.5, y + 0.5, Math.max(width - 1, 1), Math.max(height - 1, 1));
    }
  });
}

// --- the frame ---------------------------------------------------------------------------------------------------

const isNarrow = (left) => left < 50;
const blackWidth = (left) => left * (isNarrow(left) ? 0.5 : 0.62); // leaves room for the names of the Cs

/** Paint the keyboard and the names of the pedal lanes over the events. */
export function paintFrame(ctx, view, colour) {
  const { left, top, bottom, height, width } = view;
  clipped(ctx, [0, top, left, bottom], () => paintKeyboard(ctx, view, colour));
  ctx.fillStyle = colour.paper;
  ctx.fillRect(0, bottom, left, height - bottom);
  ctx.fillRect(0, 0, left, top);
  ctx.fillStyle = colour["line-strong"];
  ctx.fillRect(left - 1, 0, 1, height);
  ctx.fillRect(0, bottom, width, 1);
  ctx.fillStyle = colour["ink-soft"];
  setText(ctx, "9px", "left");
  const names = isNarrow(left) ? ["sust", "sost", "una c"] : PEDALS;
  names.forEach((name, i) => ctx.fillText(name, 3, view.lane(i) + view.laneHeight / 2));
}

function paintKeyboard(ctx, view, colour) {
  const { left, top, bottom, row } = view;
  ctx.fillStyle = colour["key-white"];
  ctx.fillRect(0, top, left, bottom - top);
  setText(ctx, `${Math.min(11, Math.max(8, row + 3))}px`, "right");
  for (let key = LOWEST; key <= HIGHEST; key++) {
    const y = view.y(key), isC = key % 12 === 0;
    if (isBlack(key)) {
      ctx.fillStyle = colour["key-black"];
      ctx.fillRect(0, y, blackWidth(left), row);
    }
    if (isC || key % 12 === 5) { // below C and F there is no black key
      ctx.fillStyle = colour.line;
      ctx.fillRect(0, Math.round(y + row) - 0.5, left, 1);
    }
    if (isC) {
      ctx.fillStyle = colour["key-ink"];
      ctx.fillText(`C${key / 12 - 1}`, left - 4, y + row / 2);
    }
  }
}

// --- over the notes ----------------------------------------------------------------------------------------------

/** Paint what moves without the notes: sounding keys, the selected span, the selection rectangle, the playhead. */
export function paintOverlay(ctx, view, colour, { span, marquee, playhead, loop, sounding, band }) {
  const { width, height, left } = view;
  ctx.clearRect(0, 0, width, height);
  paintSounding(ctx, view, colour, sounding);
  clipped(ctx, [left, 0, width, height], () => {
    if (span) paintSpan(ctx, view, colour, span, { loop, filled: !band }); // what is being written has its own band
    if (marquee) paintMarquee(ctx, colour, marquee);
    if (playhead !== null) paintPlayhead(ctx, view, colour, playhead);
  });
}

function paintSounding(ctx, view, colour, keys) {
  const { left, top, bottom, row } = view;
  ctx.fillStyle = colour.playhead;
  for (const key of keys) {
    const y = Math.max(view.y(key), top);
    if (y < bottom) ctx.fillRect(0, y, isBlack(key) ? blackWidth(left) : left - 1, row);
  }
}

function paintSpan(ctx, view, colour, span, { loop, filled }) {
  const [x, right] = span.map((seconds) => view.x(seconds)), { height, top } = view;
  if (filled) {
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

function paintMarquee(ctx, colour, rectangle) {
  ctx.strokeStyle = colour.accent;
  ctx.setLineDash([4, 3]);
  ctx.strokeRect(...rectangle);
  ctx.setLineDash([]);
}

function paintPlayhead(ctx, view, colour, seconds) {
  const x = view.x(seconds), { top, height } = view;
  ctx.fillStyle = colour.playhead;
  ctx.fillRect(x - 0.75, top - 8, 1.5, height);
  ctx.beginPath();
  ctx.moveTo(x - 6, top - 12);
  ctx.lineTo(x + 6, top - 12);
  ctx.lineTo(x, top - 2);
  ctx.fill();
}
