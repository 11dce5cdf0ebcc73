// The metronome: the beats of a tempo map as clicks, and the bar that is counted before a recording.

const AHEAD = 4 * 3600; // seconds after the end of the piece that have clicks, for what is recorded there

/** The clicks of a tempo map (`Beats`) from 0 on: {onset, accented}, in seconds. */
export function clicksOf(beats, end) {
  return Array.from(beats.beats(0, end + AHEAD), ({ seconds, isBar }) => ({ onset: seconds, accented: isBar }));
}

/**
 * One bar before second `at`, at its tempo and metre: its length in seconds, and its clicks, {before, accented}, in seconds
 * before `at`. They lie on the beats of the piece, so that the bar is shorter if `at` lies between two of them.
 */
export function countIn(beats, at) {
  const beat = beats.stepSeconds(at, "beat"), [top] = beats.metreAt(at);
  const seconds = top * beat - (firstOf(beats, "beat", at) - at);
  const clicks = Array.from({ length: top }, (_, i) => ({ before: seconds - i * beat, accented: i === 0 }));
  return { seconds, clicks: clicks.filter(({ before }) => before > 1e-6) };
}

/** The first beat or, with the step "bar", bar at or after a second. */
export function firstOf(beats, step, at) {
  const [first] = beats.lines(Math.max(0, at - 1e-6), Infinity, step);
  return first.seconds;
}

export class Metronome {
  #shown = null; // {beats, end}: what the player has the clicks of

  constructor(player) { Object.assign(this, { player, isOn: false }); }

  /** Click on the beats of a piece, if it is on. */
  set(beats, end) {
    const shown = this.#shown;
    if (!this.isOn && !shown) return;
    if (this.isOn && shown?.beats === beats && end < shown.end + AHEAD / 2) return;
    this.#shown = this.isOn ? { beats, end } : null;
    this.player.beats = this.isOn ? clicksOf(beats, end) : [];
  }

  turn(isOn, beats, end) {
    this.isOn = isOn;
    this.#shown = isOn ? null : this.#shown;
    this.set(beats, end);
  }
}
