// What a recording and traded phrases share: the transport runs on from a second of the piece, what is played shows on the
// roll, and in the end it is a step of the history.
import { tidy } from "../piece.js";
import { Take } from "./take.js";

const LOOK = 40; // milliseconds between two pictures of what is played

export class Session {
  origin = null; // {second, clock}: a second of the piece and the time of the audio clock at which it sounds
  #timer = 0;

  /** `page`: {studio, player, roll, clocks, metronome, pedals, stop(), settings(task), restSeconds, sessionChanged()}. */
  constructor(page) { this.page = page; }

  /** Begin to listen: the studio ends it before anything else changes the piece. */
  open() {
    const { page } = this;
    page.stop();
    page.studio.settle();
    page.studio.recording = this;
    page.player.wake().catch(() => {}); // it says so when it plays
    this.#timer = setInterval(() => this.look(), LOOK);
    page.sessionChanged();
  }

  get isOpen() { return this.page.studio.recording === this; }

  /** End it and the transport. */
  close() {
    const { page } = this;
    clearInterval(this.#timer);
    page.studio.recording = null;
    page.stop();
    page.roll.setLive([]);
    page.sessionChanged();
  }

  /** The second of the piece that is heard at a time of performance.now(). */
  secondAt(time) { return this.origin.second + this.page.clocks.toAudio(time) - this.origin.clock; }

  get now() { return this.secondAt(performance.now()); }

  /** A take from a second on, with the pedals that are down. */
  makeTake(second) {
    const take = new Take(second);
    this.page.pedals.forEach((value, pedal) => take.add({ kind: "pedal", pedal, value }, second));
    return take;
  }

  /** Show on the roll what is not in the piece yet. */
  look() { if (this.origin) this.page.roll.setLive(this.live, this.now); }

  /** Add events to the piece, as a step of the history. */
  commit(label, events, detail = null) {
    const { studio } = this.page;
    studio.history.commit(label, tidy(studio.history.events.concat(events)), { detail });
    studio.changed("recorded");
    studio.announce(label);
  }
}
