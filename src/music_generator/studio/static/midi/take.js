// A take: what is played, collected as events of a piece. Times are seconds of the piece.
import { LOWEST, makeEvent, sorted } from "../piece.js";

const PRESSED = 64; // the value from which a pedal is down, as in a MIDI file
const SHORTEST = 0.01; // seconds
const EARLY = 0.25; // seconds: what is played so shortly before the take begins, belongs to it

/** @param {number} seconds */
const rounded = (seconds) => Math.round(1000 * seconds) / 1000;
/** @param {number} count @param {string} name */
const named = (count, name) => `${count} ${name}${count === 1 ? "" : name.endsWith("ss") ? "es" : "s"}`;

export class Take {
  /** @type {MusicEvent[]} */ #events = []; // those that have ended
  /** @type {Map<number, {onset: number, velocity: number}>} */ #held = new Map(); // by key or pedal

  /** `start`: the second at which the take begins. */
  constructor(start = 0) { this.start = start; }

  /** Take what was played: {kind, key, velocity, pedal, value}, as the player tells it. @param {PianoMessage} played @param {number} seconds */
  add(played, seconds) {
    if (played.kind === "strike") this.#press(played.key, played.velocity, seconds);
    if (played.kind === "release") this.#lift(played.key, seconds);
    if (played.kind === "pedal") this.#move(played.pedal, Math.round(127 * played.value), seconds);
  }

  /** @param {number} key @param {number} velocity @param {number} seconds */
  #press(key, velocity, seconds) {
    this.#lift(key, seconds);
    this.#held.set(key, { onset: seconds, velocity });
  }

  /** A pedal is pressed from `PRESSED` on up to the next lower value, as deep as it gets. @param {number} pedal @param {number} depth @param {number} seconds */
  #move(pedal, depth, seconds) {
    const held = this.#held.get(pedal);
    if (depth < PRESSED) this.#lift(pedal, seconds);
    else if (held) held.velocity = Math.max(held.velocity, depth);
    else this.#held.set(pedal, { onset: seconds, velocity: depth });
  }

  /** @param {number} key @param {number} seconds */
  #lift(key, seconds) {
    const made = this.#made(key, seconds);
    this.#held.delete(key);
    if (made) this.#events.push(made);
  }

  /** The event of a key that is held up to a time; null if it is not held, or not in the take. @param {number} key @param {number} end */
  #made(key, end) {
    const held = this.#held.get(key), least = this.start - (key < LOWEST ? 0 : EARLY);
    if (!held || (end <= this.start && held.onset < least)) return null;
    const onset = Math.max(held.onset, this.start), from = held.onset < least ? onset : held.onset; // an early one keeps its length
    return makeEvent(rounded(onset), rounded(Math.max(end - from, SHORTEST)), key, held.velocity);
  }

  /** All events up to a time, at which those that are held end for now. @param {number} seconds */
  events(seconds) {
    const held = [...this.#held.keys()].map((key) => this.#made(key, seconds));
    return sorted([...this.#events, ...held.filter((e) => e !== null)]);
  }
}

/** The size of a take in words, for example "12 notes". @param {MusicEvent[]} events */
export function sizeOf(events) {
  const notes = events.filter((e) => e.key >= LOWEST).length;
  return notes ? named(notes, "note") : named(events.length, "pedal press");
}
