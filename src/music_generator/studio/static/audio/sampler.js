// The grand piano in Web Audio: tones of a piece at exact times, and keys and pedals that are played live.
import {
  contact, dampedFrom, dampingRate, delayed, fallAfter, fallenAt, lastOf, LOWEST_UNDAMPED, pedalLevel, releaseLevel, SILENCE, SOSTENUTO,
  STRUCK_RATE, SUSTAIN, toneLevel, UNA_CORDA,
} from "./voices.js";

export const MAX_VOICES = 128;
const DARK_HZ = 1_500, DARK_SHARE = 0.6; // una corda, as in sound/grand.py
const FADE_IN = 0.008; // seconds: of a tone that begins in the middle
const STOLEN_RATE = 50, STOP_SECONDS = 0.06; // nepers a second; the time in which a stopped take falls by 1/e
const DECAY = 5.2; // nepers by which a recording has fallen at its end
const DOWN = 0.5; // the value from which sostenuto and una corda are down

/** A tone that sounds or will sound. Times are those of the audio clock. */
class Voice {
  /** @type {AudioBufferSourceNode[]} */ sources = [];
  /** @type {{source: AudioScheduledSourceNode, t: number} | null} */ noise = null; // of its damper
  shift = 0; // from the piece's time to that of the audio clock
  struck = 0;

  /** @param {Sampler} sampler @param {Take} take @param {ToneToPlay} tone @param {MusicEvent | null} note */
  constructor(sampler, take, { key, velocity, level, isDark, times, fallen }, note = null) {
    const { context } = sampler;
    this.sampler = sampler;
    this.take = take;
    this.note = note;
    this.key = key;
    this.velocity = velocity;
    this.level = level;
    this.times = times;
    this.fallen = fallen;
    this.seconds = sampler.index.keys[key].seconds;
    this.envelope = new GainNode(context, { gain: 0 });
    this.envelope.connect(isDark ? take.dark : take.bright);
  }

  get start() { return this.times[0]; }
  get end() { return lastOf(this.times); }

  /** Start from `offset` seconds after the strike. Return false if no recording of the key is decoded yet. @param {number} offset */
  begin(offset) {
    const { sampler: { context, samples, index }, key, start } = this, { recordings, ratio } = index.keys[key];
    const at = offset + Math.max(context.currentTime - start, 0); // a late one joins at its place
    for (const [row, weight] of index.layers(key, this.velocity)) {
      const found = samples.nearest(recordings, row.layer);
      if (found?.row !== row) samples.load(row);
      if (!found || at * ratio >= found.buffer.duration) continue;
      const source = new AudioBufferSourceNode(context, { buffer: found.buffer, playbackRate: ratio });
      const gain = new GainNode(context, { gain: weight * found.row.gain });
      source.connect(gain).connect(this.envelope);
      source.start(start, at * ratio);
      this.sources.push(source);
    }
    this.#draw(offset > 0 ? this.#fadedIn() : this);
    return this.sources.length > 0;
  }

