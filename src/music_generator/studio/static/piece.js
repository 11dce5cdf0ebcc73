// The piece: an array of events, sorted by onset and then key, never changed in place.
// An event is {id, onset, duration, key, velocity, generated}: times in seconds; `key` 21-108 is a piano key, 0-2 a pedal;
// `generated` is true where the model wrote it.

export const PEDALS = ["sustain", "sostenuto", "una corda"];
export const LOWEST = 21, HIGHEST = 108, PEDAL_KEYS = PEDALS.length;
export const TICKS_PER_SECOND = 100; // the model's
const NAMES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];

let nextId = 1;

/** Start new ids after those of a restored piece. */
export function reserveIds(events) { for (const e of events) nextId = Math.max(nextId, e.id + 1); }

export function makeEvent(onset, duration, key, velocity, generated = false) {
  return { id: nextId++, onset, duration, key, velocity, generated };
}

export const isNote = (event) => event.key >= PEDAL_KEYS;
export const countNotes = (events) => events.filter(isNote).length;

export function keyName(key) {
  return key < PEDAL_KEYS ? `${PEDALS[key]} pedal` : `${NAMES[key % 12]}${Math.floor(key / 12) - 1}`;
}

/** The events of a piece as the server sends it; `toJson` is the inverse. */
export function fromJson({ notes, pedals }, generated = false) {
  return sorted([...notes, ...pedals].map((row) => makeEvent(...row, generated)));
}

/** `facts`: the tempo map and the file that the piece is from, as the server gave them. */
export function toJson(events, facts = {}) {
  const json = { notes: [], pedals: [], tempo_map: facts.tempo_map ?? null, source: facts.source ?? null };
  for (const e of events) (isNote(e) ? json.notes : json.pedals).push([e.onset, e.duration, e.key, e.velocity]);
  return json;
}

/** Sort an array of events in place. */
export function sorted(events) { return events.sort((a, b) => a.onset - b.onset || a.key - b.key || b.duration - a.duration); }

/** The second at which the last event ends. */
export const endOf = (events) => events.reduce((end, e) => Math.max(end, e.onset + e.duration), 0);

/** End each event where its key is struck again, as the server does. Of two events at one onset the longer stays. */
export function tidy(events) {
  const last = new Map(), out = [];
  for (const e of sorted(events.slice())) {
    const index = last.get(e.key), room = index === undefined ? Infinity : e.onset - out[index].onset;
    if (room <= 0) continue; // the longer one is sorted first
    if (index !== undefined && out[index].duration > room) out[index] = { ...out[index], duration: room }; // keeps its id
    last.set(e.key, out.length);
    out.push(e);
  }
  return out;
}

export const shifted = (events, seconds) => events.map((e) => ({ ...e, id: nextId++, onset: e.onset + seconds }));
export const before = (events, time) => events.filter((e) => e.onset < time);
export const from = (events, time) => events.filter((e) => e.onset >= time);

/** Round seconds to the model's ticks. */
export const toTick = (seconds) => Math.round(seconds * TICKS_PER_SECOND) / TICKS_PER_SECOND;

/** Seconds as minutes:seconds, for example 1:05.0. */
export function clock(seconds, digits = 1) {
  const sign = seconds < 0 ? "−" : "", scale = 10 ** digits, total = Math.round(Math.abs(seconds) * scale) / scale;
  const minutes = Math.floor(total / 60), rest = (total - 60 * minutes).toFixed(digits);
  return `${sign}${minutes}:${rest.padStart(digits ? 3 + digits : 2, "0")}`;
}
