// When a phrase is over: the player has rested since the last key was let up or, under the pedal, since it was struck.

const DOWN = 30 / 127; // the value from which the sustain pedal lifts the dampers, as in audio/voices.js
const PREPARED = 0.6; // the share of the rest after which the answer is prepared

export class Rest {
  /** @type {Set<number>} */ #down = new Set();
  /** @type {number | null} */ #struck = null; // seconds of the last strike
  /** @type {number | null} */ #released = null;
  #pedal = 0;

  /** `seconds`: the length of the rest. @param {number} seconds */
  constructor(seconds) { this.seconds = seconds; }

  /** @param {PianoMessage} played @param {number} seconds */
  add(played, seconds) {
    if (played.kind === "strike") {
      this.#down.add(played.key);
      this.#struck = seconds;
    }
    if (played.kind === "release" && this.#down.delete(played.key)) this.#released = seconds;
    if (played.kind === "pedal" && played.pedal === 0) this.#pedal = played.value;
  }

  /** Forget the phrase, but not which keys and pedals are down. */
  begin() { this.#struck = this.#released = null; }

  /**
   * Return when the rest is over, and when to prepare the answer: {prepared, over} in seconds; or null while a key is down
   * or before anything was played. A chord that is held under the pedal and let up late leaves time to prepare.
   */
  get due() {
    if (this.#struck === null || this.#down.size) return null;
    const after = (1 - PREPARED) * this.seconds, over = this.#pedal > DOWN
      ? Math.max(this.#struck + this.seconds, (this.#released ?? 0) + after) : (this.#released ?? this.#struck) + this.seconds;
    return { prepared: over - after, over };
  }
}
