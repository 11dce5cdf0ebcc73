// Edits of a piece: functions that take its events and return new ones.
import { HIGHEST, isNote, LOWEST, makeEvent, tidy, toTick } from "./piece.js";

export const SHORTEST = 0.02; // seconds: of a note or a pedal press that is drawn or resized

/** A copy of an event with other fields and an id of its own. @param {MusicEvent} event @param {Fields} fields @returns {MusicEvent} */
export const remade = (event, fields) => {
  const { id } = makeEvent(0, 0, 0, 0);
  return { ...event, ...fields, id };
};

/**
 * Change the events whose ids are `selected`. `change(e)` returns the new fields of one, a list of them to make several
 * of it, or null to delete it. Returns the piece, and what was made.
 * @param {MusicEvent[]} events
 * @param {Set<number>} selected
 * @param {Change} change
 */
export function edited(events, selected, change) {
  const kept = /** @type {MusicEvent[]} */ ([]), made = /** @type {MusicEvent[]} */ ([]);
  for (const e of events) {
    if (!selected.has(e.id)) { kept.push(e); continue; }
    const fields = change(e);
    if (fields) for (const each of [fields].flat()) made.push(remade(e, each));
  }
  return { events: tidy(kept.concat(made)), made };
}

/** Limit a move in [seconds, semitones] so that no event begins before 0 and no note leaves the piano.
 * @param {MusicEvent[]} selected @param {number} seconds @param {number} semitones @returns {[number, number]} */
export function clampMove(selected, seconds, semitones) {
  let first = Infinity, low = Infinity, high = -Infinity;
  for (const e of selected) {
    first = Math.min(first, e.onset);
    if (isNote(e)) { low = Math.min(low, e.key); high = Math.max(high, e.key); }
  }
  const up = low === Infinity ? 0 : Math.min(Math.max(semitones, LOWEST - low), HIGHEST - high);
  return [Math.max(seconds, -first), up];
}

/** @type {(seconds: number, semitones: number) => (e: MusicEvent) => Fields} */
export const moved = (seconds, semitones) => (e) =>
  ({ onset: e.onset + seconds, key: isNote(e) ? e.key + semitones : e.key });

/** Move the end of each event, or with `edge` "start" its onset, by some seconds.
 * @type {(seconds: number, edge?: Edge) => Change} */
export const resized = (seconds, edge = "end") => (e) => {
  if (edge === "end") return { duration: Math.max(SHORTEST, e.duration + seconds) };
  const by = Math.max(-e.onset, Math.min(seconds, e.duration - SHORTEST));
  return { onset: e.onset + by, duration: e.duration - by };
};

/** Split each event that sounds at a time into two. @type {(time: number) => Change} */
export const splitAt = (time) => (e) => {
  const first = toTick(time - e.onset), rest = e.duration - first;
  if (first < SHORTEST || rest < SHORTEST) return {};
  return [{ duration: first }, { onset: e.onset + first, duration: rest }];
};

/** @param {number} velocity */
const limited = (velocity) => Math.min(127, Math.max(1, Math.round(velocity)));

/** Change the velocity of notes; pedal presses keep their depth.
 * @type {(change: (velocity: number, e: MusicEvent) => number) => Change} */
export const withVelocity = (change) => (e) => (isNote(e) ? { velocity: limited(change(e.velocity, e)) } : {});

/** Move onsets to the nearest place of a grid (`snap(seconds)`), all of the way or a share of it.
 * @type {(snap: (seconds: number) => number, share?: number) => Change} */
export const quantised = (snap, share = 1) => (e) => ({ onset: Math.max(0, e.onset + share * (snap(e.onset) - e.onset)) });

/** Copies of events, moved. @type {(events: MusicEvent[], seconds: number, semitones?: number) => MusicEvent[]} */
export const copies = (events, seconds, semitones = 0) => events.map((e) => remade(e, moved(seconds, semitones)(e)));

/** The first onset and the last end of events, in seconds. @param {MusicEvent[]} events @returns {Span} */
export function extent(events) {
  let start = Infinity, end = 0;
  for (const e of events) { start = Math.min(start, e.onset); end = Math.max(end, e.onset + e.duration); }
  return [start, end];
}
