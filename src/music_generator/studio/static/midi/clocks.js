// The audio clock and the clock of the page's events (performance.now()), each in terms of the other.
// The audio clock falls back when the sound drops out. What is played then keeps its rhythm: it follows slowly.

const SLEW = 0.02, JUMP = 0.25; // seconds a second by which it follows; seconds from which on it was set anew

export class Clocks {
  #difference = null; // seconds of the audio clock that are heard, less those of performance.now()
  #time = 0; // of the last look, in seconds

  /** `player` has the audio `context`. */
  constructor(player) { this.player = player; }

  #measure(now) {
    const { context } = this.player, { contextTime, performanceTime } = context.getOutputTimestamp?.() ?? {};
    if (performanceTime > 0 && contextTime > 0) return contextTime - performanceTime / 1000;
    return context.currentTime - (context.outputLatency || 0) - now;
  }

  #look() {
    const now = performance.now() / 1000, by = this.#measure(now) - this.#difference, most = SLEW * (now - this.#time);
    if (this.#difference === null || Math.abs(by) > JUMP) this.#difference += by;
    else this.#difference += Math.min(Math.max(by, -most), most);
    this.#time = now;
    return this.#difference;
  }

  /** The time of the audio clock that is heard at a time of performance.now(), in seconds. */
  toAudio(milliseconds) { return milliseconds / 1000 + this.#look(); }

  /** The time of performance.now() at which a time of the audio clock is heard. */
  toPage(seconds) { return 1000 * (seconds - this.#look()); }
}
