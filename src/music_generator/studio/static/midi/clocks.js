// The audio clock and the clock of the page's events (performance.now()), each in terms of the other.
// The audio clock falls back when the sound drops out. What is played then keeps its rhythm: it follows slowly.

const SLEW = 0.02, JUMP = 0.25; // seconds a second by which it follows; seconds from which on it was reset

export class Clocks {
  /** Seconds of the audio clock that are heard, less those of performance.now(). @type {number | null} */ #difference = null;
  #time = 0; // of the last look, in seconds

  /** `player` has the audio `context`. @param {Pick<Player, "context">} player */
  constructor(player) { this.player = player; }

  /** The difference as it is measured now. @param {number} now */
  #measure(now) {
    const { context } = this.player;
    if (!context) return 0;
    const { contextTime = 0, performanceTime = 0 } = context.getOutputTimestamp?.() ?? {};
    if (performanceTime > 0 && contextTime > 0) return contextTime - performanceTime / 1000;
    return context.currentTime - (context.outputLatency || 0) - now;
  }

  #look() {
    const now = performance.now() / 1000, measured = this.#measure(now), before = this.#difference ?? measured;
    const by = measured - before, most = SLEW * (now - this.#time);
    this.#difference = Math.abs(by) > JUMP ? measured : before + Math.min(Math.max(by, -most), most);
    this.#time = now;
    return this.#difference;
  }

  /** The time of the audio clock that is heard at a time of performance.now(), in seconds. @param {number} milliseconds */
  toAudio(milliseconds) { return milliseconds / 1000 + this.#look(); }

  /** The time of performance.now() at which a time of the audio clock is heard. @param {number} seconds */
  toPage(seconds) { return 1000 * (seconds - this.#look()); }
}
