// The parts of a MIDI file, and which of them are the piano: music/midi_parts.py.
import { META, NOTE_ON, PROGRAM, TRACK_NAME } from "./midi_file.js";

const DRUM_CHANNEL = 9, LAST_PIANO_PROGRAM = 7;

export const isNoteOn = ({ status, first, second }) => (status & 0xf0) === NOTE_ON && first < 128 && second > 0;

function nameOf(track) {
  const data = track.find(({ status, first }) => status === META && first === TRACK_NAME)?.data;
  return data ? new TextDecoder().decode(data).replace(/^[\0 ]+|[\0 ]+$/g, "") : "";
}

/** The parts that have notes, by track and channel: {track, channel, place, name, program, notes}. */
export function findParts({ tracks }) {
  const changes = tracks.flat().filter(({ status }) => (status & 0xf0) === PROGRAM).sort((a, b) => a.tick - b.tick);
  return tracks.flatMap((events, track) => {
    const notes = events.filter(isNoteOn), channels = [...new Set(notes.map(({ status }) => status & 15))];
    return channels.sort((a, b) => a - b).map((channel) => {
      const own = notes.filter(({ status }) => (status & 15) === channel);
      const program = changes.findLast(({ status, tick }) => (status & 15) === channel && tick <= own[0].tick)?.first ?? 0;
      return { track, channel, place: track * 16 + channel, name: nameOf(events), program, notes: own.length };
    });
  });
}

export const isDrums = ({ channel }) => channel === DRUM_CHANNEL;
const isPiano = (part) => !isDrums(part) && part.program <= LAST_PIANO_PROGRAM;
const selector = ({ track, channel }) => `${track + 1}:${channel + 1}`;

/** The parts that are the piano; `track` chooses them as the command line's `--track`, null takes the default. */
export function chooseParts(parts, track = null) {
  const playable = parts.filter((part) => !isDrums(part));
  if (track === "all") return playable;
  if (track !== null) return named(playable, track);
  const pianos = playable.filter(isPiano), most = (all) => all.reduce((a, b) => (b.notes > (a?.notes ?? -1) ? b : a), null);
  const best = most(pianos.length ? pianos : playable);
  if (!pianos.length) return best ? [best] : [];
  if (playable.length === 2 && pianos.length === 2) return pianos;
  return pianos.filter((part) => part.channel === best.channel || (part.name && part.name === best.name));
}

function named(parts, track) {
  const [, number, channel] = /^(\d+)(?::(\d*))?$/.exec(track) ?? [];
  const isMeant = (part) => part.track + 1 === Number(number) && (!channel || part.channel + 1 === Number(channel));
  if (number) return parts.filter(isMeant);
  const wanted = track.toLowerCase(), found = parts.filter((part) => part.name.toLowerCase() === wanted);
  return found.length ? found : parts.filter((part) => part.name.toLowerCase().includes(wanted));
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
