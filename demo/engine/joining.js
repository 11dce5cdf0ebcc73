// Music in front of a file, and one file after another: their tempos, metres and bars stay as they are: music/joining.py.
import { CONTROL, END_OF_TRACK, META, NOTE_OFF, PROGRAM, TEMPO, makeTrack, meta, metas, metreEvent, parseMidi, tempoEvent } from "./midi_file.js";
import { findParts } from "./midi_parts.js";
import { FRAMES, PEDAL_CONTROLLERS, noteTable, pedalTable, tempoMapOf, unreleased } from "./midi_tables.js";
import { Performance } from "./performance.js";
import { Source } from "./source.js";
import { NEW_PART, splice } from "./splice.js";
import { LARGEST_RESOLUTION, rint } from "./tempo_map.js";

const MOST_STRETCH = 1.5; // of the tempo, so that a whole number of bars fits
const LARGEST_TEMPO = (1 << 24) - 1, RELEASE_VELOCITY = 64;

const fits = (stretch) => 1 / MOST_STRETCH <= stretch && stretch <= MOST_STRETCH;
const tempoOf = (microseconds) => Math.max(1, Math.min(rint(microseconds), LARGEST_TEMPO));
const most = (values) => values.reduce((a, b) => Math.max(a, b), 0);
const isInFrames = ({ division }) => (division & FRAMES) !== 0;
const eventsOf = (track, move = (tick) => tick) => track.events.map((event) => [move(event.tick), track.message(event)]);
const isEnd = ([, message]) => message[0] === META && message[1] === END_OF_TRACK;

/** The onset in seconds of the first note of the file that a performance is from. */
export function firstNoteOnset({ notes, source }) {
  return source ? source.tempoMap.toSeconds(noteTable(source.file).reduce((first, { start }) => Math.min(first, start), Infinity)) : notes[0][0];
}

/** A performance and all of its file `seconds` later; the new time in front is whole bars, if the tempo can be bent to them. */
export function delayed(performance, seconds) {
  const source = sourceOf(performance), { file, tempoMap } = source, [ticks, tempo] = wholeBars(tempoMap, seconds);
  const tracks = file.tracks.map((track) => eventsOf(track, (tick) => tick + ticks));
  if (!isInFrames(file)) {
    const named = namesTempo(file) ? [] : [[ticks, tempoEvent(tempoMap.tempos[0][1])]];
    tracks[0] = [[0, tempoEvent(tempo)], ...openingMetre(tempoMap), ...merged(tracks[0], named)];
  }
  for (const { track, channel } of source.into) tracks[track] = [...settings(file, channel), ...tracks[track]];
  return retimed(performance, source.withFile(file.withTracks(made(tracks, file))), tempoMap, ticks);
}

/** Two performances of one file, in which the file of the second begins at `seconds`. */
export function followedBy(before, after, seconds) {
  const own = sourceOf(before), other = sourceOf(after), [first, second] = onOneDivision(own, other), joint = jointOf(first, seconds);
  const { tracks, places } = concatenated(first, second, joint.tick);
  tracks[0] = merged(tracks[0], joiningEvents(first.file, second.file, joint));
  const form = Math.max(first.file.form, tracks.length > 1 ? 1 : 0), file = first.file.withTracks(made(tracks, first.file), { form });
  const allParts = findParts(file), into = allParts.filter(({ place }) => first.parts.some((part) => part.place === place));
  const parts = allParts.filter((part) => into.includes(part) || places.includes(part.place));
  const source = new Source(file, { allParts, parts, into });
  const factor = (each, old) => each.tempoMap.ticksPerQuarter / old.tempoMap.ticksPerQuarter;
  return [
    retimed(before, source, own.tempoMap, 0, factor(first, own)),
    retimed(after, source, other.tempoMap, joint.tick, factor(second, other)),
  ];
}

