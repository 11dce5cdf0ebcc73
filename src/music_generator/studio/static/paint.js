// Painting the roll: the background with its grid, the events, the keyboard, and what lies over them.
import { firstAbove, NOTE_COLOURS, OTHER_COLOUR, PEDAL_COLOURS } from "./draw_lists.js";
import { HIGHEST, isNote, LOWEST, PEDALS } from "./piece.js";

const BLACK = new Set([1, 3, 6, 8, 10]); // keys of an octave
const FONT = "system-ui, sans-serif";
const COLOURS = ["paper", "paper-black", "line", "line-strong", "ink", "ink-soft", "key-white", "key-black", "key-ink", "accent",
  "accent-soft", "playhead", "band", "card", OTHER_COLOUR, ...NOTE_COLOURS, ...PEDAL_COLOURS];

/** @param {number} key */
const isBlack = (key) => BLACK.has(key % 12);

/** The colours of the style sheet as they are now, dark or light. @param {HTMLElement} element */
export function readColours(element) {
  const probe = document.createElement("span"), found = /** @type {Colours} */ ({});
  element.append(probe);
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

/** @param {Context2D} ctx @param {[number, number, number, number]} box @param {() => void} paint */
function clipped(ctx, [left, top, right, bottom], paint) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, right - left, bottom - top);
  ctx.clip();
  paint();
  ctx.restore();
}

/** @param {Context2D} ctx @param {string} font @param {CanvasTextAlign} align */
function setText(ctx, font, align) {
  Object.assign(ctx, { font: `${font} ${FONT}`, textAlign: align, textBaseline: "middle" });
}

// --- the background ----------------------------------------------------------------------------------------------

/** @param {Context2D} ctx @param {View} view @param {Colours} colour @param {Span | null} band @param {GridLine[]} lines */
export function paintBackground(ctx, view, colour, band, lines) {
  const { width, height, left, top, bottom } = view;
  ctx.fillStyle = colour.paper;
  ctx.fillRect(0, 0, width, height);
  clipped(ctx, [left, top, width, bottom], () => paintRows(ctx, view, colour));
  paintGrid(ctx, view, colour, lines);
  if (!band) return;
  ctx.fillStyle = colour.band;
  const x = Math.max(view.x(band[0]), left);
  ctx.fillRect(x, top, Math.max(view.x(band[1]) - x, 0), height - top);
}

/** @param {Context2D} ctx @param {View} view @param {Colours} colour */
function paintRows(ctx, view, colour) {
  const { left, width, row } = view;
  ctx.fillStyle = colour["paper-black"];
  for (let key = LOWEST; key <= HIGHEST; key++) if (isBlack(key)) ctx.fillRect(left, view.y(key), width - left, row);
  ctx.fillStyle = colour["line-strong"];
  for (let key = 24; key <= HIGHEST; key += 12) ctx.fillRect(left, Math.round(view.y(key) + row) - 0.5, width, 1);
}

/** @param {Context2D} ctx @param {View} view @param {Colours} colour @param {GridLine[]} lines */
function paintGrid(ctx, view, colour, lines) {
  const { width, height, left, top } = view;
  setText(ctx, "11px", "left");
  for (const { seconds, label, strong } of lines) {
    const x = Math.round(view.x(seconds));
    if (x < left) continue;
    ctx.fillStyle = strong ? colour["line-strong"] : colour.line;
    ctx.fillRect(x, top, 1, height - top);
    if (!label) continue;
    ctx.fillRect(x, top - 7, 1, 7);
    ctx.fillStyle = colour["ink-soft"];
    ctx.fillText(label, x + 4, top / 2);
  }
  ctx.fillStyle = colour["line-strong"];
  ctx.fillRect(left, top - 1, width, 1);
}

// --- events ------------------------------------------------------------------------------------------------------

/** Paint the events in sight; notes stay above the pedal lanes.
 * @param {Context2D} ctx @param {PaintView} view @param {Colours} colour @param {DrawList[]} lists */
export function paintEvents(ctx, view, colour, lists) {
  /** @param {boolean} isPedal @param {number} bottom */
  const paint = (isPedal, bottom) => clipped(ctx, [view.left, view.top, view.width, bottom], () => {
    for (const list of lists) {
      if (list.isPedal !== isPedal) continue;
      ctx.fillStyle = colour[list.colour];
      const first = firstAbove(list.reach, view.t0), last = firstAbove(list.onset, view.t1);
      if (isPedal) paintPedals(ctx, view, list, first, last);
      else if (last - first < 1500 && view.row >= 5) paintRounded(ctx, view, list, first, last);
      else paintPlain(ctx, view, list, first, last);
    }
  });
  paint(false, view.bottom);
  paint(true, view.height);
}

/** @type {PaintList} */
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

/** Paint notes as plain rectangles, without those that are hidden by painted ones. Whole pixels are the fastest.
 * @type {PaintList} */
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

