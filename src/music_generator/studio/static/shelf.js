// Strokes laid out for drawing: by colour, in typed arrays, so that 20,000 of them are found and drawn in a frame.
import { isNote } from "./piece.js";

export const SHADES = 8; // of velocity
export const shadeOf = (vel) => Math.min(SHADES - 1, Math.max(0, Math.floor((vel - 12) / (100 / SHADES))));

/** One shelf per colour: arrays `on`, `end`, `key` by onset, and `reach`, the latest end up to there. */
export function shelve(strokes) {
  const groups = new Map();
  for (const s of strokes) {
    const colour = isNote(s) ? `${s.by ? "made" : "given"}-${shadeOf(s.vel)}` : `pedal-${s.by ? "made" : "given"}`;
    if (!groups.has(colour)) groups.set(colour, []);
    groups.get(colour).push(s);
  }
  const shelves = [...groups].map(([colour, group]) => {
    const shelf = { colour, pedals: colour.startsWith("pedal"), on: new Float64Array(group.length), end: new Float64Array(group.length),
      reach: new Float64Array(group.length), key: new Uint8Array(group.length), vel: new Uint8Array(group.length) };
    let reach = -Infinity;
    group.forEach((s, i) => {
      shelf.on[i] = s.on;
      shelf.end[i] = s.on + s.dur;
      shelf.reach[i] = reach = Math.max(reach, s.on + s.dur);
      shelf.key[i] = s.key;
      shelf.vel[i] = s.vel;
    });
    return shelf;
  });
  return Object.assign(shelves, { count: strokes.length });
}

/** The first index whose value is above `value`, of an array that rises. */
export function after(rising, value) {
  let low = 0, high = rising.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rising[middle] > value) high = middle; else low = middle + 1;
  }
  return low;
}
