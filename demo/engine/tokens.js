// Performances as token rows on a grid of 10 ms, and their classes: music/tokens.py.
//
// A row is [shift, key, velocity, duration] in ticks.
import { LOWEST_PITCH, HIGHEST_PITCH, Performance } from "./performance.js";
import { rint, searchSorted } from "./tempo_map.js";

export const TICKS_PER_SECOND = 100;
export const KEYS = HIGHEST_PITCH - LOWEST_PITCH + 1, NUM_PEDALS = 3, NUM_KEYS = KEYS + NUM_PEDALS;
export const NO_ONSET = 1e9; // as a tick: never

/** The token rows of a performance; the inverse of `decode`. */
export function encode({ notes, pedals }) {
  const events = [];
  for (const [rows, first] of [[notes, -LOWEST_PITCH], [pedals, KEYS]]) {
    for (const [start, length, key, force] of rows) {
      const onset = rint(start * TICKS_PER_SECOND);
      events.push([onset, key + first, force, Math.max(rint((start + length) * TICKS_PER_SECOND) - onset, 1)]);
    }
  }
  events.sort((a, b) => a[0] - b[0] || a[1] - b[1] || b[3] - a[3]);
  const rows = [];
  let now = 0, last = -1;
  for (const [onset, key, force, duration] of events) {
    if (rows.length && onset === now && key === last) continue;
    rows.push([onset - now, key, force, duration]);
    [now, last] = [onset, key];
  }
  return rows;
}

/** The performance of token rows whose first shift counts from tick 0. */
export function decode(rows, tempoMap) {
  const notes = [], pedals = [];
  let tick = 0;
  for (const [shift, key, force, duration] of rows) {
    tick += shift;
    const seconds = [tick / TICKS_PER_SECOND, duration / TICKS_PER_SECOND];
    if (key < KEYS) notes.push([...seconds, key + LOWEST_PITCH, force]);
    else pedals.push([...seconds, key - KEYS, force]);
  }
  return new Performance(notes, pedals, tempoMap);
}

/** The ticks of the onsets of token rows. */
export function onsetTicks(rows, tick = 0) { return rows.map(([shift]) => (tick += shift)); }

/** The bin of a value; values past the last bin fall into it. */
export const binOf = (edges, value) => Math.min(Math.max(searchSorted(edges, value, "right") - 1, 0), edges.length - 2);

/** The classes of a token row's fields. */
export function classesOf(edges, row) {
  const [shift, key, velocity, duration] = row;
  return [binOf(edges.shift, shift), key, binOf(edges.velocity, velocity), binOf(edges.duration, duration)];
}