/** @type {PaintList} */
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

/** The rectangle of an event in pixels. @param {View} view @param {MusicEvent} e @returns {[number, number, number, number]} */
function boxOf(view, e) {
  const [y, height] = isNote(e) ? [view.y(e.key), view.row] : [view.lane(e.key) + 2, view.laneHeight - 4];
  return [view.x(e.onset), y, Math.max(e.duration * view.pps, 3), height];
}

/** @param {View} view @param {MusicEvent} e */
const inSight = (view, e) => e.onset <= view.t1 && e.onset + e.duration >= view.t0;

/** Paint frames round the selected events, which keep their colours. @param {Context2D} ctx @param {View} view @param {Colours} colour @param {MusicEvent[]} selected */
export function paintSelected(ctx, view, colour, selected) {
  const isFramed = selected.length < 2000;
  /** @param {MusicEvent[]} events @param {number} bottom */
  const paint = (events, bottom) => clipped(ctx, [view.left, view.top, view.width, bottom], () => {
    ctx.strokeStyle = colour.accent;
    ctx.fillStyle = isFramed ? colour["accent-soft"] : colour.accent;
    ctx.lineWidth = 2;
    for (const e of events) {
      if (!inSight(view, e)) continue;
      const [x, y, width, height] = boxOf(view, e);
      ctx.fillRect(x, y, width, height);
      if (isFramed) ctx.strokeRect(x, y, width, height);
    }
    ctx.lineWidth = 1;
  });
  paint(selected.filter(isNote), view.bottom);
  paint(selected.filter((e) => !isNote(e)), view.height);
}

/** Paint where dragged events were. @param {Context2D} ctx @param {View} view @param {Colours} colour @param {MusicEvent[]} ghosts */
export function paintGhosts(ctx, view, colour, ghosts) {
  clipped(ctx, [view.left, view.top, view.width, view.height], () => {
    ctx.strokeStyle = colour["ink-soft"];
    ctx.setLineDash([3, 3]);
    for (const e of ghosts.slice(0, 2000)) if (inSight(view, e)) ctx.strokeRect(...boxOf(view, e));
    ctx.setLineDash([]);
  });
}

const MANY_BARS = 800; // from which on each column of pixels has one bar, of its loudest note
const columns = new Float32Array(8192), owners = new Uint8Array(8192); // the loudest note of each column, and its list

/** Paint a bar for the velocity of each note. @param {Context2D} ctx @param {View} view @param {Colours} colour @param {DrawList[]} lists @param {MusicEvent[]} selected */
export function paintVelocities(ctx, view, colour, lists, selected) {
  if (!view.velocityHeight) return;
  const notes = lists.filter((list) => !list.isPedal);
  clipped(ctx, [view.left, view.velocityTop, view.width, view.height], () => {
    const inView = notes.map((list) => ({ list, first: firstAbove(list.onset, view.t0 - 4 / view.pps), last: firstAbove(list.onset, view.t1) }));
    if (inView.reduce((sum, { first, last }) => sum + last - first, 0) < MANY_BARS) paintEachVelocity(ctx, view, colour, inView);
    else paintLoudest(ctx, view, colour, inView);
    if (selected.length >= 2000) return;
    ctx.fillStyle = colour.accent;
    for (const e of selected) if (isNote(e) && inSight(view, e)) paintVelocityBar(ctx, view, view.x(e.onset), e.velocity);
  });
}

/** @typedef {{list: DrawList, first: number, last: number}} InView the events of a list from `first` up to `last` */

/** @param {Context2D} ctx @param {View} view @param {Colours} colour @param {InView[]} inView */
function paintEachVelocity(ctx, view, colour, inView) {
  for (const { list, first, last } of inView) {
    ctx.fillStyle = colour[list.colour];
    for (let i = first; i < last; i++) paintVelocityBar(ctx, view, view.x(list.onset[i]), list.velocity[i]);
  }
}

/** Paint one bar for each column of pixels. @param {Context2D} ctx @param {View} view @param {Colours} colour @param {InView[]} inView */
function paintLoudest(ctx, view, colour, inView) {
  columns.fill(0);
  inView.forEach(({ list, first, last }, number) => {
    for (let i = first; i < last; i++) {
      const x = Math.max(0, Math.round(view.x(list.onset[i])));
      if (list.velocity[i] > columns[x]) { columns[x] = list.velocity[i]; owners[x] = number; }
    }
  });
  inView.forEach(({ list }, number) => {
    ctx.fillStyle = colour[list.colour];
    for (let x = 0; x < view.width; x++) {
      if (columns[x] && owners[x] === number) { const y = view.velocityY(columns[x]); ctx.fillRect(x, y, 1, view.height - y); }
    }
  });
}

