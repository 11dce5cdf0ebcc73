// Draw lists: events grouped by colour in typed arrays, so that 20,000 of them are found and drawn within a frame.
import { isNote } from "./piece.js";

const SHADES = 8; // of velocity
export const ROLES = ["given", "made"]; // the user's events and the model's
export const NOTE_COLOURS = ROLES.flatMap((role) => Array.from({ length: SHADES }, (_, shade) => `${role}-${shade}`));
export const PEDAL_COLOURS = ROLES.map((role) => `pedal-${role}`);
export const OTHER_COLOUR = "other"; // of the notes of other tracks

/** @param {number} velocity */
const shadeOf = (velocity) => Math.min(SHADES - 1, Math.max(0, Math.floor((velocity - 12) / (100 / SHADES))));

/** @param {MusicEvent} event */
function colourOf(event) {
  if (event.other) return OTHER_COLOUR;
  const role = event.generated ? 1 : 0;
  return isNote(event) ? NOTE_COLOURS[role * SHADES + shadeOf(event.velocity)] : PEDAL_COLOURS[role];
}

/** One list per colour; `count` is the number of all events. @param {MusicEvent[]} events @returns {DrawLists} */
export function makeDrawLists(events) {
  /** @type {Map<string, MusicEvent[]>} */
  const groups = new Map();
  for (const e of events) {
    const colour = colourOf(e);
    const group = groups.get(colour);
    if (group) group.push(e); else groups.set(colour, [e]);
  }
  const lists = [...groups].map(([colour, group]) => makeList(colour, group));
  return Object.assign(lists, { count: events.length });
}

/** Arrays `onset`, `end`, `key` and `velocity`, sorted by onset, and `reach`: the latest end of an event and of all before it.
 * @param {string} colour @param {MusicEvent[]} group @returns {DrawList} */
function makeList(colour, group) {
  const [onset, end, reach] = Array.from({ length: 3 }, () => new Float64Array(group.length));
  const [key, velocity] = Array.from({ length: 2 }, () => new Uint8Array(group.length));
  group.forEach((e, i) => {
    onset[i] = e.onset;
    end[i] = e.onset + e.duration;
    reach[i] = Math.max(end[i], i ? reach[i - 1] : 0);
    key[i] = e.key;
    velocity[i] = e.velocity;
  });
  return { colour, isPedal: PEDAL_COLOURS.includes(colour), onset, end, reach, key, velocity };
}

/** The first index of a sorted array whose value is above `value`. @param {ArrayLike<number>} sorted @param {number} value */
export function firstAbove(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] > value) high = middle; else low = middle + 1;
  }
  return low;
}