  #fadedIn() {
    const after = fallAfter(this, this.start + FADE_IN);
    return { times: [this.start, ...after.times], fallen: [SILENCE, ...after.fallen] };
  }

  /** @param {Fall} fall */
  #draw({ times, fallen }) {
    const { gain } = this.envelope;
    gain.setValueAtTime(this.#value(fallen[0]), times[0]);
    this.#ramp({ times, fallen });
  }

  /** @param {number} nepers */
  #value(nepers) { return this.level * Math.exp(-nepers); }

  /** @param {Fall} fall */
  #ramp({ times, fallen }) {
    for (let i = 1; i < times.length; i++) this.envelope.gain.exponentialRampToValueAtTime(this.#value(fallen[i]), times[i]);
    for (const source of this.sources) source.stop(Math.max(lastOf(times), this.start));
  }

  /** From `t` on, fall as another fall does from there. @param {Fall} fall @param {number} t */
  follow(fall, t) {
    const after = fallAfter(fall, t), by = fallenAt(this, t) - after.fallen[0], i = this.times.findIndex((each) => each >= t);
    const before = i < 0 ? this.times.length : Math.max(i, 1);
    this.times = [...this.times.slice(0, before), ...after.times];
    this.fallen = [...this.fallen.slice(0, before), ...after.fallen.map((each) => each + by)];
    const tail = { times: this.times.slice(before), fallen: this.fallen.slice(before) };
    this.envelope.gain.cancelScheduledValues(t);
    if (t <= this.start) this.#draw(tail);
    else this.#ramp({ times: [this.start, ...tail.times], fallen: [0, ...tail.fallen] });
  }

  /** From `t` on, lose `rate` nepers a second: 0 holds the tone. @param {number} rate @param {number} t */
  fall(rate, t) {
    if (t >= this.end) return;
    const natural = this.naturalEnd, nepers = fallenAt(this, t), silent = rate > 0 ? t + Math.max(SILENCE - nepers, 0.01) / rate : Infinity;
    const end = Math.min(silent, natural);
    this.follow({ times: [t, Math.max(end, t + 1e-3)], fallen: [nepers, nepers + rate * (end - t)] }, t);
  }

  get naturalEnd() { return this.struck + this.seconds; }

  /** How loud it is about, to choose the one that is given up. @param {number} t */
  loudness(t) { return this.level * Math.exp(-fallenAt(this, t) - (DECAY * (t - this.struck)) / this.seconds); }

  /** @param {number} t */
  endBy(t) {
    this.cancelNoise();
    for (const source of this.sources) source.stop(Math.min(this.end, t));
  }

  cancel() {
    for (const source of this.sources) { source.stop(); source.disconnect(); }
    this.cancelNoise();
  }

  /** Cancel the noise of the damper if it begins at `t` or later. */
  cancelNoise(t = 0) {
    if (!this.noise || this.noise.t < t) return;
    this.noise.source.stop();
    this.noise = null;
  }
}

/** All that sounds from one start of playback to its stop. */
class Take {
  /** @type {ConvolverNode | null} */ #dark = null;

  /** @param {BaseAudioContext} context @param {AudioNode} output */
  constructor(context, output) {
    this.context = context;
    this.bright = new GainNode(context);
    this.bright.connect(output);
  }

  /** The input of the tones that are played una corda: part of what lies above DARK_HZ is taken off. */
  get dark() {
    if (this.#dark) return this.#dark;
    const { sampleRate } = this.context, half = Math.round(sampleRate / DARK_HZ / 4), taps = 2 * half + 1;
    const buffer = new AudioBuffer({ length: taps, sampleRate }), response = buffer.getChannelData(0).fill(DARK_SHARE / taps);
    response[half] += 1 - DARK_SHARE;
    this.#dark = new ConvolverNode(this.context, { buffer, disableNormalization: true });
    this.#dark.connect(this.bright);
    return this.#dark;
  }
}

export class Sampler {
  /** @type {Voice[]} */ voices = [];
  /** @type {AudioWorkletNode | null} */ resonance = null;

  /** @param {BaseAudioContext} context @param {Samples} samples @param {Index} index of the samples */
  constructor(context, samples, index) {
    this.context = context;
    this.samples = samples;
    this.index = index;
    this.output = new GainNode(context);
    /** @type {Map<number, {voice: Voice, isDown: boolean, isCaught: boolean}>} */
    const keys = new Map();
    this.live = { take: this.makeTake(), keys, depth: 0, sostenuto: false, unaCorda: false };
  }

  /** Let the open strings ring under the pedal. Return once they do. */
  async addResonance() {
    await this.context.audioWorklet.addModule(new URL("resonance.js", import.meta.url));
    this.resonance = new AudioWorkletNode(this.context, "resonance", { outputChannelCount: [2] });
    this.live.take.bright.connect(this.resonance).connect(this.output);
  }

  makeTake() {
    const take = new Take(this.context, this.output);
    if (this.resonance) take.bright.connect(this.resonance);
    return take;
  }

