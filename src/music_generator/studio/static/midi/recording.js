// Recording what is played into the piece, from the playhead on, along with the piece and after a bar that is counted.
import { countIn } from "./metronome.js";
import { Session } from "./session.js";
import { sizeOf } from "./take.js";

/** @type {ReturnType<typeof countIn>} */
const NO_COUNT = { seconds: 0, clicks: [] };

export class Recording extends Session {
  kind = "record";
  /** @type {Played[]} */ #early = []; // what was played before the transport ran
  /** @type {(OscillatorNode | null)[]} */ #clicks = [];
  /** @type {MidiTake} */ take;

  async start() {
    this.open();
    const { studio, player, metronome } = this.page, second = studio.playhead;
    const count = metronome.isOn ? countIn(studio.time.beats, second) : NO_COUNT;
    studio.announce(metronome.isOn ? "One bar is counted" : "Recording");
    this.take = this.makeTake(second);
    await player.play(studio.history.events, second, Infinity, null, { delay: count.seconds });
    if (!this.isOpen) return;
    if (!player.playing) { this.close(); return; } // the player says why
    const clock = player.clockAt(second);
    this.origin = { second, clock };
    this.#clicks = count.clicks.map(({ before, accented }) => player.click(clock - before, accented));
    for (const played of this.#early) this.played(played);
  }

  /** What the player plays: events, and its end. @returns {[MusicEvent[], number]} */
  get score() { return [this.page.studio.history.events, Infinity]; }
  get live() { return this.take.events(this.now); }

  /** @param {Played} played */
  played(played) {
    if (this.origin) this.take.add(played, this.secondAt(played.time));
    else this.#early.push(played);
  }

  stop() {
    const events = this.origin ? this.take.events(this.now) : [];
    for (const click of this.#clicks) click?.stop();
    this.close();
    if (events.length) this.commit(`Record ${sizeOf(events)}`, events);
    else this.page.studio.announce("Nothing was recorded");
  }
}