/** @param {Context2D} ctx @param {View} view @param {number} x @param {number} velocity */
function paintVelocityBar(ctx, view, x, velocity) {
  const y = view.velocityY(velocity);
  ctx.fillRect(x - 0.5, y, 2, view.height - y);
  ctx.fillRect(x - 2, y, 5, 3);
}

// --- the frame ---------------------------------------------------------------------------------------------------

/** @param {number} left */
const isNarrow = (left) => left < 50;
/** Leaves room for the names of the Cs. @param {number} left */
const blackWidth = (left) => left * (isNarrow(left) ? 0.5 : 0.62);

/** Paint the keyboard and the names of the lanes over the events, and how many notes are `hidden` above and below.
 * @param {Context2D} ctx @param {View} view @param {Colours} colour @param {{above: number, below: number}} hidden */
export function paintFrame(ctx, view, colour, hidden) {
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
  if (view.velocityHeight) {
    ctx.fillText(isNarrow(left) ? "vel" : "velocity", 3, view.velocityTop + 9);
    ctx.fillStyle = colour["line-strong"];
    ctx.fillRect(0, view.velocityTop - 2, width, 1);
  }
  if (hidden.above) paintHidden(ctx, view, colour, `▲ ${hidden.above}`, top + 11);
  if (hidden.below) paintHidden(ctx, view, colour, `▼ ${hidden.below}`, bottom - 10);
}

/** @param {Context2D} ctx @param {View} view @param {Colours} colour @param {string} text @param {number} y */
function paintHidden(ctx, view, colour, text, y) {
  setText(ctx, "600 11px", "left");
  const width = ctx.measureText(text).width + 14, x = view.left + 6;
  ctx.fillStyle = colour.ink;
  ctx.beginPath();
  ctx.roundRect(x, y - 9, width, 18, 9);
  ctx.fill();
  ctx.fillStyle = colour.paper;
  ctx.fillText(text, x + 7, y + 0.5);
}

/** @param {Context2D} ctx @param {View} view @param {Colours} colour */
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

/** Paint what moves without the notes: sounding keys, the span, the selection rectangle, the playhead, a gesture's tip.
 * @param {Context2D} ctx @param {View} view @param {Colours} colour @param {Overlay} overlay */
export function paintOverlay(ctx, view, colour, { span, marquee, playhead, loop, sounding, band, tip, hovered }) {
  const { width, height, left } = view;
  ctx.clearRect(0, 0, width, height);
  paintSounding(ctx, view, colour, sounding);
  clipped(ctx, [left, 0, width, height], () => {
    if (span) paintSpan(ctx, view, colour, span, { loop, filled: !band }); // what is being written has its own band
    if (hovered) { ctx.strokeStyle = colour.ink; ctx.strokeRect(...boxOf(view, hovered)); }
    if (marquee) paintMarquee(ctx, view, colour, marquee);
    if (playhead !== null) paintPlayhead(ctx, view, colour, playhead);
    if (tip) paintTip(ctx, view, colour, tip);
  });
}

/** @param {Context2D} ctx @param {View} view @param {Colours} colour @param {number[]} keys */
function paintSounding(ctx, view, colour, keys) {
  const { left, top, bottom, row } = view;
  ctx.fillStyle = colour.playhead;
  for (const key of keys) {
    const y = Math.max(view.y(key), top);
    if (y < bottom) ctx.fillRect(0, y, isBlack(key) ? blackWidth(left) : left - 1, row);
  }
}

/** @param {Context2D} ctx @param {View} view @param {Colours} colour @param {Span} span @param {{loop: boolean, filled: boolean}} how */
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

/** @param {Context2D} ctx @param {View} view @param {Colours} colour @param {Marquee} marquee */
function paintMarquee(ctx, view, colour, { from, row, to, toRow }) {
  const x = view.x(Math.min(from, to)), y = view.y(Math.max(row, toRow));
  ctx.strokeStyle = colour.accent;
  ctx.setLineDash([4, 3]);
  ctx.strokeRect(x, y, Math.abs(to - from) * view.pps, Math.abs(toRow - row) * view.row);
  ctx.setLineDash([]);
}

/** What a drag does so far, beside the pointer. @param {Context2D} ctx @param {View} view @param {Colours} colour @param {Tip} tip */
function paintTip(ctx, view, colour, { x, y, text }) {
  setText(ctx, "12px", "left");
  const width = ctx.measureText(text).width + 14, left = Math.min(x + 14, view.width - width - 4), top = Math.max(y - 26, 2);
  ctx.fillStyle = colour.ink;
  ctx.beginPath();
  ctx.roundRect(left, top, width, 20, 6);
  ctx.fill();
  ctx.fillStyle = colour.paper;
  ctx.fillText(text, left + 7, top + 10.5);
}

/** @param {Context2D} ctx @param {View} view @param {Colours} colour @param {number} seconds */
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
