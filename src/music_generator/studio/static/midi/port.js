// A MIDI output that plays instead of the page's piano: events of a piece at times of the audio clock, and live ones at once.
// Messages are sent shortly before their time, because browsers do not take back what was sent.
import { isNote, PEDALS } from "../piece.js";
import { ALL_OFF, beginOf, endOf, noteOff, noteOn, pedalTo } from "./messages.js";

const TURN = 25; // milliseconds between two looks
const AHEAD = 0.15, AHEAD_HIDDEN = 1.5; // seconds that are sent ahead; hidden pages look once a second only
const SAME = 1e-6, KEPT = 2; // seconds: between equal onsets; for which it is known what was sent ahead

/** @param {MusicEvent} a @param {MusicEvent} b */
const isSame = (a, b) => a.key === b.key && a.velocity === b.velocity && Math.abs(a.onset - b.onset) < SAME;

export class Port {
  /** What is to be sent. @type {{t: number, event: MusicEvent, isDown: boolean}[]} */
  #queue = [];
  /** By key or pedal: what of the piece holds it, and since when by both clocks. @type {Map<number, {event: MusicEvent, t: number, time: number}>} */
  #down = new Map();
  /** What has begun lately or was sent ahead. @type {{event: MusicEvent, t: number}[]} */
  #begun = [];
  /** @type {Set<number>} */ #live = new Set(); // keys that are down live
  #last = 0; // performance.now() of the last message, as some lie ahead
  /** @type {number | undefined} */ #timer;

  /** `output`: a MIDIOutput; `clocks`: the audio clock and that of the page. @param {MIDIOutput} output @param {Clocks} clocks */
  constructor(output, clocks) {
    this.output = output;
    this.clocks = clocks;
    this.name = output.name;
  }

  // --- the events of a piece -------------------------------------------------------------------------------------

  /** Play events of a piece; `shift` seconds bring its time to the audio clock's. What sounds at second `until` ends.
   * @param {MusicEvent[]} events @param {number} shift */
  schedule(events, shift, until = Infinity) {
    for (const event of events) {
      const t = event.onset + shift, isSent = this.#begun.some((each) => isSame(each.event, event) && Math.abs(each.t - t) < SAME);
      if (!isSent) this.#plan(event, t, Math.min(event.onset + event.duration, until) + shift);
    }
    this.#queue.sort((a, b) => a.t - b.t || Number(a.isDown) - Number(b.isDown));
    this.#timer ??= setInterval(() => this.#send(), TURN);
    this.#send();
  }

  /** @param {MusicEvent} event @param {number} from @param {number} to */
  #plan(event, from, to) { this.#queue.push({ t: from, event, isDown: true }, { t: to, event, isDown: false }); }

  /** Press the pedals that are down at second `from` of the piece, if they are not down yet. @param {MusicEvent[]} events @param {number} from @param {number} shift */
  enter(events, from, shift, until = Infinity) {
    /** @param {MusicEvent} e */
    const isPlanned = (e) => this.#queue.some(({ event, isDown }) => isDown && isSame(event, e));
    for (const e of events) {
      if (e.onset >= from) break;
      const end = Math.min(e.onset + e.duration, until), held = this.#down.get(e.key);
      if (isNote(e) || end <= from || isPlanned(e) || (held && isSame(held.event, e))) continue;
      this.#plan(e, from + shift, end + shift);
    }
    this.schedule([], shift);
  }

  /** From time `t` of the audio clock on, play another piece: what is down ends as it does there, or at `t`.
   * @param {MusicEvent[]} events @param {number} shift @param {number} t */
  replan(events, shift, t, until = Infinity) {
    this.#queue = this.#queue.filter((each) => each.t < t);
    /** @type {Map<number, {event: MusicEvent, t: number}>} */
    const down = new Map(this.#down);
    for (const { t: at, event, isDown } of this.#queue) {
      if (isDown) down.set(event.key, { event, t: at }); else if (down.get(event.key)?.event === event) down.delete(event.key);
    }
    for (const { event, t: begun } of down.values()) {
      const found = events.find((e) => isSame(e, event)), end = found ? Math.min(found.onset + found.duration, until) + shift : t;
      this.#queue.push({ t: Math.max(end, t, begun), event, isDown: false });
    }
    this.schedule([], shift);
  }

  #send() {
    const horizon = this.clocks.toAudio(performance.now()) + (document.hidden ? AHEAD_HIDDEN : AHEAD);
    while (this.#queue.length && this.#queue[0].t <= horizon) this.#perform(this.#queue.splice(0, 1)[0]);
    if (!this.#queue.length) { clearInterval(this.#timer); this.#timer = undefined; }
  }

  /** @param {{t: number, event: MusicEvent, isDown: boolean}} change */
  #perform({ t, event, isDown }) {
    const before = this.#down.get(event.key), time = Math.max(this.clocks.toPage(t), performance.now());
    if (isDown) {
      if (before) this.#put(endOf(before.event), time);
      this.#put(beginOf(event), time);
      this.#down.set(event.key, { event, t, time });
      this.#begun = this.#begun.filter((each) => each.t > t - KEPT);
      this.#begun.push({ event, t });
    } else if (before?.event === event) { // else its key was struck again
      this.#end(event, Math.max(time, before.time)); // the clocks may move against each other meanwhile
      this.#down.delete(event.key);
    }
  }

  /** End an event, unless its key is down live meanwhile. @param {MusicEvent} event @param {number} [time] */
  #end(event, time) { if (!this.#live.has(event.key)) this.#put(endOf(event), time); }

  /** @param {number[]} message */
  #put(message, time = performance.now()) {
    this.#last = Math.max(this.#last, time);
    try { this.output.send(message, time); } catch { /* it was unplugged: the dialog says so */ }
  }

  /** End all that sounds of the piece, and drop what was to come. */
  silence() {
    this.#queue = [];
    this.#begun = [];
    if (!this.#down.size && !this.#isAhead) return;
    /** @type {{clear?(): void}} */ (this.output).clear?.(); // not every browser has it
    const time = this.#isAhead ? this.#last + 1 : performance.now(); // after what was sent ahead
    for (const { event } of this.#down.values()) this.#end(event, time);
    if (!this.#live.size) for (const message of ALL_OFF) this.#put(message, time);
    this.#down.clear();
  }

  get #isAhead() { return this.#last > performance.now(); }

  // --- keys and pedals that are played live ----------------------------------------------------------------------

  /** @param {number} key @param {number} velocity */
  strike(key, velocity) {
    this.#live.add(key);
    this.#put(noteOn(key, velocity));
  }

  /** @param {number} key */
  release(key) { if (this.#live.delete(key)) this.#put(noteOff(key)); }

  /** @param {number} number @param {number} value */
  pedal(number, value) { this.#put(pedalTo(number, Math.round(127 * value))); }

  /** Sound a note for some seconds. @param {number} key @param {number} velocity @param {number} seconds */
  preview(key, velocity, seconds) {
    this.#put(noteOn(key, velocity));
    this.#put(noteOff(key), performance.now() + 1000 * seconds);
  }

  /** End everything, and send nothing more. */
  close() {
    for (const key of [...this.#live]) this.release(key);
    for (let pedal = 0; pedal < PEDALS.length; pedal++) this.pedal(pedal, 0);
    this.silence();
  }
}
