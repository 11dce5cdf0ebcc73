// Trading phrases: the player plays; when they rest, the model answers, until they play again. All of it becomes the piece.
import { EDIT } from "../audio/player.js";
import { endOf, sorted } from "../piece.js";
import { messageOf } from "../server.js";
import { Answer, answerRequest, cutAt } from "./answer.js";
import { firstOf } from "./metronome.js";
import { Rest } from "./rest.js";
import { Session } from "./session.js";
import { sizeOf } from "./take.js";

const GAP = 1; // seconds between the piece and the first phrase
const MARGIN = 0.02; // seconds that planning an answer takes at most
const NO_COMMAND = "an answer that was traded live: no command line writes it again";

export class Trade extends Session {
  kind = "trade";
  /** @type {number[]} */ delays = []; // seconds from the end of each rest to the first note of its answer, on the audio clock
  /** @type {MidiTake | null} */ #take = null; // the phrase that is being played
  /** @type {Answer | null} */ #answer = null;
  /** @type {MusicEvent[]} */ #answered = []; // the events of earlier answers, which may still ring
  /** @type {number[]} */ #timers = [];
  first = 0; // the second of the piece at which the first phrase begins
  rest = new Rest(this.page.restSeconds);

  start() {
    this.open();
    const { studio, metronome } = this.page, after = studio.end > 0 ? studio.end + GAP : 0;
    this.first = metronome.isOn ? firstOf(studio.time.beats, "bar", after) : after;
    this.page.pedals.forEach((value, pedal) => this.rest.add({ kind: "pedal", pedal, value }, 0));
    studio.playhead = this.first;
    studio.changed("moved");
    studio.announce("Play a phrase: the model answers when you rest");
  }

  // --- the player ------------------------------------------------------------------------------------------------

  /** @param {Played} played */
  played(played) {
    if (played.kind === "strike") this.#prepareTake(played.time);
    this.rest.add(played, played.time / 1000);
    this.#take?.add(played, this.secondAt(played.time));
    this.#plan();
  }

  /** The time of the piece begins with the first note; a note ends the answer that sounds. @param {number} time */
  #prepareTake(time) {
    if (!this.origin) this.#begin(time);
    this.#endAnswer();
    this.#take ??= this.makeTake(this.secondAt(time));
  }

  /** @param {number} time */
  #begin(time) {
    const { player, clocks } = this.page, clock = clocks.toAudio(time);
    this.origin = { second: this.first, clock };
    player.play([], this.first, Infinity, null, { clock }).then(() => { if (this.isOpen && !player.playing) this.stop(); });
  }

  /** Set the clock for the end of the rest, and for the request before it. */
  #plan() {
    for (const timer of this.#timers) clearTimeout(timer);
    const { due } = this.rest, now = performance.now() / 1000;
    if (!due || !this.#take) return;
    /** @param {number} seconds @param {() => void} action */
    const at = (seconds, action) => setTimeout(action, 1000 * (seconds - now));
    this.#timers = [at(due.prepared, () => this.#request()), at(due.over, () => this.#turn(due.over))];
  }

  // --- the answer ------------------------------------------------------------------------------------------------

  #request() {
    const { studio, settings } = this.page, phrase = this.#take?.events(this.now);
    if (this.#answer || !phrase) return;
    try {
      const request = answerRequest(studio.history.events.concat(phrase), phrase, this.now, settings("continue"));
      this.#answer = new Answer(request, { arrived: () => this.#arrived(), failed: (message) => studio.failed(message) });
    } catch (error) { studio.failed(messageOf(error)); }
  }

  /** The rest is over, at `over` seconds of performance.now(): the phrase is complete, and the answer begins. @param {number} over */
  #turn(over) {
    if (!this.#take) return;
    const events = this.#take.events(this.now);
    this.#take = null;
    this.rest.begin();
    if (this.#answer) Object.assign(this.#answer, { isDue: true, over });
    this.#arrived();
    this.commit(`Phrase of ${sizeOf(events)}`, events);
  }

  #arrived() {
    const { player } = this.page, answer = this.#answer;
    if (player.waiting) return; // the next look tries again
    if (answer?.canBegin) {
      const clock = player.clock + EDIT + MARGIN;
      this.delays.push(clock - player.clock + performance.now() / 1000 - answer.over);
      answer.beginAt(this.#secondOf(clock));
    }
    if (answer?.hasBegun) player.update(...this.score);
  }

  /** @param {number} clock */
  #secondOf(clock) { return clock + this.shift; }

  /** End the answer where it is: what has not sounded is dropped, and the dampers fall. */
  #endAnswer() {
    const answer = this.#answer;
    this.#answer = null;
    if (!answer) return;
    answer.drop();
    const events = cutAt(answer.events, this.#secondOf(this.page.player.clock + EDIT));
    this.#answered.push(...events);
    if (answer.hasBegun) this.page.player.update(...this.score);
    if (!events.length) return;
    /** @type {Detail} */
    const detail = { task: "continue", command: null, noCommand: NO_COMMAND, seed: answer.seed, span: [answer.start, endOf(events)], choice: null };
    this.commit(`Answer of ${sizeOf(events)}`, events, detail);
  }

  // --- the transport ---------------------------------------------------------------------------------------------

  /** What the player plays: events, and its end. @returns {[MusicEvent[], number]} */
  get score() { return [sorted([...this.#answered, ...this.#answer?.events ?? []]), Infinity]; }

  get live() { return sorted([...this.#take?.events(this.now) ?? [], ...this.#answer?.events ?? []]); }

  look() {
    super.look();
    const answer = this.#answer;
    if (answer?.canBegin) this.#arrived();
    if (answer?.isComplete && answer.hasBegun && this.now > answer.end) this.#endAnswer();
  }

  stop() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#endAnswer();
    const events = this.#take?.events(this.now) ?? [];
    this.close();
    if (events.length) this.commit(`Phrase of ${sizeOf(events)}`, events);
    this.page.studio.announce("Trading phrases is over");
  }
}
