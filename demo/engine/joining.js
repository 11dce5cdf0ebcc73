// Music in front of a file, and one file after another: their tempos, metres and bars stay as they are: music/joining.py.
import { Performance } from "./performance.js";
import { Source, sourceOf } from "./source.js";
import { LARGEST_RESOLUTION, TempoMap, rint } from "./tempo_map.js";

const MOST_STRETCH = 1.5; // of the tempo, so that a whole number of bars fits
const LARGEST_TEMPO = (1 << 24) - 1;

const fits = (stretch) => 1 / MOST_STRETCH <= stretch && stretch <= MOST_STRETCH;
const tempoOf = (microseconds) => Math.max(1, Math.min(rint(microseconds), LARGEST_TEMPO));
const lateBy = (ticks) => ([tick, ...values]) => [tick + ticks, ...values];
const most = (values) => values.reduce((a, b) => Math.max(a, b), 0);

/** The onset in seconds of the first note of the file that a performance is from. */
export function firstNoteOnset({ notes, source }) {
  return source ? source.tempoMap.toSeconds(source.noteTicks.reduce((a, b) => Math.min(a, b))) : notes[0][0];
}

/** A performance and all of its file `seconds` later; the new time in front is whole bars, if the tempo can be bent to them. */
export function delayed(performance, seconds) {
  const source = sourceOf(performance), { tempoMap } = source, [ticks, tempo] = wholeBars(tempoMap, seconds);
  if (source.isInFrames) return retimed(performance, source.later(ticks, tempoMap), tempoMap, ticks);
  const metre = tempoMap.timeSignatures.slice(0, 1).filter(([tick]) => tick === 0);
  const after = TempoMap.ofEvents(
    tempoMap.ticksPerQuarter, [[0, tempo], ...tempoMap.tempos.map(lateBy(ticks))],
    [...metre, ...tempoMap.timeSignatures.map(lateBy(ticks))],
  );
  return retimed(performance, source.later(ticks, after), tempoMap, ticks);
}

/** Two performances of one file, in which the file of the second begins at `seconds`. */
export function followedBy(before, after, seconds) {
  const own = sourceOf(before), other = sourceOf(after), [first, second] = onOneDivision(own, other);
  const joint = jointOf(first, seconds);
  const moved = second.later(joint.tick, second.tempoMap);
  const source = new Source({
    tempoMap: first.isInFrames ? first.tempoMap : joinedMap(first, second, joint),
    noteTicks: [...first.noteTicks, ...moved.noteTicks],
    pedalTicks: [...first.pedalTicks, ...moved.pedalTicks],
  });
  const factor = (each, old) => each.tempoMap.ticksPerQuarter / old.tempoMap.ticksPerQuarter;
  return [
    retimed(before, source, own.tempoMap, 0, factor(first, own)),
    retimed(after, source, other.tempoMap, joint.tick, factor(second, other)),
  ];
}

/** A performance at the seconds of its ticks in another file: `factor` times as many, and `ticks` more. */
function retimed({ notes, pedals }, source, before, ticks, factor = 1) {
  const after = source.tempoMap, move = (second) => after.toSeconds(before.toFractionalTicks(second) * factor + ticks);
  const [movedNotes, movedPedals] = [notes, pedals].map((events) => events.map(([onset, duration, ...values]) => {
    const [start, end] = [move(onset), move(onset + duration)];
    return [start, Math.max(end - start, 1e-9), ...values];
  }));
  return new Performance(movedNotes, movedPedals, after, source);
}

/** The first bar line of the metre at a tick, and the ticks of a bar; 4/4 where the file names none. */
function barAt({ ticksPerQuarter, timeSignatures }, tick) {
  const [begin, top, bottom] = timeSignatures.filter(([at]) => at <= tick).at(-1) ?? [0, 4, 4];
  return [begin, Math.max(1, rint((ticksPerQuarter * 4 * top) / bottom))];
}

/** How many ticks in front last `seconds`, and at which tempo: whole bars, beats or as many as there are. */
function wholeBars(tempoMap, seconds) {
  const tempo = tempoMap.tempos[0][1], wanted = ((seconds * 1e6) / tempo) * tempoMap.ticksPerQuarter;
  for (const unit of [barAt(tempoMap, 0)[1], tempoMap.ticksPerQuarter]) {
    const ticks = Math.max(1, rint(wanted / unit)) * unit;
    if (fits(wanted / ticks)) return [ticks, tempoOf((tempo * wanted) / ticks)];
  }
  return [Math.max(1, rint(wanted)), tempo];
}

/** Where a file begins that follows another one at `seconds`: on a bar line, where the tempo can be bent. */
function jointOf({ tempoMap, noteTicks, isInFrames }, seconds) {
  const changes = [...tempoMap.tempos, ...tempoMap.timeSignatures].map(([tick]) => tick);
  const free = Math.max(most(noteTicks), most(changes)); // from here on nothing of the first file needs its tempo
  const wanted = Math.max(tempoMap.toTicks(seconds), free + 1), [begin, bar] = barAt(tempoMap, wanted);
  const tick = begin + Math.max(rint((wanted - begin) / bar), Math.ceil((free + 1 - begin) / bar)) * bar;
  const stretch = (wanted - free) / (tick - free);
  if (isInFrames || !fits(stretch)) return { tick: wanted, tempos: [] };
  return { tick, tempos: [[free, tempoOf(tempoMap.tempos.at(-1)[1] * stretch)]] };
}

/** The tempo map of two files as one. At one tick the tempo that leads to the joint comes before the first file's. */
function joinedMap(first, second, { tick, tempos }) {
  const named = first.tempoMap.tempos.slice(first.namesTempo ? 0 : 1), opening = second.tempoMap;
  const metres = opening.timeSignatures.map(lateBy(tick)), begins = opening.timeSignatures[0]?.[0] === 0;
  if (first.tempoMap.timeSignatures.length && !begins) metres.push([tick, 4, 4]);
  return TempoMap.ofEvents(
    first.tempoMap.ticksPerQuarter, [...tempos, ...named, ...opening.tempos.map(lateBy(tick))],
    [...first.tempoMap.timeSignatures, ...metres],
  );
}

const divisor = (a, b) => (b ? divisor(b, a % b) : a);

/** Two sources on ticks of the same length in quarters. */
function onOneDivision(first, second) {
  if (first.division === second.division) return [first, second];
  [first, second] = [first.inQuarters(), second.inQuarters()];
  const [own, other] = [first, second].map(({ tempoMap }) => tempoMap.ticksPerQuarter);
  const multiple = (own * other) / divisor(own, other), common = multiple <= LARGEST_RESOLUTION ? multiple : own;
  return [first.scaled(common / own), second.scaled(common / other)];
}
