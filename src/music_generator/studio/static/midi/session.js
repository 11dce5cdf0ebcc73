// What a recording and traded phrases share: the transport runs on from a second of the piece, what is played shows on the
// roll, and in the end it is a step of the history.
import { tidy } from "../piece.js";
import { Take } from "./take.js";

const LOOK = 40; // milliseconds between two pictures of what is played

export class Session {
  kind = "";
  /** A second of the piece and the time of the audio clock at which it sounds. @type {{second: number, clock: number} | null} */
  origin = null;
  #timer = 0;

  /** @param {SessionPage} page */
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

  /** What is not in the piece yet. @returns {MusicEvent[]} */
  get live() { return []; }

  /** What the player plays: events, and its end. @returns {[MusicEvent[], number]} */
  get score() { return [[], Infinity]; }

  /** Take what was played live. @param {Played} _played */
  played(_played) {}

  /** End it, and add what was played to the piece. */
  stop() { this.close(); }

  /** @returns {boolean} */
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

  /** The second of the piece that is heard at a time of performance.now(). @param {number} time */
  secondAt(time) { return this.page.clocks.toAudio(time) + this.shift; }

  /** From the time of the audio clock to that of the piece. */
  get shift() { return this.origin ? this.origin.second - this.origin.clock : 0; }

  get now() { return this.secondAt(performance.now()); }

  /** A take from a second on, with the pedals that are down. @param {number} second */
  makeTake(second) {
    const take = new Take(second);
    this.page.pedals.forEach((value, pedal) => take.add({ kind: "pedal", pedal, value }, second));
    return take;
  }

  /** Show on the roll what is not in the piece yet. */
  look() { if (this.origin) this.page.roll.setLive(this.live, this.now); }

  /** Add events to the piece, as a step of the history.
   * @param {string} label @param {MusicEvent[]} events @param {Detail | null} detail */
  commit(label, events, detail = null) {
    const { studio } = this.page;
    studio.history.commit(label, tidy(studio.history.events.concat(events)), { detail });
    studio.changed("recorded");
    studio.announce(label);
  }
}