  // --- the voices of a piece -------------------------------------------------------------------------------------

  /** Sound a voice of a score in a take; `shift` seconds bring the piece's time to the audio clock's. It begins at second
   * `from` of the piece if that is later than its strike, and is damped at second `until`.
   * @param {Take} take @param {ScoreVoice} voice @param {number} shift */
  play(take, voice, shift, from = -Infinity, until = Infinity) {
    const { note, up } = voice, rate = dampingRate(note.key), begin = Math.max(note.onset, from);
    const fall = dampedFrom(from > note.onset ? fallAfter(voice, from) : voice, until, rate);
    const made = this.#start(take, { ...fall, key: note.key, velocity: note.velocity, level: voice.level, isDark: voice.isDark },
      shift, begin - note.onset, note);
    if (up >= begin && up < until && voice.isDamped) made.noise = this.#release(take, note, up + shift);
    return made;
  }

  /** From time `t` of the audio clock on, play the voices of a take as another score has them: those that have begun go
   * on, and the others are cancelled.
   * @param {Take} take @param {Score} score @param {number} shift @param {number} t @param {number} until */
  replan(take, score, shift, t, until) {
    const mine = this.voices.filter((voice) => voice.take === take), ahead = mine.filter((voice) => voice.start >= t);
    for (const voice of ahead) voice.cancel();
    this.voices = this.voices.filter((voice) => !ahead.includes(voice));
    for (const voice of mine) if (voice.start < t && voice.end > t && voice.shift === shift) this.#go(voice, score, t, until);
  }

