// The piece: an array of strokes, never changed in place, by onset and then key.
// A stroke is {id, on, dur, key, vel, by}: seconds; key 21-108 a piano key or 0-2 a pedal; by 1 where the model wrote it.

export const PEDALS = ["sustain", "sostenuto", "una corda"];
export const LOWEST = 21, HIGHEST = 108, PEDAL_KEYS = 3;
const NAMES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];

let next = 1;

/** Ids go on after those of a piece that was stored. */
export function reserveIds(upTo) { next = Math.max(next, upTo + 1); }

export function stroke(on, dur, key, vel, by = 0) { return { id: next++, on, dur, key, vel, by }; }

export const isNote = (s) => s.key >= PEDAL_KEYS;

export function nameOf(key) {
  return isNote({ key }) ? `${NAMES[key % 12]}${Math.floor(key / 12) - 1}` : `${PEDALS[key]} pedal`;
}

export function fromWire(wire, by = 0) {
  const notes = wire.notes.map(([on, dur, key, vel]) => stroke(on, dur, key, vel, by));
  const pedals = wire.pedals.map(([on, dur, key, vel]) => stroke(on, dur, key, vel, by));
  return sorted(notes.concat(pedals));
}

export function toWire(strokes, tempoMap) {
  const wire = { notes: [], pedals: [], tempo_map: tempoMap ?? null };
  for (const s of strokes) (isNote(s) ? wire.notes : wire.pedals).push([s.on, s.dur, s.key, s.vel]);
  return wire;
}

export function sorted(strokes) { return strokes.sort((a, b) => a.on - b.on || a.key - b.key || b.dur - a.dur); }

export function endOf(strokes) {
  let end = 0;
  for (const s of strokes) end = Math.max(end, s.on + s.dur);
  return end;
}

/** A key sounds once at a time: a stroke still held when its key is struck again ends there, as on the server. */
export function tidy(strokes) {
  const all = sorted(strokes.slice()), last = new Map(), out = [];
  for (const s of all) {
    const at = last.get(s.key);
    if (at !== undefined) {
      const before = out[at], room = s.on - before.on;
      if (room <= 0) continue; // of two at once the longer stays, which is sorted first
      if (before.dur > room) out[at] = { ...before, dur: room }; // its id stays: it is the same stroke, shorter
    }
    last.set(s.key, out.length);
    out.push(s);
  }
  return out;
}

export const shifted = (strokes, by) => strokes.map((s) => ({ ...s, id: next++, on: s.on + by }));
export const before = (strokes, time) => strokes.filter((s) => s.on < time);
export const from = (strokes, time) => strokes.filter((s) => s.on >= time);

/** Strokes with some of them replaced: change(s) gives what becomes of each chosen one, null takes it away. */
export function edited(strokes, chosen, change) {
  const kept = strokes.filter((s) => !chosen.has(s.id)), made = [];
  for (const s of strokes) {
    if (!chosen.has(s.id)) continue;
    const after = change(s);
    if (after) made.push({ ...s, ...after, id: next++ });
  }
  return { strokes: tidy(kept.concat(made)), made };
}

/** How far chosen strokes can go in time and pitch, with none leaving the piano or beginning before 0. */
export function clampMove(chosen, seconds, semitones) {
  let first = Infinity, low = Infinity, high = -Infinity;
  for (const s of chosen) {
    first = Math.min(first, s.on);
    if (isNote(s)) { low = Math.min(low, s.key); high = Math.max(high, s.key); }
  }
  const up = low === Infinity ? 0 : Math.min(Math.max(semitones, LOWEST - low), HIGHEST - high);
  return [Math.max(seconds, -first), up];
}

/** Seconds on the model's ticks of 10 ms. */
export const toTick = (seconds) => Math.round(seconds * 100) / 100;

export function clock(seconds, digits = 1) {
  const sign = seconds < 0 ? "−" : "", all = Math.abs(seconds), scale = 10 ** digits;
  const whole = Math.round(all * scale) / scale, minutes = Math.floor(whole / 60);
  const rest = (whole - 60 * minutes).toFixed(digits);
  return `${sign}${minutes}:${rest.padStart(digits ? 3 + digits : 2, "0")}`;
}
