// The piece: an array of events, sorted by onset and then key, never changed in place.
// An event is {id, onset, duration, key, velocity, generated}: times in seconds; `key` 21-108 is a piano key, 0-2 a pedal;
// `generated` is true where the model wrote it. The types of the page stand in tests/js/types.d.ts.

export const PEDALS = ["sustain", "sostenuto", "una corda"];
export const LOWEST = 21, HIGHEST = 108, PEDAL_KEYS = PEDALS.length;
export const TICKS_PER_SECOND = 100; // the model's
const NAMES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];

let nextId = 1;

/** Start new ids after those of a restored piece. @param {{id: number}[]} events */
export function reserveIds(events) { for (const e of events) nextId = Math.max(nextId, e.id + 1); }

/** @param {number} onset @param {number} duration @param {number} key @param {number} velocity @returns {MusicEvent} */
export function makeEvent(onset, duration, key, velocity, generated = false) {
  return { id: nextId++, onset, duration, key, velocity, generated };
}

/** @param {{key: number}} event */
export const isNote = (event) => event.key >= PEDAL_KEYS;
/** @param {MusicEvent[]} events */
export const countNotes = (events) => events.filter(isNote).length;

/** @param {number} key */
export function keyName(key) {
  return key < PEDAL_KEYS ? `${PEDALS[key]} pedal` : `${NAMES[key % 12]}${Math.floor(key / 12) - 1}`;
}

/** The events of a piece as the server sends it; `toJson` is the inverse. @param {Rows} piece */
export function fromJson({ notes, pedals }, generated = false) {
  return sorted([...notes, ...pedals].map((row) => makeEvent(...row, generated)));
}

/**
 * `facts`: the tempo map and the file that the piece is from, as the server gave them.
 * @param {MusicEvent[]} events
 * @param {Partial<Facts>} facts
 */
export function toJson(events, facts = {}) {
  /** @type {PieceJson} */
  const json = { notes: [], pedals: [], tempo_map: facts.tempo_map ?? null, source: facts.source ?? null };
  for (const e of events) (isNote(e) ? json.notes : json.pedals).push([e.onset, e.duration, e.key, e.velocity]);
  return json;
}

/** Sort an array of events in place. @param {MusicEvent[]} events */
export function sorted(events) { return events.sort((a, b) => a.onset - b.onset || a.key - b.key || b.duration - a.duration); }

/** The second at which the last event ends. @param {MusicEvent[]} events */
export const endOf = (events) => events.reduce((end, e) => Math.max(end, e.onset + e.duration), 0);

/** End each event where its key is struck again, as the server does. Of two events at one onset the longer stays.
 * @param {MusicEvent[]} events */
export function tidy(events) {
  /** @type {Map<number, number>} */
  const last = new Map(), out = /** @type {MusicEvent[]} */ ([]);
  for (const e of sorted(events.slice())) {
    const index = last.get(e.key), room = index === undefined ? Infinity : e.onset - out[index].onset;
    if (room <= 0) continue; // the longer one is sorted first
    if (index !== undefined && out[index].duration > room) out[index] = { ...out[index], duration: room }; // keeps its id
    last.set(e.key, out.length);
    out.push(e);
  }
  return out;
}

/** @param {MusicEvent[]} events @param {number} seconds @returns {MusicEvent[]} */
export const shifted = (events, seconds) => events.map((e) => ({ ...e, id: nextId++, onset: e.onset + seconds }));
/** @param {MusicEvent[]} events @param {number} time */
export const before = (events, time) => events.filter((e) => e.onset < time);
/** @param {MusicEvent[]} events @param {number} time */
export const from = (events, time) => events.filter((e) => e.onset >= time);

/** Round seconds to the model's ticks. @param {number} seconds */
export const toTick = (seconds) => Math.round(seconds * TICKS_PER_SECOND) / TICKS_PER_SECOND;

/** Seconds as minutes:seconds, for example 1:05.0. @param {number} seconds */
export function clock(seconds, digits = 1) {
  const sign = seconds < 0 ? "−" : "", scale = 10 ** digits, total = Math.round(Math.abs(seconds) * scale) / scale;
  const minutes = Math.floor(total / 60), rest = (total - 60 * minutes).toFixed(digits);
  return `${sign}${minutes}:${rest.padStart(digits ? 3 + digits : 2, "0")}`;
}

/** The name of a part of a file. @param {Part} part */
export const partName = ({ name, track }) => name || `Track ${track}`;
