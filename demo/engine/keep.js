// Which notes of a span stay when the others are rewritten around them: generation/keep.py and music/voices.py.
import { outermost } from "../voices.js";
import { InputError } from "./errors.js";

const outer = (notes, sign) => outermost(notes.map(([onset, , pitch]) => [onset, pitch]), sign);
const KEEP = { all: (notes) => notes.map(() => true), melody: (notes) => outer(notes, 1), bass: (notes) => outer(notes, -1) };
const LIMITS = {
  softer: ([, , , velocity], limit) => velocity < limit,
  louder: ([, , , velocity], limit) => velocity > limit,
  below: ([, , pitch], limit) => pitch < limit,
  above: ([, , pitch], limit) => pitch > limit,
};
export const NAMES = [...Object.keys(KEEP), ...Object.keys(LIMITS).map((name) => `${name}:N`)];

/** Onset and pitch of each note, as one value. */
export const strike = ([onset, , pitch]) => `${onset} ${pitch}`;

/** The function that keeps each note that begins when and on the key that one of `notes` does. */
export function those(notes) {
  const wanted = new Set(notes.map(strike));
  return (gap) => gap.map((note) => wanted.has(strike(note)));
}

/** The function that a name such as `melody` or `softer:60` stands for. */
export function readKeep(text) {
  const [name, number] = text.split(/:(.*)/s);
  if (Object.hasOwn(KEEP, text)) return KEEP[text];
  if (!Object.hasOwn(LIMITS, name) || !/^\d{1,3}$/.test(number ?? "") || Number(number) > 127) {
    throw new InputError(`\`keep\` must be one of ${NAMES.join(", ")}, N being 0 to 127, not '${text}'`);
  }
  return (notes) => notes.map((note) => LIMITS[name](note, Number(number)));
}
