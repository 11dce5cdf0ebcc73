// The model's answer to a phrase: requested ahead, placed on the audio clock when it is due, and added to as it streams in.
import { endOf, fromJson, isNote, sorted, tidy, toJson } from "../piece.js";
import * as server from "../server.js";

const PAST = 60; // seconds before the answer that the model reads
const SHORTEST = 3, LONGEST = 12; // seconds of an answer
const NO_FACTS = { tempo_map: null, source: null };

/** The request for an answer to `events`, of about the length of the phrase that ends at second `end`.
 * @param {MusicEvent[]} events @param {MusicEvent[]} phrase @param {number} end @param {Settings} settings */
export function answerRequest(events, phrase, end, settings) {
  const recent = events.filter((e) => e.onset >= end - PAST), first = Math.max(0, Math.min(...recent.map((e) => e.onset)));
  const moved = tidy(recent.map((e) => ({ ...e, onset: e.onset - first }))), notes = phrase.filter(isNote);
  const [start, last] = [Math.min(...notes.map((e) => e.onset)), Math.max(...notes.map((e) => e.onset + e.duration))];
  const seconds = Math.round(10 * Math.min(Math.max(last - start, SHORTEST), LONGEST)) / 10;
  return { ...settings, task: "continue", piece: toJson(moved, NO_FACTS), from: Math.floor(100 * (last - first)) / 100,
    seconds, open_end: true, variations: 1 };
}

/** The part of events that has sounded by second `end`. @param {MusicEvent[]} events @param {number} end */
export function cutAt(events, end) {
  return events.filter((e) => e.onset < end - 1e-3).map((e) => ({ ...e, duration: Math.min(e.duration, end - e.onset) }));
}

export class Answer {
  /** @type {MusicEvent[]} */ #events = []; // in the seconds of the request
  #abort = new AbortController();
  /** @type {string | null} */ #job = null;
  /** @type {number | null} */ #shift = null; // from those seconds to the piece's
  isComplete = false;
  isDropped = false;
  isDue = false;
  seed = 0;
  start = 0; // the second of the piece at which its first note sounds
  over = 0; // the end of the rest before it, in seconds of performance.now()

  /** `arrived()` is called with more of it, `failed(message)` if there is none.
   * @param {object} request @param {{arrived(): void, failed(message: string): void}} listener */
  constructor(request, { arrived, failed }) {
    this.arrived = arrived;
    this.failed = failed;
    this.#receiveAll(request);
  }

  /** @param {object} request */
  async #receiveAll(request) {
    try {
      for await (const message of server.write(request, this.#abort.signal)) {
        if (this.isDropped) return;
        this.#receive(message);
      }
    } catch (error) { if (!this.isDropped) this.failed(server.messageOf(error)); }
    this.isComplete = true;
  }

  /** @param {Message} message */
  #receive(message) {
    if (message.type === "job") this.#job = message.job;
    if (message.type === "begin") [this.seed] = message.seeds;
    if (message.type === "events") this.#events.push(...fromJson(message, true));
    if (message.type === "variation") this.#events = fromJson(message, true);
    if (message.type === "events" || message.type === "variation") this.arrived();
  }

  /** Whether its first note is there and has no place yet. */
  get canBegin() { return this.isDue && this.#shift === null && this.#events.some(isNote); }
  get hasBegun() { return this.#shift !== null; }

  /** Let its first note sound at second `start` of the piece. @param {number} start */
  beginAt(start) {
    this.start = start;
    this.#shift = start - (this.#events.find(isNote)?.onset ?? 0);
  }

  /** What sounds of it, in seconds of the piece; a pedal that is pressed before its first note is pressed with it. */
  get events() {
    const shift = this.#shift;
    if (shift === null) return [];
    return sorted(this.#events.map((e) => ({ ...e, onset: Math.max(e.onset + shift, this.start) })));
  }

  get end() { return endOf(this.events); }

  /** Receive no more of it. */
  drop() {
    this.isDropped = true;
    if (this.isComplete) return;
    if (this.#job) server.cancel(this.#job);
    this.#abort.abort();
  }
}
