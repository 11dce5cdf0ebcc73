// The pedals of a performance, put into the file that it was read from: music/splice_pedals.py. A span is [start, end] in ticks.
import { AFTER, BEFORE } from "./edits.js";
import { CONTROL } from "./midi_file.js";
import { PEDAL_CONTROLLERS, PRESSED, unreleased } from "./midi_tables.js";
import { searchSorted } from "./tempo_map.js";

const ticksOf = (rows) => rows.map(({ tick }) => tick), startsOf = (rows) => rows.map(({ start }) => start);

/** Let the presses of the pedals be other ones, where they differ or were rewritten. `messages` are those of the file,
 * `before` its presses in ticks, `after` those that shall be there. */
export function splicePedals(edits, source, messages, before, after) {
  const rewritten = merged(source.rewritten.map((span) => span.map((second) => source.tempoMap.firstTickFrom(second))));
  PEDAL_CONTROLLERS.forEach((_, pedal) => {
    const [were, are] = [before, after].map((presses) => presses.filter(({ key }) => key === pedal));
    const spans = merged([...rewritten, ...differing(were, are, rewritten)]), own = messages.filter((each) => each.pedal === pedal);
    if (!spans.length) return;
    for (const { track, event, tick } of own) if (spans.some(([start, end]) => tick >= start && tick < end)) edits.remove(track, event);
    press(edits, source, own, pedal, spans, were, are);
  });
}

/** Put in what makes the presses of `after` within spans; `messages` are those of the pedal in the file. */
function press(edits, source, messages, pedal, spans, before, after) {
  const held = spans.map(([start]) => isPressedAt(start - 1, before));
  for (const [track, channel] of pedalPlaces(source, messages)) {
    const own = withRelease(messages.filter((each) => each.track === track && each.channel === channel), source.file);
    const values = spans.flatMap((span, i) => valuesIn(span, own, after, held[i]));
    for (const [tick, side, value] of values) edits.add(track, tick, side, CONTROL | channel, PEDAL_CONTROLLERS[pedal], value);
  }
}

/** The tracks and channels that take new presses: those that press the pedal in the file, else the parts'. */
function pedalPlaces({ parts, into }, messages) {
  const own = new Map([...into].reverse().map(({ channel, track }) => [channel, track]));
  const elsewhere = parts.map(({ channel }) => channel).filter((channel) => !own.has(channel));
  const pressing = messages.filter(({ value, channel }) => value >= PRESSED && !elsewhere.includes(channel));
  const found = [...new Set(pressing.map(({ track, channel }) => track * 16 + channel))].sort((a, b) => a - b);
  return found.length ? found.map((place) => [place >> 4, place & 15]) : [...own].map(([channel, track]) => [track, channel]);
}

/** The messages of one place; where they leave the pedal down, also its release at the end. */
function withRelease(messages, file) {
  const [release] = unreleased(messages.slice(-1), file);
  return release ? [...messages, { ...release, tick: release.end, value: 0, event: -1 }] : messages;
}

/** Let pedals that were never released go where their track ended, if it or the file will be longer. */
export function endUnendedPresses(edits, { file }, messages, after) {
  const longest = edits.last.reduce((a, b) => Math.max(a, b), 0);
  for (const { end, track, channel, pedal } of unreleased(messages, file)) {
    const heldOn = after.filter((each) => each.key === pedal && each.start < end && each.end > end);
    const tick = heldOn.reduce((last, each) => Math.max(last, each.end), end), release = [CONTROL | channel, PEDAL_CONTROLLERS[pedal], 0];
    if (tick < longest && !edits.adds(track, tick, release)) edits.add(track, tick, BEFORE, ...release);
  }
}

/** Spans in their order, those that touch or overlap as one. */
function merged(spans) {
  const found = [];
  for (const [start, end] of [...spans].sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    const last = found.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end); else found.push([start, end]);
  }
  return found;
}

/** The spans in which only one of two sets of presses presses the pedal; what follows a rewritten span at once is left out. */
function differing(before, after, rewritten) {
  const [ours, others] = [before, after].map((presses) => new Set(presses.map(({ start, end }) => `${start} ${end}`)));
  const isApart = (set) => ({ start, end }) => !set.has(`${start} ${end}`);
  const apart = [...before.filter(isApart(others)), ...after.filter(isApart(ours))];
  const edges = [...new Set(apart.flatMap(({ start, end }) => [start, end]))].sort((a, b) => a - b);
  const spans = edges.map((edge, i) => [edge, edges[i + 1]]).filter(([edge]) => isPressedAt(edge, before) !== isPressedAt(edge, after));
  return spans.filter(([start]) => rewritten.every(([low, high]) => start < low || start > high));
}

/** Whether the pedal is down from a tick on; presses are in their order and do not overlap. */
function isPressedAt(tick, presses) { return tick < (presses[searchSorted(startsOf(presses), tick, "right") - 1]?.end ?? -Infinity); }

/** [tick, side, value] of the messages that make presses in a span without messages. The pedal is as the place's `messages`
 * left it at the start, and they go on at the end. `isHeld`: some place holds the pedal down when the span begins. */
function valuesIn([start, end], messages, presses, isHeld) {
  const here = presses.filter((each) => each.end > start && each.start <= end), values = [];
  if (valueBefore(start, messages) >= PRESSED && !here.some((each) => each.start <= start)) values.push([start, BEFORE, 0]);
  const inside = messages.filter(({ tick }) => tick >= start && tick < end), resets = inside.filter(({ event }) => event < 0);
  for (const { start: first, end: last, force } of here) {
    const depth = Math.max(force, PRESSED), since = Math.max(first, start - (isHeld ? 1 : 0)); // a reset lets go at the start too
    if (first < end && (first >= start || !isHeld)) values.push([Math.max(first, start), AFTER, depth]);
    for (const { tick } of resets) if (tick > since && tick < Math.min(last, end)) values.push([tick, AFTER, depth]);
    if (last <= end) values.push([last, BEFORE, 0]);
    else if (values.length || inside.length) values.push(...overTheEdge(first, end, last, messages));
  }
  return values;
}

/** What a press from tick `first` to `last` needs that is down from the end of a span on. */
function overTheEdge(first, edge, last, messages) {
  const value = valueBefore(edge, messages), next = messages[searchSorted(ticksOf(messages), edge)];
  if (value >= PRESSED) return [[edge, BEFORE, value]];
  if (first === edge) return []; // a message of the file presses it
  if (next && next.tick <= last) return next.value >= PRESSED ? [[next.tick, BEFORE, 0]] : [];
  return [[last, BEFORE, 0]];
}

/** The value of the last message before a tick, 0 if there is none. */
const valueBefore = (tick, messages) => messages[searchSorted(ticksOf(messages), tick) - 1]?.value ?? 0;
