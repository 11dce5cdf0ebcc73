// The audio clock and the clock of the page's events (performance.now()), each in terms of the other.

const KEPT = 25, JUMP = 0.1; // differences of which the median counts; seconds from which on a clock was set anew

export class Clocks {
  /** @type {number[]} */ #differences = [];

  /** `player` has the audio `context`. @param {Pick<Player, "context">} player */
  constructor(player) { this.player = player; }

  /** The seconds of the audio clock at which sound is heard, less those of performance.now(), as they are measured now. */
  #measure() {
    const { context } = this.player, { contextTime = 0, performanceTime = 0 } = context.getOutputTimestamp?.() ?? {};
    if (performanceTime > 0 && contextTime > 0) return contextTime - performanceTime / 1000;
    return context.currentTime - (context.outputLatency || 0) - performance.now() / 1000;
  }

  get #difference() {
    const now = this.#measure(), kept = this.#differences;
    if (kept.length && Math.abs(now - kept[kept.length - 1]) > JUMP) kept.length = 0; // the sound was held back meanwhile
    kept.push(now);
    if (kept.length > KEPT) kept.shift();
    return [...kept].sort((a, b) => a - b)[kept.length >> 1];
  }

  /** The time of the audio clock that is heard at a time of performance.now(), in seconds. @param {number} milliseconds */
  toAudio(milliseconds) { return milliseconds / 1000 + this.#difference; }

  /** The time of performance.now() at which a time of the audio clock is heard. @param {number} seconds */
  toPage(seconds) { return 1000 * (seconds - this.#difference); }
}
