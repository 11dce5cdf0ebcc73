// Playback: the server renders the piece part by part. Two audio elements take turns, so that one part fades out while
// the next one begins. Some parts are cached, so that a loop is rendered once.
import { sound } from "./server.js";

const FIRST_SECONDS = 10, NEXT_SECONDS = 30; // of music in a part: the first must come soon
const MAX_PARTS = 8; // in the cache
const SEEK_DELAY = 70; // milliseconds: a seek that is followed by another one within them renders nothing

export class Player {
  #parts = new Map(); // "from to" → a promise of a part

  /** `changed` is called when playback begins, ends or fails (then with the message). */
  constructor(elements, changed) {
    Object.assign(this, { elements, changed, element: null, piece: null, gain: null });
    this.playing = this.waiting = false;
    this.engine = "";
    this.turn = this.time = 0;
  }

  /** Play `piece` from second `at` to second `end`, or repeat the span `loop`: [from, to]. */
  async play(piece, at, end, loop) {
    const isSeek = this.playing;
    this.stop();
    if (piece !== this.piece) this.#forget();
    const inLoop = loop && loop[1] - loop[0] > 0.05;
    Object.assign(this, { piece, end, loop: inLoop ? loop : null, playing: true, waiting: true });
    this.time = this.start = inLoop && (at < loop[0] || at >= loop[1]) ? loop[0] : at;
    this.abort = new AbortController();
    this.changed();
    await this.#reporting(async (signal) => {
      if (isSeek) await new Promise((resolve) => setTimeout(resolve, SEEK_DELAY));
      if (signal.aborted) return;
      const limit = this.loop ? this.loop[1] : end;
      const part = await this.#part(this.start, Math.min(this.start + FIRST_SECONDS, limit));
      if (signal.aborted) return;
      this.waiting = false;
      this.#playPart(part);
    });
  }

  async #reporting(action) {
    const signal = this.abort.signal;
    try { await action(signal); } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      this.stop();
      this.changed(error.message);
    }
  }

  #part(from, to) {
    const name = `${from} ${to}`;
    if (!this.#parts.has(name)) {
      const part = this.#fetch(from, to);
      this.#parts.set(name, part);
      part.catch(() => this.#parts.delete(name));
      if (this.#parts.size > MAX_PARTS) this.#drop(this.#parts.keys().next().value);
    }
    return this.#parts.get(name);
  }

  async #fetch(from, to) {
    const made = await sound(this.piece, { from, to, gain: this.gain }, this.abort.signal);
    this.gain ??= made.gain;
    this.engine = made.engine;
    return { from, to, url: URL.createObjectURL(made.blob) };
  }

  #drop(name) {
    this.#parts.get(name).then((part) => URL.revokeObjectURL(part.url), () => {});
    this.#parts.delete(name);
  }

  #forget() {
    for (const name of [...this.#parts.keys()]) this.#drop(name);
    this.gain = null;
  }

  #playPart(part) {
    const element = this.elements[this.turn ^= 1];
    if (element.src !== part.url) element.src = part.url; else element.currentTime = 0;
    Object.assign(this, { part, element, following: this.#next(part) });
    this.following?.catch(() => {});
    this.#reporting(async (signal) => {
      await element.play();
      if (signal.aborted) element.pause();
      else { this.changed(); this.#watch(signal); }
    });
  }

  /** The part after a part: the next one of the piece, the first one of the loop, or null. */
  #next(part) {
    const { loop, end } = this, limit = loop ? loop[1] : end;
    if (part.to < limit - 1e-6) return this.#part(part.to, Math.min(part.to + NEXT_SECONDS, limit));
    if (loop) return this.#part(loop[0], Math.min(loop[0] + FIRST_SECONDS, loop[1]));
    return null;
  }

  /** Wait until the next part must begin, or until the last one has faded out. */
  #watch(signal) {
    if (signal.aborted) return;
    const { element, part } = this, left = part.to - part.from - element.currentTime;
    if (this.following ? left <= 0.004 : element.ended) {
      if (!this.following) { this.stop(); this.time = this.start; this.changed(); return; }
      this.waiting = true;
      this.#reporting(async () => {
        const next = await this.following;
        if (signal.aborted) return;
        this.waiting = false;
        this.#playPart(next);
      });
      return;
    }
    setTimeout(() => this.#watch(signal), this.following ? Math.min(Math.max(left * 1000 - 2, 4), 200) : 60);
  }

  /** The second of the piece that sounds now. */
  get now() {
    if (!this.playing || !this.element || this.waiting) return this.time;
    this.time = Math.min(this.part.from + this.element.currentTime, this.part.to);
    return this.time;
  }

  stop() {
    this.time = this.now;
    this.abort?.abort();
    for (const element of this.elements) element.pause();
    this.playing = this.waiting = false;
    this.element = null;
  }
}
