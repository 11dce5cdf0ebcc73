// Playback: schedules the voices of a piece ahead on the audio clock, a window at a time, and plays what is struck live.
import { endOf } from "../piece.js";
import { messageOf } from "../server.js";
import { Sampler } from "./sampler.js";
import { Samples, SAMPLE_RATE } from "./samples.js";
import { click, limiter, OtherVoices } from "./tones.js";
import { Score, within } from "./voices.js";

const WINDOW = 1.2, TICK = 100; // seconds that are scheduled ahead; milliseconds between two looks
const START = 0.06; // seconds from a click to the first sound of a piece
export const EDIT = 0.03; // seconds from an edit to its sound
const PREPARE = 8; // seconds of the piece whose recordings are decoded ahead
const LAYERS_WAIT = 500, MOST_WAIT = 5000; // milliseconds: the right layers are waited for, then any layer of each key
const REST = 0.3; // seconds from the last event to the end of playback
const PREVIEW = 0.4, SHORTEST_LOOP = 0.05; // seconds
const LOUDEST = 2; // the factor of the full volume
export const NO_SOUND = "this browser plays no sound: allow it for this page, or try another browser";

export class Player {
  /** @type {Take | null} */ #take = null;
  /** Seconds of the piece that sound from a time `clock` of the audio clock on. @type {Segment[]} */
  #segments = [];
  #cursor = 0; // the second of the last segment up to which everything is scheduled
  /** Noises and clicks, which a new plan cancels. @type {{source: AudioScheduledSourceNode, t: number}[]} */
  #scheduled = [];
  #run = 0; // counts starts and stops
  /** @type {Click[]} */ #beats = [];
  /** @type {OtherNote[]} */ #others = [];
  /** @type {OtherVoices | null} */ #otherVoices = null;
  /** @type {Map<number, number>} */ #previews = new Map(); // the timers of keys
  /** @type {number | undefined} */ #timer;
  /** @type {Promise<void> | null} */ #started = null;
  #hasFailed = false;
  #isHeard = false;
  samples = new Samples();
  /** @type {AudioContext} */ context; // this and the next two: from the first `wake` on
  /** @type {GainNode} */ volume;
  /** @type {Sampler} */ sampler;
  /** @type {Score} */ score; // of what plays
  engine = "";
  playing = false;
  waiting = false;
  time = 0;
  start = 0;
  end = 0;
  /** @type {Span | null} */ loop = null;
  level = 0.7;
  /** @type {Set<number>} */ held = new Set(); // keys that are down
  /** @type {Port | null} */ port = null; // a MIDI output that plays instead of the page's piano
  /** Told of all that is played live. @type {(played: Played) => void} */
  played = () => {};
  /** Told once, when the first sound has been scheduled: what is loaded for later can be loaded from then on. */
  heard = () => {};

  /** `changed(message)` is called when playback begins, ends or fails (then with the message); `struck` when keys that
   * are played live go down or up. @param {(message?: string) => void} changed @param {() => void} struck */
  constructor(changed = () => {}, struck = () => {}) {
    this.changed = changed;
    this.struck = struck;
  }

  // --- the audio of the page -------------------------------------------------------------------------------------

