// Playing: the server renders the span that is played, part by part; two audio elements take turns, so that one rings
// out while the next begins. Parts are kept for a while: looping and playing again asks for nothing.
import { sound } from "./server.js";

const FIRST = 10, REST = 30; // seconds of music in the first part, and in those after it: the first must come soon
const KEPT = 8; // parts
const SETTLE = 70; // milliseconds: who seeks again within them asks for nothing

export class Player {
  #parts = new Map(); // "from to" → a promise of a part

  /** `changed` is called when playing begins, ends or fails (then with the message). */
  constructor(elements, changed) {
    Object.assign(this, { elements, changed, element: null, piece: null, gain: null });
    this.playing = this.waiting = false;
    this.engine = "";
    this.turn = this.time = 0;
  }

  /** Play `piece` from second `at` to `end`; with `loop` [from, to] that span again and again. */
  async play(piece, at, end, loop) {
    const again = this.playing;
    this.stop();
    if (piece !== this.piece) this.#forget();
    const inLoop = loop && loop[1] - loop[0] > 0.05;
    Object.assign(this, { piece, end, loop: inLoop ? loop : null, playing: true, waiting: true });
    this.time = this.start = inLoop && (at < loop[0] || at >= loop[1]) ? loop[0] : at;
    this.abort = new AbortController();
    this.changed();
    await this.#guarded(async (mine) => {
      if (again) await new Promise((resolve) => setTimeout(resolve, SETTLE));
      if (mine.aborted) return;
      const limit = this.loop ? this.loop[1] : end;
      const part = await this.#part(this.start, Math.min(this.start + FIRST, limit));
      if (mine.aborted) return;
      this.waiting = false;
      this.#begin(part);
    });
  }

  async #guarded(action) {
    const mine = this.abort.signal;
    try { await action(mine); } catch (error) {
      if (mine.aborted || error.name === "AbortError") return;
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
      if (this.#parts.size > KEPT) this.#drop(this.#parts.keys().next().value);
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

  #begin(part) {
    const element = this.elements[this.turn ^= 1];
    if (element.src !== part.url) element.src = part.url; else element.currentTime = 0;
    Object.assign(this, { part, element, following: this.#next(part) });
    this.following?.catch(() => {});
    this.#guarded(async (mine) => {
      await element.play();
      if (mine.aborted) element.pause();
      else { this.changed(); this.#watch(mine); }
    });
  }

  /** What comes after a part: the rest of the piece bit by bit, the loop once more, or nothing. */
  #next(part) {
    const { loop, end } = this, limit = loop ? loop[1] : end;
    if (part.to < limit - 1e-6) return this.#part(part.to, Math.min(part.to + REST, limit));
    if (loop) return this.#part(loop[0], Math.min(loop[0] + FIRST, loop[1]));
    return null;
  }

  /** Wait for the moment at which the next part begins or the last one has rung out. */
  #watch(mine) {
    if (mine.aborted) return;
    const { element, part } = this, left = part.to - part.from - element.currentTime;
    if (this.following ? left <= 0.004 : element.ended) {
      if (!this.following) { this.stop(); this.time = this.start; this.changed(); return; }
      this.waiting = true;
      this.#guarded(async () => {
        const next = await this.following;
        if (mine.aborted) return;
        this.waiting = false;
        this.#begin(next);
      });
      return;
    }
    setTimeout(() => this.#watch(mine), this.following ? Math.min(Math.max(left * 1000 - 2, 4), 200) : 60);
  }

  /** The second of the piece that is heard now. */
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
