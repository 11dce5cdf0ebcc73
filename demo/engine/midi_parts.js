// The parts of a MIDI file, and which of them are the piano: music/midi_parts.py.
import { InputError, shownText } from "./errors.js";
import { META, PROGRAM, TRACK_NAME } from "./midi_file.js";
import { noteTable, pedalTable } from "./midi_tables.js";

const DRUM_CHANNEL = 9, LAST_PIANO_PROGRAM = 7;
const NEAR_MOST = 0.75; // of the notes of the largest part: which of several alike is read must not change with an infill

function nameOf({ events }) {
  const data = events.find(({ status, first }) => status === META && first === TRACK_NAME)?.data;
  return data ? new TextDecoder().decode(data).replace(/^[\0 ]+|[\0 ]+$/g, "") : "";
}

export const placeOf = ({ track, channel }) => track * 16 + channel;

/** The parts that have notes, by track and channel: {track, channel, place, name, program, notes}. */
export function findParts(file) {
  const changes = file.tracks.flatMap(({ events }) => events.filter(({ status }) => (status & 0xf0) === PROGRAM));
  changes.sort((a, b) => a.tick - b.tick);
  const places = new Map();
  for (const note of noteTable(file)) {
    const found = places.get(placeOf(note)) ?? { notes: 0, start: Infinity };
    places.set(placeOf(note), { notes: found.notes + 1, start: Math.min(found.start, note.start) });
  }
  return [...places].sort(([a], [b]) => a - b).map(([place, { notes, start }]) => {
    const track = place >> 4, channel = place & 15;
    const program = changes.findLast(({ status, tick }) => (status & 15) === channel && tick <= start)?.first ?? 0;
    return { track, channel, place, name: nameOf(file.tracks[track]), program, notes };
  });
}

export const isDrums = ({ channel }) => channel === DRUM_CHANNEL;
const isPiano = (part) => !isDrums(part) && part.program <= LAST_PIANO_PROGRAM;
export const selector = ({ track, channel }) => `${track + 1}:${channel + 1}`;

/** The parts that are the piano; `track` chooses them as the command line's `--track`, null takes the default. */
export function chooseParts(parts, track = null) {
  const playable = parts.filter((part) => !isDrums(part));
  if (track === "all") return playable;
  if (track !== null) return named(playable, track);
  const pianos = playable.filter(isPiano), some = pianos.length ? pianos : playable;
  const most = some.reduce((largest, { notes }) => Math.max(largest, notes), 0), best = some.find(({ notes }) => notes >= NEAR_MOST * most);
  if (!pianos.length) return best ? [best] : [];
  if (playable.length === 2 && pianos.length === 2) return pianos;
  return pianos.filter((part) => part.channel === best.channel || (part.name && part.name === best.name));
}

function named(parts, track) {
  const [, number, channel] = /^(\d+)(?::(\d*))?$/.exec(track) ?? [], wanted = track.toLowerCase();
  const isMeant = (part) => part.track + 1 === Number(number) && (!channel || part.channel + 1 === Number(channel));
  const tests = number ? [isMeant] : [({ name }) => name.toLowerCase() === wanted, ({ name }) => name.toLowerCase().includes(wanted)];
  const found = tests.map((test) => parts.filter(test)).find(({ length }) => length);
  if (found) return found;
  const there = parts.map((part) => numbered(part, parts)).join(", ") || "none";
  throw new InputError(`\`track\` must be one of the tracks with notes (${there}) or all, not ${shownText(track)}`);
}

/** What chooses a part: the number of its track, of several with its channel; and its name. */
function numbered(part, parts) {
  const number = parts.filter(({ track }) => track === part.track).length === 1 ? `${part.track + 1}` : selector(part);
  return part.name ? `${number} ${shownText(part.name)}` : number;
}

/** Each `track` with which `chooseParts` gives the `chosen` parts; null first, if that does. */
export function tracksOfChoice(parts, chosen) {
  const candidates = [null];
  for (const part of chosen.slice(0, 1)) {
    candidates.push(`${part.track + 1}`, selector(part), ...(part.name ? [part.name] : []), "all");
  }
  const places = (some) => some.map(({ place }) => place).join();
  return candidates.filter((track) => places(chooseParts(parts, track)) === places(chosen));
}

/** The rows of `noteTable` of some parts of a file. */
export function notesOf(file, parts) {
  const places = parts.map(({ place }) => place);
  return noteTable(file).filter((note) => places.includes(placeOf(note)));
}

/** The rows of `pedalTable` of some parts: on their channels where no other part is and, if they are all that is no drum,
 * on channels without notes: a player piano may have its pedals there. */
export function pedalsOf(file, allParts, parts) {
  const others = allParts.filter((part) => !parts.includes(part)), otherPlaces = others.map(({ place }) => place);
  const [ofAll, ofParts] = [allParts, parts].map((some) => new Set(some.map(({ channel }) => channel)));
  const isFree = (channel) => !ofAll.has(channel) && !isDrums({ channel }), onlyDrums = others.every(isDrums);
  return pedalTable(file).filter((message) =>
    (ofParts.has(message.channel) && !otherPlaces.includes(placeOf(message))) || (onlyDrums && isFree(message.channel)));
}

export const partText = ({ name, track, channel }) => (name ? shownText(name) : `track ${track + 1}, channel ${channel + 1}`);
