// Playing: the server renders the span that is played, piece by piece; two audio elements take turns, so that one
// rings out while the next begins.
import { sound } from "./server.js";

const FIRST = 10, REST = 30; // seconds of music in the first file, and in those after it: the first must come soon

export class Player {
  /** `changed` is called when playing begins, ends or fails (with the message). */
  constructor(elements, changed) {
    this.elements = elements;
    this.changed = changed;
    this.playing = this.waiting = false;
    this.engine = "";
    this.turn = this.time = 0;
    this.element = null;
    for (const element of elements) element.preservesPitch = false;
  }

  /** Play `piece` from second `at` to `end`; with `loop` [from, to] that span again and again. */
  async play(piece, at, end, loop) {
    this.stop();
    const inLoop = loop && loop[1] - loop[0] > 0.05;
    Object.assign(this, { piece, end, loop: inLoop ? loop : null, playing: true, waiting: true, gain: null });
    this.time = this.start = inLoop && (at < loop[0] || at >= loop[1]) ? loop[0] : at;
    this.abort = new AbortController();
    this.changed();
    await this.#guarded(async (mine) => {
      const limit = this.loop ? this.loop[1] : end;
      const part = await this.#fetch(this.start, Math.min(this.start + FIRST, limit));
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

  async #fetch(from, to) {
    const made = await sound(this.piece, { from, to, gain: this.gain }, this.abort.signal);
    this.gain ??= made.gain;
    this.engine = made.engine;
    return { from, to, url: URL.createObjectURL(made.blob) };
  }

  #begin(part) {
    const element = this.elements[this.turn ^= 1];
    if (element.src) URL.revokeObjectURL(element.src);
    element.src = part.url;
    this.part = part;
    this.element = element;
    this.following = this.#next(part);
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
    if (part.to < limit - 1e-6) return this.#fetch(part.to, Math.min(part.to + REST, limit));
    if (loop) return this.#fetch(loop[0], Math.min(loop[0] + REST, loop[1]));
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
