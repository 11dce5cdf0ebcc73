// The metronome: the beats of a tempo map as clicks, and the bar that is counted before a recording.

const AHEAD = 4 * 3600; // seconds after the end of the piece that have clicks, for what is recorded there

/** The clicks of a tempo map (`Beats`) from 0 on: {onset, accented}, in seconds. @param {Beats} beats @param {number} end @returns {Click[]} */
export function clicksOf(beats, end) {
  return Array.from(beats.beats(0, end + AHEAD), ({ seconds, isBar }) => ({ onset: seconds, accented: isBar }));
}

/**
 * One bar before second `at`, at its tempo and metre: its length in seconds, and its clicks, {before, accented}, in seconds
 * before `at`. They lie on the beats of the piece, so that the bar is shorter if `at` lies between two of them. @param {Beats} beats @param {number} at
 */
export function countIn(beats, at) {
  const beat = beats.stepSeconds(at, "beat"), [top] = beats.metreAt(at);
  const seconds = top * beat - (firstOf(beats, "beat", at) - at);
  const clicks = Array.from({ length: top }, (_, i) => ({ before: seconds - i * beat, accented: i === 0 }));
  return { seconds, clicks: clicks.filter(({ before }) => before > 1e-6) };
}

/** The first beat or, with the step "bar", bar at or after a second.
 * @param {Beats} beats @param {GridStep} step @param {number} at */
export function firstOf(beats, step, at) {
  const [first] = beats.lines(Math.max(0, at - 1e-6), Infinity, step);
  return first ? first.seconds : at;
}

export class Metronome {
  /** What the player has the clicks of. @type {{beats: Beats, end: number} | null} */
  #shown = null;
  isOn = false;

  /** @param {{beats: Click[]}} player */
  constructor(player) { this.player = player; }

  /** Click on the beats of a piece, if it is on. @param {Beats} beats @param {number} end */
  set(beats, end) {
    const shown = this.#shown;
    if (!this.isOn && !shown) return;
    if (this.isOn && shown && shown.beats === beats && end < shown.end + AHEAD / 2) return;
    this.#shown = this.isOn ? { beats, end } : null;
    this.player.beats = this.isOn ? clicksOf(beats, end) : [];
  }

  /** @param {boolean} isOn @param {Beats} beats @param {number} end */
  turn(isOn, beats, end) {
    this.isOn = isOn;
    this.#shown = isOn ? null : this.#shown;
    this.set(beats, end);
  }
}
