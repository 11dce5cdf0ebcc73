// What the events of a MIDI file mean: its tempo map, notes, pedal messages and presses, in ticks: music/midi_tables.py.
import { MidiError } from "./errors.js";
import { CONTROL, NOTE_OFF, NOTE_ON, TEMPO, TIME_SIGNATURE, metas } from "./midi_file.js";
import { TempoMap, searchSorted } from "./tempo_map.js";

export const PEDAL_CONTROLLERS = [64, 66, 67], PRESSED = 64; // a pedal is down from this value on
const ALL_SOUND_OFF = 120, RESET_CONTROLLERS = 121, ALL_NOTES_OFF = 123;
const BEAT_UNITS = 7; // 1 to 64
export const FRAMES = 0x8000; // of a time division: it is in frames a second

/** Let what a function makes of a file be kept with the file: a file does not change. */
function once(make) {
  const made = new WeakMap();
  return (file) => {
    if (!made.has(file)) made.set(file, make(file));
    return made.get(file);
  };
}

/** The tempi of all tracks: [tick, microseconds per quarter note]. */
function temposOf(file) {
  const events = metas(file, TEMPO).filter(([, data]) => data.length === 3);
  return events.map(([tick, [high, middle, low]]) => [tick, (high << 16) | (middle << 8) | low]);
}

/** The tempo map of all tracks; of a division in frames a second one of a quarter note a second. */
export const tempoMapOf = once((file) => {
  const { division } = file;
  if (division & FRAMES) return framesMap(division);
  if (!division) throw new MidiError("its time division is 0; export it with ticks per quarter note");
  const tempos = temposOf(file);
  if (tempos.some(([, tempo]) => !tempo)) throw new MidiError("it has an impossible tempo of 0 microseconds per quarter note");
  const signs = metas(file, TIME_SIGNATURE).filter(([, data]) => data.length > 1 && data[0] && data[1] < BEAT_UNITS);
  return TempoMap.ofEvents(division, tempos, signs.map(([tick, [top, power]]) => [tick, top, 1 << power]));
});

function framesMap(division) {
  const frames = 256 - (division >> 8), ticks = division & 255, dropped = frames === 29; // 30 frames in 1.001 s
  if (![24, 25, 29, 30].includes(frames) || !ticks) {
    throw new MidiError(`its time division 0x${division.toString(16)} is neither in ticks per quarter note nor SMPTE's`);
  }
  return new TempoMap((dropped ? 30 : frames) * ticks, [[0, dropped ? 1001000 : 1000000]]);
}

/** The notes of a file, track by track and there by channel and pitch: {start, end, on, off, track, channel, pitch,
 * velocity}; `on` and `off` are places of events in the track, `off` -1 without a note-off. */
export const noteTable = once((file) => file.tracks.flatMap(notesOfTrack));

function notesOfTrack({ events, end }, track) {
  const keys = strikesByKey(events), endAll = channelsEnded(events), notes = [];
  for (const [key, strikes] of [...keys].sort(([a], [b]) => a - b)) {
    strikes.forEach(({ i, tick, velocity }, n) => {
      if (!velocity) return;
      const channel = key >> 7, next = strikes[n + 1], places = endAll[channel], all = places[searchSorted(places, i)] ?? Infinity;
      const isEnded = all < (next?.i ?? events.length), ends = isEnded ? events[all].tick : (next?.tick ?? end);
      const off = !isEnded && next && !next.velocity ? next.i : -1;
      notes.push({ start: tick, end: Math.max(ends, tick + 1), on: i, off, track, channel, pitch: key & 127, velocity });
    });
  }
  return notes;
}

/** The note-ons and note-offs of each channel and pitch, a note-off as velocity 0. */
function strikesByKey(events) {
  const keys = new Map();
  events.forEach(({ status, first, second, tick }, i) => {
    const kind = status & 0xf0, key = (status & 15) * 128 + first;
    if ((kind !== NOTE_ON && kind !== NOTE_OFF) || first > 127) return;
    if (!keys.has(key)) keys.set(key, []);
    keys.get(key).push({ i, tick, velocity: kind === NOTE_ON ? Math.min(second, 127) : 0 });
  });
  return keys;
}

export const endsAll = ({ status, first }) => (status & 0xf0) === CONTROL && (first === ALL_SOUND_OFF || first === ALL_NOTES_OFF);

/** The places of the messages that end all notes of each channel. */
function channelsEnded(events) {
  const places = Array.from({ length: 16 }, () => []);
  events.forEach((event, i) => { if (endsAll(event)) places[event.status & 15].push(i); });
  return places;
}

/** The pedal messages of a file, track by track and there by pedal: {tick, event, track, channel, pedal, value}; `event` is
 * the place in the track, -1 where a reset of all controllers releases the pedal. */
export const pedalTable = once(({ tracks }) => tracks.flatMap(({ events }, track) => {
  const controls = events.map((event, i) => ({ ...event, i })).filter(({ status }) => (status & 0xf0) === CONTROL);
  return PEDAL_CONTROLLERS.flatMap((controller, pedal) => controls.flatMap(({ tick, status, first, second, i }) => {
    if (first !== controller && first !== RESET_CONTROLLERS) return [];
    const own = first === controller;
    return [{ tick, event: own ? i : -1, track, channel: status & 15, pedal, value: own ? Math.min(second, 127) : 0 }];
  }));
}));

/** The presses of all tracks and channels together, by pedal and start: {start, end, pedal, depth}. */
export function pressTable(pedals, file) {
  const places = grouped(pedals, placeOf);
  const presses = [...places.values()].flatMap((messages) => pressesOf(messages, file));
  presses.sort((a, b) => a.pedal - b.pedal || a.start - b.start);
  const united = [];
  for (const press of presses) {
    const before = united.at(-1);
    if (before?.pedal !== press.pedal || press.start >= before.end) united.push({ ...press });
    else Object.assign(before, { end: Math.max(before.end, press.end), depth: Math.max(before.depth, press.depth) });
  }
  return united;
}

const placeOf = ({ pedal, track, channel }) => (track * 16 + channel) * PEDAL_CONTROLLERS.length + pedal;

function grouped(rows, keyOf) {
  const groups = new Map();
  for (const row of rows) {
    const key = keyOf(row);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return groups;
}

/** The presses of the messages of one pedal, track and channel. */
function pressesOf(messages, file) {
  const presses = [];
  /** @type {{start: number, pedal: number, depth: number} | null} */ let open = null;
  for (const { tick, value, pedal } of messages) {
    if (value < PRESSED) {
      if (open) presses.push({ ...open, end: tick });
      open = null;
    } else open = { start: open?.start ?? tick, pedal, depth: Math.max(open?.depth ?? 0, value) };
  }
  if (open) presses.push({ ...open, end: endOfLast(messages.at(-1), file) });
  return presses.filter(({ start, end }) => end > start);
}

/** The tick at which a press ends that is never released. */
function endOfLast({ track, tick }, file) {
  const { events, end } = file.tracks[track], hasNotes = events.some(({ status }) => (status & 0xf0) === NOTE_ON);
  return Math.max(hasNotes ? end : file.end, tick + 1);
}

/** The end, the track, the channel and the pedal of each press that is never released. */
export function unreleased(pedals, file) {
  const last = new Map(pedals.map((message) => [placeOf(message), message])); // of several the last one counts
  const places = [...last].sort(([a], [b]) => a - b).map(([, message]) => message).filter(({ value }) => value >= PRESSED);
  return places.map((message) => ({ ...message, end: endOfLast(message, file) }));
}
