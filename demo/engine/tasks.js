// The tasks as spans to write: generation/tasks.py.
import { InputError, float, general, hundredths } from "./errors.js";
import { delayed, firstNoteOnset, followedBy } from "./joining.js";
import { LONGEST_SECONDS, Performance, firstOnset } from "./performance.js";
import { Span, heldOver } from "./span.js";
import { TICKS_PER_SECOND } from "./tokens.js";

export function toCompose(seconds, { openEnd = false } = {}) {
  return new Span(new Performance(), new Performance(), 0, checkedLength(seconds), { closes: !openEnd });
}

export function toContinue(primer, seconds, { start = null, openEnd = false } = {}) {
  needNotes(primer, "the primer");
  if (start === null) start = after(primer);
  else if (!(start >= 0 && start <= Math.max(primer.end, after(primer)))) {
    throw new InputError(`\`from\` must be 0 to ${hundredths(primer.end)}, the seconds of the primer, not ${general(start)}`);
  }
  primer = primer.between(0, start);
  needNotes(primer, `the primer before ${float(start)} s`);
  return new Span(primer, new Performance(), start, start + checkedLength(seconds), { closes: !openEnd });
}

export function toLeadIn(passage, seconds) {
  needNotes(passage, "the passage");
  const wait = checkedLength(seconds) - begins(passage);
  if (wait > 0) passage = delayed(passage, wait);
  const end = begins(passage);
  return new Span(new Performance(), passage, Math.max(end - seconds, 0), end);
}

/** `keep` says of each note of the gap whether it stays. */
export function toInfill(piece, start, end, { keep = null } = {}) {
  needNotes(piece, "the piece");
  if (!(start >= 0 && start < end)) {
    throw new InputError(
      `a gap must begin at 0 or later and end after it begins: \`from\` is ${float(start)} s, \`to\` is ${float(end)} s`,
    );
  }
  if (start >= piece.end) {
    throw new InputError(
      `the gap from ${float(start)} s lies outside the piece, which ends at ${hundredths(piece.end)} s`,
    );
  }
  let future = piece.between(end), kept = new Performance();
  if (future.notes.length) {
    const held = heldOver(piece.between(start, end).pedals, end);
    future = future.with({ pedals: [...held, ...future.pedals] });
  }
  if (keep) {
    const { notes } = piece.between(start, end), stays = keep(notes);
    kept = new Performance(notes.filter((_, i) => stays[i]));
    needNotes(kept, `what is kept of the gap from ${float(start)} to ${float(end)} s`);
  }
  return new Span(piece.between(0, start), future, start, end, { kept, closes: !future.notes.length });
}

export function toBridge(before, following, seconds) {
  needNotes(before, "the first piece");
  needNotes(following, "the second piece");
  const start = after(before), begin = start + Math.max(checkedLength(seconds) - begins(following), 0);
  [before, following] = followedBy(before.between(0, start), following, begin);
  return new Span(before, following, after(before), firstOnset(following));
}

function needNotes(performance, what) {
  if (!performance.notes.length) throw new InputError(`${what} has no notes`);
}

function checkedLength(seconds) {
  if (seconds > 0 && seconds <= LONGEST_SECONDS) return seconds;
  throw new InputError(`\`seconds\` must be above 0 and at most ${LONGEST_SECONDS}, not ${float(seconds)}`);
}

/** The second at which the first note of a piece's file begins, or a pedal of the piece before it. */
const begins = (piece) => Math.min(firstOnset(piece), firstNoteOnset(piece));

/** One tick after the last onset; a pedal that is pressed when no note sounds any more does not count. */
function after({ notes, pedals }) {
  const end = notes.reduce((last, [onset, duration]) => Math.max(last, onset + duration), 0);
  const sounding = pedals.filter(([onset]) => onset <= end);
  return Math.max(notes.at(-1)[0], sounding.at(-1)?.[0] ?? 0) + 1 / TICKS_PER_SECOND;
}