  /** Load the recordings that any key needs, and first those that events need from second `at` on. @param {MusicEvent[]} events */
  async prepare(events = [], at = 0) {
    const score = new Score(events, await this.samples.open());
    await Promise.all(this.#recordings(score, at, at + PREPARE).map((row) => this.samples.load(row)));
    await this.samples.loadFirst();
  }

  /** Make the audio context, or resume it: browsers allow it in a gesture only. */
  wake() {
    this.#started ??= this.#build();
    this.#started.catch(() => { this.#started = null; });
    if (this.context && this.context.state !== "running") this.context.resume().catch(() => {});
    return this.#started;
  }

  async #build() {
    if (!this.context) {
      try { this.context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "interactive" }); } catch { throw new Error(NO_SOUND); }
      this.volume = new GainNode(this.context);
      const { input, output } = limiter(this.context);
      this.volume.connect(input);
      output.connect(this.context.destination);
      this.setVolume(this.level);
    }
    const sampler = new Sampler(this.context, this.samples, await this.samples.open());
    sampler.output.connect(this.volume);
    await sampler.addResonance().catch(() => {}); // without worklets the strings do not ring along
    this.sampler = sampler;
    this.engine = "Salamander grand piano";
    this.prepare().catch(() => {}); // who needs one of them reports it
  }

  /** Load the other recordings once something sounds: until then they would take the time of what is needed. */
  #hear() {
    if (this.#isHeard) return;
    this.#isHeard = true;
    this.samples.loadRest().catch(() => {}); // who needs one of them reports it
    this.heard();
  }

  /** Set the volume, 0 to 1. @param {number} level */
  setVolume(level) {
    this.level = level;
    this.volume?.gain.setTargetAtTime(LOUDEST * level ** 2, this.context.currentTime, 0.01);
  }

  /** What the page sounds like before the volume: an AudioNode. */
  get output() { return this.sampler?.output; }

  /** The time of the audio clock, in seconds. */
  get clock() { return this.context?.currentTime ?? 0; }

  /** @param {() => Promise<void>} action */
  async #reporting(action) {
    const run = this.#run;
    try { await action(); } catch (error) {
      if (run !== this.#run) return; // stopped meanwhile
      this.stop();
      this.changed(messageOf(error));
    }
  }

  // --- the transport ---------------------------------------------------------------------------------------------

  /** Play events from second `at` to second `end`, or repeat the span `loop`: [from, to]. It begins after `delay` seconds,
   * or as if it had begun at a time `clock` of the audio clock.
   * @param {MusicEvent[]} events @param {number} at @param {number} end @param {Span | null} loop
   * @param {{delay?: number, clock?: number | null}} options */
  async play(events, at, end = endOf(events), loop = null, { delay = 0, clock = null } = {}) {
    this.stop();
    const run = this.#run;
    Object.assign(this, { end, loop: usable(loop), playing: true, waiting: true });
    this.time = this.start = this.loop && (at < this.loop[0] || at >= this.loop[1]) ? this.loop[0] : at;
    this.changed();
    await this.#reporting(async () => {
      await this.wake();
      await this.#running();
      if (run !== this.#run) return;
      this.score = new Score(events, await this.samples.open());
      if (!this.port) await this.#decoded(this.start, this.start + WINDOW);
      if (run !== this.#run) return;
      this.#begin(clock ?? this.clock + START + delay);
    });
  }

  get #isRunning() { return this.context.state === "running"; }

  /** Wait until the browser lets the page sound. */
  async #running() {
    if (this.#isRunning) return;
    await Promise.race([this.context.resume(), sleep(MOST_WAIT)]);
    if (!this.#isRunning) throw new Error("the browser holds the sound back: click on the page, and play again");
  }

  /** The recordings of the notes that sound between two seconds of a score, the first ones last: those are loaded first.
   * @param {Score} score @param {number} from @param {number} to */
  #recordings(score, from, to) {
    const { index } = score, notes = [...score.sounding(from), ...score.voices(from, to)].map(({ note }) => note);
    return [...new Set(notes.flatMap(({ key, velocity }) => index.layers(key, velocity).map(([row]) => row)))].reverse();
  }

  /** Wait for the recordings of the notes between two seconds; another layer of a key stands in for one that is late.
   * @param {number} from @param {number} to */
  async #decoded(from, to) {
    const { samples } = this, rows = this.#recordings(this.score, from, to), loading = rows.map((row) => samples.load(row));
    await Promise.race([Promise.all(loading), sleep(LAYERS_WAIT)]);
    const missing = rows.filter((row) => !samples.nearest(this.score.index.tones.get(row.key) ?? [], row.layer));
    await Promise.race([Promise.all(missing.map((row) => samples.load(row))), sleep(MOST_WAIT)]);
  }

  /** @param {number} clock */
  #begin(clock) {
    this.waiting = false;
    this.#take = this.sampler.makeTake();
    this.#enter({ from: this.start, to: this.loop ? this.loop[1] : this.end, clock });
    this.#tick();
    this.#hear();
    this.changed();
  }

  /** Add a segment: its pedals as they are then, and the notes that already sound. @param {Segment} segment */
  #enter(segment) {
    const { from, to, clock } = segment, shift = clock - from, take = this.#take;
    this.#segments.push(segment);
    this.#cursor = from;
    if (this.port) { this.port.enter(this.score.events, from, shift, this.#until(to)); return; }
    this.sampler.setContact(this.score.dampers.at(from), clock);
    if (take) for (const voice of this.score.sounding(from)) this.sampler.play(take, voice, shift, from, this.#until(to));
  }

  /** The second at which the dampers of a loop fall; at the end of the piece the strings ring. @param {number} to */
  #until(to) { return this.loop ? to : Infinity; }

  #tick() {
    clearTimeout(this.#timer);
    this.#schedule(this.clock + WINDOW);
    this.#prepareAhead();
    this.sampler.forget();
    if (this.#hasEnded()) { this.#end(); return; }
    this.#timer = setTimeout(() => this.#tick(), TICK);
  }

  /** Schedule everything that begins before a time of the audio clock. @param {number} horizon */
  #schedule(horizon) {
    for (let turn = 0; turn < 1000; turn++) {
      const { from, to, clock } = this.#newest, end = Math.min(to, from + horizon - clock);
      if (end > this.#cursor) this.#scheduleSpan(this.#cursor, end, clock - from, this.#until(to));
      this.#cursor = Math.max(this.#cursor, end);
      if (!this.loop || clock + to - from > horizon) return;
      this.#enter({ from: this.loop[0], to: this.loop[1], clock: clock + to - from });
    }
  }

  get #newest() { return this.#segments[this.#segments.length - 1]; }

  /** @param {number} from @param {number} to @param {number} shift @param {number} until */
  #scheduleSpan(from, to, shift, until) {
    if (this.port) this.port.schedule(within(this.score.events, from, to), shift, until);
    else this.#scheduleVoices(from, to, shift, until);
    for (const beat of within(this.beats, from, to)) {
      this.#later(this.click(beat.onset + shift, beat.accented), beat.onset + shift);
    }
    for (const note of within(this.others, from, to)) this.#other(note, shift, until);
  }

  /** @param {number} from @param {number} to @param {number} shift @param {number} until */
  #scheduleVoices(from, to, shift, until) {
    const { score, sampler } = this, take = this.#take;
    if (!take) return;
    for (const voice of score.voices(from, to)) sampler.play(take, voice, shift, -Infinity, until);
    for (const [onset, kind, level] of within(score.pedalNoises, from, to, ([onset]) => onset)) {
      this.#later(sampler.pedalNoise(take, kind, level, onset + shift), onset + shift);
    }
    for (const t of score.dampers.moves(from, to)) sampler.setContact(score.dampers.at(t), t + shift);
  }

  /** @param {AudioScheduledSourceNode | null} source @param {number} t */
  #later(source, t) {
    this.#scheduled = this.#scheduled.filter((each) => each.t > this.clock);
    if (source) this.#scheduled.push({ source, t });
  }

  /** @param {OtherNote} note @param {number} shift @param {number} until */
  #other(note, shift, until) {
    this.#otherVoices ??= new OtherVoices(this.context, this.output);
    const source = this.#otherVoices.play(note, note.onset + shift, Math.min(note.duration, until - note.onset));
    this.#later(source, note.onset + shift);
  }

  /** Decode the recordings of the next seconds. */
  #prepareAhead() {
    if (this.port) return;
    const to = Math.min(this.#cursor + PREPARE, this.loop ? this.loop[1] : Infinity);
    for (const row of this.#recordings(this.score, this.#cursor, to)) this.samples.load(row).catch((error) => this.#fail(error));
  }

  /** Report that recordings are missing, once in a run. @param {unknown} error */
  #fail(error) {
    if (!this.#hasFailed) this.changed(messageOf(error));
    this.#hasFailed = true;
  }

  #hasEnded() {
    const { from, to, clock } = this.#newest;
    return !this.loop && this.clock > clock + to - from + REST;
  }

  /** Stop, and let the strings ring. */
  #end() {
    Object.assign(this, { playing: false, time: this.start });
    this.#segments = [];
    this.changed();
  }

  /** The second of the piece that is heard now. */
  get now() {
    if (!this.playing || !this.#segments.length) return this.time;
    const heard = this.clock - (this.context.outputLatency || 0);
    while (this.#segments.length > 1 && this.#segments[1].clock <= heard) this.#segments.shift();
    const { from, to, clock } = this.#segments[0];
    this.time = Math.min(Math.max(from, from + heard - clock), to);
    return this.time;
  }

  /** The time of the audio clock at which a second of the piece sounds, in the repeat that plays now. @param {number} second */
  clockAt(second) {
    const [{ from, clock } = { from: 0, clock: 0 }] = this.#segments;
    return clock + second - from;
  }

  stop() {
    this.time = this.now;
    this.#run++;
    clearTimeout(this.#timer);
    if (this.#take) {
      this.#cancelLater(this.clock);
      this.sampler.stop(this.#take);
    }
    this.port?.silence();
    Object.assign(this, { playing: false, waiting: false });
    this.#hasFailed = false;
    this.#take = null;
    this.#segments = [];
  }

  // --- changes while it plays ------------------------------------------------------------------------------------

  /** Go on with other events: what sounds goes on where it is the same, what has not sounded yet is planned again. @param {MusicEvent[]} events */
  update(events, end = endOf(events)) {
    if (!this.playing) return;
    this.end = end;
    if (this.#take) this.#planAgain(new Score(events, this.score.index));
    else this.play(events, this.time, end, this.loop); // it was waiting
  }

  /** Repeat a span from now on, or with null play to the end. @param {Span | null} loop */
  setLoop(loop) {
    this.loop = usable(loop);
    this.#planSame();
  }

  /** {onset, accented} in seconds of the piece, ascending: the clicks of a metronome. */
  get beats() { return this.#beats; }
  set beats(beats) { this.#beats = beats; this.#planSame(); }

  /** {onset, duration, key, velocity, program, isDrum}, ascending: the notes of other tracks, which sound faintly. */
  get others() { return this.#others; }
  set others(notes) { this.#others = notes; this.#planSame(); }

  #planSame() { if (this.playing && this.#take) this.#planAgain(this.score); }

  /** @param {Score} score */
  #planAgain(score) {
    const take = this.#take, t = this.clock + EDIT, i = this.#segments.findLastIndex((each) => each.clock <= t);
    this.score = score;
    this.#cancelLater(t);
    this.sampler.cancelContact(t);
    this.#segments.length = Math.max(i, 0) + 1;
    const segment = this.#newest, shift = segment.clock - segment.from, at = Math.max(t - shift, segment.from);
    segment.to = Math.max(this.loop ? this.loop[1] : this.end, at);
    if (this.loop && at >= this.loop[1]) segment.to = at; // at once to the beginning of the loop
    if (take) this.sampler.replan(take, score, shift, t, this.#until(segment.to));
    this.port?.replan(score.events, shift, t, this.#until(segment.to));
    if (i < 0) { this.#segments.pop(); this.#enter(segment); } // it has not begun
    else {
      this.sampler.setContact(score.dampers.at(at), t);
      this.port?.enter(score.events, at, shift, this.#until(segment.to));
      this.#cursor = at;
    }
    this.#tick();
  }

  /** @param {number} t */
  #cancelLater(t) {
    for (const each of this.#scheduled) if (each.t >= t) each.source.stop();
    this.#scheduled = this.#scheduled.filter((each) => each.t < t);
  }

  // --- live ------------------------------------------------------------------------------------------------------

  /** Strike a key at once, velocity 1 to 127. `time` is that of the event; what the user's own piano sounds is not
   * `sounded` by the page. @param {number} key @param {number} velocity */
  strike(key, velocity, time = performance.now(), sounded = true) {
    this.held.add(key);
    if (sounded) this.#strike(key, velocity);
    this.struck();
    this.played({ kind: "strike", key, velocity, time });
  }

  /** @param {number} key @param {number} velocity */
  #strike(key, velocity) {
    if (this.port) { this.wake().catch(() => {}); this.port.strike(key, velocity); return; }
    const strike = () => {
      const isHeard = this.sampler.strike(key, velocity);
      if (isHeard) this.#hear();
      if (!this.held.has(key)) this.sampler.release(key); // it is up again
      return isHeard;
    };
    this.#live(strike, () => this.#strikeLater(key, velocity));
  }

  /** Let a key up. @param {number} key */
  release(key, time = performance.now()) {
    this.held.delete(key);
    this.sampler?.release(key);
    this.port?.release(key);
    this.struck();
    this.played({ kind: "release", key, time });
  }

  releaseAll() { for (const key of [...this.held]) this.release(key); }

  /** Move a pedal, 0 (sustain), 1 (sostenuto) or 2 (una corda), to a value of 0 to 1. @param {number} number @param {number} value */
  pedal(number, value, time = performance.now(), sounded = true) {
    if (!this.port) this.#live(() => this.sampler.pedal(number, value));
    else if (sounded) this.port.pedal(number, value);
    this.played({ kind: "pedal", pedal: number, value, time });
  }

  /** Sound a short note that ends by itself. @param {number} key @param {number} velocity */
  preview(key, velocity) {
    if (this.port) { this.port.preview(key, velocity, PREVIEW); return; }
    this.#live(() => {
      if (this.sampler.strike(key, velocity)) this.#hear();
      clearTimeout(this.#previews.get(key));
      this.#previews.set(key, setTimeout(() => { if (!this.held.has(key)) this.sampler.release(key); }, 1000 * PREVIEW));
    });
  }

  /** Sound a click of a metronome at a time of the audio clock. Return its source, or null before the sound is on. @param {number} time */
  click(time, accented = false) { return this.sampler ? click(this.context, this.output, time, accented) : null; }

  /** Do something with the sampler at once if it is there, else as soon as it is; `missed` if it returned false.
   * @param {() => unknown} action */
  #live(action, missed = () => {}) {
    const waking = this.wake();
    if (this.sampler) { if (action() === false) missed(); return; }
    waking.then(() => { if (action() === false) missed(); }).catch((error) => this.changed(messageOf(error)));
  }

  /** Strike a key that is still down once a recording of it is decoded. @param {number} key @param {number} velocity */
  async #strikeLater(key, velocity) {
    const [[row]] = this.sampler.index.layers(key, velocity);
    try {
      await this.samples.load(row);
      if (this.held.has(key)) this.sampler.strike(key, velocity);
      this.#hear();
    } catch (error) { this.changed(messageOf(error)); }
  }
}

/** @param {number} milliseconds @returns {Promise<void>} */
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
/** @param {Span | null} loop */
const usable = (loop) => (loop && loop[1] - loop[0] > SHORTEST_LOOP ? loop : null);