/** The source of a performance; of one without, the file that it would be written as. */
function sourceOf(performance) {
  if (performance.source) return performance.source;
  const file = parseMidi(splice(performance)), found = findParts(file);
  return new Source(file, { parts: found.length ? found : [NEW_PART] });
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

const namesTempo = (file) => metas(file, TEMPO).some(([tick]) => tick === 0);

/** The time signature that begins at tick 0, as an event there; none where the map has none. */
function openingMetre({ timeSignatures }) {
  return timeSignatures.slice(0, 1).filter(([at]) => at === 0).map(([, top, bottom]) => [0, metreEvent(top, bottom)]);
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

/** What sets a channel up at tick 0: its program and controllers, without pedals. */
function settings({ tracks }, channel) {
  const isSetting = ({ tick, status, first }) => tick === 0 &&
    (status === (PROGRAM | channel) || (status === (CONTROL | channel) && !PEDAL_CONTROLLERS.includes(first)));
  return tracks.flatMap((track) => track.events.filter(isSetting).map((event) => [0, track.message(event)]));
}

/** Tracks of events, each with one end. */
function made(tracks, file) {
  const runs = file.tracks.some(({ usesRunningStatus }) => usesRunningStatus);
  return tracks.map((events) => {
    const end = [most(events.map(([tick]) => tick)), meta(END_OF_TRACK, [])];
    return makeTrack([...events.filter((event) => !isEnd(event)), end], runs);
  });
}

/** Events with more of them, which come first at their tick. */
const merged = (events, more) => [...more, ...events].sort((a, b) => a[0] - b[0]);

// --- one file after another

/** Where a file begins that follows another one at `seconds`: on a bar line, where the tempo can be bent. */
function jointOf({ file, tempoMap }, seconds) {
  const changes = [...tempoMap.tempos, ...tempoMap.timeSignatures].map(([tick]) => tick);
  const free = Math.max(most(noteTable(file).map(({ start }) => start)), most(changes)); // from here on nothing needs its tempo
  const wanted = Math.max(tempoMap.toTicks(seconds), free + 1), [begin, bar] = barAt(tempoMap, wanted);
  const tick = begin + Math.max(rint((wanted - begin) / bar), Math.ceil((free + 1 - begin) / bar)) * bar;
  const stretch = (wanted - free) / (tick - free);
  if (isInFrames(file) || !fits(stretch)) return { tick: wanted, tempos: [] };
  return { tick, tempos: [[free, tempoEvent(tempoOf(tempoMap.tempos.at(-1)[1] * stretch))]] };
}

/** The tempo that leads to the joint, and tempo and metre at which the second file begins without a word. */
function joiningEvents(first, second, { tick, tempos }) {
  const opening = tempoMapOf(second), events = [...tempos];
  if (!namesTempo(second)) events.push([tick, tempoEvent(opening.tempos[0][1])]);
  if (tempoMapOf(first).timeSignatures.length && !openingMetre(opening).length) events.push([tick, metreEvent(4, 4)]);
  return events;
}

/** The tracks of two files, the second `ticks` later, and the places of the second's parts. The pianos share a track, and so
 * do two first tracks without notes; all others stay apart. */
function concatenated(first, second, ticks) {
  const ended = releases(first.file), tracks = first.file.tracks.map((track, i) => [...eventsOf(track), ...ended[i]]), moved = [];
  second.file.tracks.forEach((track, number) => {
    const events = [...defaultPrograms(first.file, second, number, ticks), ...eventsOf(track, (tick) => tick + ticks)];
    const host = hostOf(first, second, number);
    moved[number] = host ?? tracks.length;
    if (host === null) tracks.push(events);
    else tracks[host] = merged(events, tracks[host].filter((event) => !isEnd(event)));
  });
  return { tracks, places: second.parts.map(({ track, channel }) => moved[track] * 16 + channel) };
}

/** The events of each track that end what it leaves on at its end: notes and pedals. */
function releases(file) {
  const found = file.tracks.map(() => []);
  for (const { off, end, track, channel, pitch } of noteTable(file)) {
    const last = file.tracks[track].end;
    if (off < 0 && end >= last) found[track].push([last, Uint8Array.of(NOTE_OFF | channel, pitch, RELEASE_VELOCITY)]);
  }
  for (const { end, track, channel, pedal } of unreleased(pedalTable(file), file)) {
    found[track].push([end, Uint8Array.of(CONTROL | channel, PEDAL_CONTROLLERS[pedal], 0)]);
  }
  return found;
}

/** The track of the first file that a track of the second one goes on in; null for a track of its own. */
function hostOf(first, second, number) {
  const tracksOf = (parts) => parts.map(({ track }) => track), index = tracksOf(second.parts).indexOf(number);
  const own = tracksOf(first.parts), playing = [...tracksOf(first.allParts), ...tracksOf(second.allParts)];
  if (index >= 0) return own[Math.min(index, own.length - 1)];
  return number === 0 && !playing.includes(0) ? 0 : null;
}

/** Program changes for channels that the second file leaves as they are and the first one has changed. */
function defaultPrograms(first, second, number, ticks) {
  const isNamed = (file, channel) => file.tracks.some(({ events }) => events.some(({ status }) => status === (PROGRAM | channel)));
  return second.allParts
    .filter(({ track, channel }) => track === number && isNamed(first, channel) && !isNamed(second.file, channel))
    .map(({ channel, program }) => [ticks, Uint8Array.of(PROGRAM | channel, program)]);
}

const divisor = (a, b) => (b ? divisor(b, a % b) : a);

/** Two sources on ticks of the same length in quarters. */
function onOneDivision(first, second) {
  if (first.file.division === second.file.division) return [first, second];
  [first, second] = [inQuarters(first), inQuarters(second)];
  const [own, other] = [first.file.division, second.file.division], common = (own * other) / divisor(own, other);
  return common <= LARGEST_RESOLUTION ? [scaled(first, common), scaled(second, common)] : [first, scaled(second, own)];
}

/** A source in ticks of a quarter, also of a file in frames a second. */
function inQuarters(source) {
  const { file, tempoMap } = source;
  if (!isInFrames(file)) return source;
  const tracks = file.tracks.map((track) => eventsOf(track));
  tracks[0] = [[0, tempoEvent(tempoMap.tempos[0][1])], ...tracks[0]];
  return source.withFile(file.withTracks(made(tracks, file), { division: tempoMap.ticksPerQuarter }));
}

/** A source with another number of ticks in a quarter. */
function scaled(source, division) {
  const { file } = source, factor = division / file.division;
  const tracks = file.tracks.map((track) => eventsOf(track, (tick) => rint(tick * factor)));
  return source.withFile(file.withTracks(made(tracks, file), { division }));
}