  /** Let a voice that has begun fall as its note does in another score, or by its damper if it is not there.
   * @param {Voice} voice @param {Score} score @param {number} t @param {number} until */
  #go(voice, score, t, until) {
    const { note, take, shift } = voice, found = note && score.find(note), rate = dampingRate(voice.key);
    voice.cancelNoise(t);
    const fall = found && delayed(dampedFrom(found, until, rate), shift);
    if (!found || !fall || lastOf(fall.times) <= t) { voice.fall(rate, t); return; }
    voice.follow(fall, t);
    const up = found.up + shift;
    if (up >= t && found.up < until && found.isDamped && !voice.noise) voice.noise = this.#release(take, found.note, up);
  }

  /** @param {Take} take @param {ToneToPlay} tone @param {number} shift @param {number} offset @param {MusicEvent | null} note */
  #start(take, { times, fallen, ...rest }, shift, offset, note = null) {
    this.#makeRoom(times[0] + shift);
    const voice = new Voice(this, take, { ...rest, ...delayed({ times, fallen }, shift) }, note);
    Object.assign(voice, { shift, struck: times[0] + shift - offset });
    voice.begin(offset);
    this.voices.push(voice);
    return voice;
  }

  /** Give up the softest voice if there are too many. @param {number} t */
  #makeRoom(t) {
    const sounding = this.voices.filter((voice) => voice.end > t + SILENCE / STOLEN_RATE); // without those that are given up
    if (sounding.length < MAX_VOICES) return;
    const softest = sounding.reduce((a, b) => (a.loudness(t) < b.loudness(t) ? a : b));
    softest.fall(STOLEN_RATE, Math.max(t, softest.start));
  }

  /** The noise of a damper that falls: {source, t}. @param {Take} take @param {{key: number, velocity: number}} note @param {number} t */
  #release(take, { key, velocity }, t) {
    const source = this.#noise(take, this.index.keys[key].release, releaseLevel(velocity), t);
    return source && { source, t };
  }

  /** @param {Take} take @param {string} kind @param {number} level @param {number} t */
  pedalNoise(take, kind, level, t) { return this.#noise(take, this.index.pedals[kind], level, t); }

  /** @param {Take} take @param {Sample | undefined} row @param {number} level @param {number} t */
  #noise(take, row, level, t) {
    const buffer = row && this.samples.get(row);
    if (!row) return null;
    if (!buffer) { this.samples.load(row); return null; }
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(new GainNode(this.context, { gain: level * row.gain })).connect(take.bright);
    source.start(t);
    return source;
  }

  /** The contact of the piece's dampers with the strings that ring along, from time `t`. @param {number} value @param {number} t */
  setContact(value, t) { this.resonance?.parameters.get("contact")?.setValueAtTime(value, t); }
  /** @param {number} t */
  cancelContact(t) { this.resonance?.parameters.get("contact")?.cancelScheduledValues(t); }

  /** Let all dampers of a take fall. @param {Take} take */
  stop(take, t = this.context.currentTime) {
    this.cancelContact(t);
    this.setContact(1, t);
    take.bright.gain.setTargetAtTime(0, t, STOP_SECONDS);
    const silent = t + SILENCE * STOP_SECONDS;
    for (const voice of this.voices) {
      if (voice.take !== take) continue;
      if (voice.start > t) voice.cancel(); else voice.endBy(silent);
    }
    this.voices = this.voices.filter((voice) => voice.take !== take);
    setTimeout(() => take.bright.disconnect(), 1000 * (silent - t) + 100);
  }

  /** Forget the voices that have ended. */
  forget() {
    const now = this.context.currentTime;
    this.voices = this.voices.filter((voice) => voice.end > now);
  }

  // --- keys and pedals that are played live ----------------------------------------------------------------------

  get #now() { return this.context.currentTime; }
  get #contact() { return contact(this.live.depth); }

  /** Strike a key. Return false if none of its recordings is decoded yet. @param {number} key @param {number} velocity */
  strike(key, velocity) {
    const { live } = this, t = this.#now, before = live.keys.get(key), isDark = live.unaCorda;
    this.forget();
    before?.voice.fall(STRUCK_RATE, t);
    const fall = { times: [t, t + this.index.keys[key].seconds], fallen: [0, 0] };
    const voice = this.#start(live.take, { ...fall, key, velocity, isDark, level: toneLevel(velocity, isDark) }, 0, 0);
    live.keys.set(key, { voice, isDown: true, isCaught: false });
    return voice.sources.length > 0;
  }

  /** @param {number} key */
  release(key) {
    const state = this.live.keys.get(key);
    if (!state?.isDown) return;
    state.isDown = false;
    if (key < LOWEST_UNDAMPED && this.#contact > 0.5 && !state.isCaught) this.#release(this.live.take, state.voice, this.#now);
    this.#damp(state);
  }

  /** Let the damper of a key touch its string as firmly as the pedals allow. @param {{voice: Voice, isDown: boolean, isCaught: boolean}} state */
  #damp({ voice, isDown, isCaught }) {
    const isFree = isDown || isCaught || voice.key >= LOWEST_UNDAMPED;
    voice.fall(isFree ? 0 : dampingRate(voice.key) * this.#contact, this.#now);
  }

  /** Move a pedal, 0 (sustain), 1 (sostenuto) or 2 (una corda), to a value of 0 to 1. @param {number} number @param {number} value */
  pedal(number, value) {
    const { live } = this;
    if (number === UNA_CORDA) { live.unaCorda = value >= DOWN; return; }
    if (number === SOSTENUTO) this.#setSostenuto(value >= DOWN);
    if (number === SUSTAIN) this.#setDepth(127 * value);
    for (const state of live.keys.values()) if (!state.isDown) this.#damp(state);
  }

  /** @param {boolean} isDown */
  #setSostenuto(isDown) {
    const { live } = this;
    if (isDown === live.sostenuto) return;
    live.sostenuto = isDown;
    for (const state of live.keys.values()) state.isCaught = isDown && (state.isDown || this.#contact === 0);
  }

  /** @param {number} depth */
  #setDepth(depth) {
    const { live } = this, wasDown = live.depth > 0;
    if (wasDown !== depth > 0) this.pedalNoise(live.take, wasDown ? "pedal-up" : "pedal-down", pedalLevel(depth || live.depth), this.#now);
    live.depth = depth;
    this.resonance?.parameters.get("live")?.setValueAtTime(this.#contact, this.#now);
  }
}
