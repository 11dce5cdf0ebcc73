// Which notes to select at once: the melody, the bass, or all that are softer or louder than a velocity.
import { isNote } from "./piece.js";

const CHORD_SECONDS = 0.05, CHORD_NOTES = 12; // as in voices.py: which notes are one chord

/** Say of each note, [onset, key] in the order of their onsets, if no note of its chord is higher; with `sign` -1, lower.
 * @param {[number, number][]} notes @param {number} sign */
export function outermost(notes, sign) {
  const best = notes.map(() => true);
  for (let i = 0; i < notes.length; i++) {
    for (let j = i + 1; j < Math.min(i + CHORD_NOTES, notes.length); j++) {
      if (notes[j][0] - notes[i][0] > CHORD_SECONDS + 1e-9) break;
      const above = sign * (notes[i][1] - notes[j][1]);
      if (above > 0) best[j] = false;
      if (above < 0) best[i] = false;
    }
  }
  return best;
}

/** @param {MusicEvent[]} notes @param {number} sign */
function outer(notes, sign) {
  const best = outermost(notes.map(({ onset, key }) => [onset, key]), sign);
  return notes.filter((_, i) => best[i]);
}

/** Each takes notes in the order of their onsets, and a velocity.
 * @type {Record<string, (notes: MusicEvent[], velocity: number) => MusicEvent[]>} */
export const VOICES = {
  melody: (notes) => outer(notes, 1),
  bass: (notes) => outer(notes, -1),
  softer: (notes, velocity) => notes.filter((e) => e.velocity < velocity),
  louder: (notes, velocity) => notes.filter((e) => e.velocity > velocity),
  all: (notes) => notes,
};

/** @param {MusicEvent[]} events @param {Span} span */
export const notesBetween = (events, [from, to]) => events.filter((e) => isNote(e) && e.onset >= from && e.onset < to);
