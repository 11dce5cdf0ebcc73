// The grand piano without its sound: levels, layers, dampers and pedals, as in sound/grand.py and sound/dampers.py.
import { HIGHEST, isNote, LOWEST } from "../piece.js";

export const MIDDLE_LEVEL = 0.1; // what a tone of velocity 64 is multiplied by
export const SILENCE = 7.5; // nepers after which a damped tone is no longer heard
export const STRUCK_RATE = 1 / 0.12; // nepers a second that what still rings loses when the hammer strikes again
export const SUSTAIN = 0, SOSTENUTO = 1, UNA_CORDA = 2;
export const LOWEST_UNDAMPED = 90;
const MIDDLE_VELOCITY = 64, DECIBELS_PER_VELOCITY = 33 / 95;
const DAMPED_SECONDS = [0.11, 0.045]; // lowest key; middle C and above
const NO_LIFT = 30, FULL_LIFT = 95; // depths of the sustain pedal
const RELEASE_DECIBELS = -25, PEDAL_DECIBELS = -34, UNA_CORDA_DECIBELS = -3;

/** @param {number} decibels */
const factor = (decibels) => 10 ** (decibels / 20);
/** @param {number} x @param {number} low @param {number} high */
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

/** The number of values of an ascending array that are below `x`, or with `inclusive` at most `x`.
 * @template Value @param {ArrayLike<Value>} values @param {number} x @param {boolean} inclusive @param {(value: Value) => number} valueOf */
export function countBelow(values, x, inclusive = false, valueOf = Number) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1, value = valueOf(values[middle]);
    if (value < x || (inclusive && value === x)) low = middle + 1; else high = middle;
  }
  return low;
}

/** @param {any} row */
const onsetOf = (row) => row.onset;

/** The rows of an array, ascending by `timeOf`, whose time lies from `from` up to `to`.
 * @template Item @param {Item[]} rows @param {number} from @param {number} to @param {(row: Item) => number} timeOf
 * @returns {Item[]} */
export function within(rows, from, to, timeOf = onsetOf) {
  return rows.slice(countBelow(rows, from, false, timeOf), countBelow(rows, to, false, timeOf));
}

/** The factor of a tone: 1 at the middle velocity. @param {number} velocity */
export const loudness = (velocity) => factor((velocity - MIDDLE_VELOCITY) * DECIBELS_PER_VELOCITY);

/** @param {number} velocity @param {boolean} isDark */
export const toneLevel = (velocity, isDark) => MIDDLE_LEVEL * loudness(velocity) * (isDark ? factor(UNA_CORDA_DECIBELS) : 1);
/** @param {number} velocity */
export const releaseLevel = (velocity) => MIDDLE_LEVEL * loudness((velocity + MIDDLE_VELOCITY) / 2) * factor(RELEASE_DECIBELS);
/** @param {number} depth */
export const pedalLevel = (depth) => (MIDDLE_LEVEL * factor(PEDAL_DECIBELS) * depth) / 127;

/** Nepers a second that a damper at rest takes from a key. @param {number} key */
export function dampingRate(key) {
  const [lowest, middle] = DAMPED_SECONDS;
  return 1 / (middle + ((lowest - middle) * Math.max(0, 60 - key)) / 39);
}

/** How firmly the dampers touch the strings at a depth of the sustain pedal: 1 at rest, 0 clear of them. @param {number} depth */
export const contact = (depth) => (1 - clamp((depth - NO_LIFT) / (FULL_LIFT - NO_LIFT), 0, 1)) ** 3;

/** The one or two layers that sound at a velocity, [[layer, weight], …]; `overlaps`: of each layer with the next one.
 * @param {number[]} overlaps @param {number[]} velocities @param {number} velocity */
export function layerWeights(overlaps, velocities, velocity) {
  const above = clamp(countBelow(velocities, velocity), 1, velocities.length - 1), lower = above - 1;
  const b = clamp((velocity - velocities[lower]) / (velocities[above] - velocities[lower]), 0, 1), a = 1 - b;
  const norm = Math.sqrt(a * a + b * b + 2 * a * b * overlaps[lower]);
  return [[lower, a / norm], [above, b / norm]].filter(([, weight]) => weight > 0);
}

/** The index of the samples: which recordings a key is played by, and how fast. */
export class Index {
  /** @type {Map<number, Tone[]>} */ tones = new Map(); // recorded key → its recordings, by layer

  /** @param {SampleIndex} index */
  constructor({ layers, stretch, tones, noises }) {
    this.velocities = layers;
    this.stretch = stretch;
    this.noises = noises;
    for (const row of tones) this.tones.set(row.key, [...(this.tones.get(row.key) ?? []), row]);
    this.releases = noises.filter((row) => row.kind === "release");
    this.pedals = Object.fromEntries(noises.filter((row) => row.kind !== "release").map((row) => [row.kind, row]));
    this.keys = Array.from({ length: HIGHEST + 1 }, (_, key) => this.#makeKey(Math.max(key, LOWEST)));
    this.longest = Math.max(...this.keys.map((each) => each.seconds));
  }

  /** @param {number} key */
  #makeKey(key) {
    /** @param {number[]} keys */
    const nearest = (keys) => keys.reduce((best, each) => (Math.abs(each - key) < Math.abs(best - key) ? each : best));
    const recorded = nearest([...this.tones.keys()].sort((a, b) => a - b)), recordings = this.tones.get(recorded) ?? [];
    const cents = this.stretch[key - LOWEST] - this.stretch[recorded - LOWEST];
    const ratio = 2 ** ((key - recorded + cents / 100) / 12);
    const release = nearest(this.releases.map((row) => Number(row.key)));
    return {
      recordings, ratio, seconds: Math.max(...recordings.map((each) => each.seconds)) / ratio,
      overlaps: recordings.map((each) => each.overlap ?? 0), release: this.releases.find((row) => row.key === release),
    };
  }

  /** The layers of a tone: [[recording, weight], …].
   * @param {number} key @param {number} velocity @returns {[recording: Tone, weight: number][]} */
  layers(key, velocity) {
    const { recordings, overlaps } = this.keys[key];
    return layerWeights(overlaps, this.velocities, velocity).map(([layer, weight]) => [recordings[layer], weight]);
  }
}

/** The sustain pedal over time: the contact of all dampers whose keys are up. */
class Dampers {
  /** @param {MusicEvent[]} presses */
  constructor(presses) {
    this.times = [-1, ...presses.flatMap((e) => [e.onset, e.onset + e.duration])];
    this.contact = [1, ...presses.flatMap((e) => [contact(e.velocity), 1])];
    this.integral = [0];
    for (let i = 1; i < this.times.length; i++) {
      this.integral.push(this.integral[i - 1] + this.contact[i - 1] * (this.times[i] - this.times[i - 1]));
    }
  }

  /** @param {number} seconds */
  #at(seconds) { return countBelow(this.times, seconds, true) - 1; }
  /** @param {number} seconds */
  at(seconds) { return this.contact[this.#at(seconds)]; }

  /** Seconds of full contact up to a time. @param {number} seconds */
  touched(seconds) {
    const i = this.#at(seconds);
    return this.integral[i] + this.contact[i] * (seconds - this.times[i]);
  }

  /** The times at which the pedal moves, from `from` up to `to`. @param {number} from @param {number} to */
  moves(from, to) { return within(this.times, from, to, (t) => t); }
}

/** The presses of one pedal, ascending. */
class Presses {
  /** @param {MusicEvent[]} events */
  constructor(events) {
    this.onsets = events.map((e) => e.onset);
    this.lifts = events.map((e) => e.onset + e.duration);
  }

  /** The time until which the press that covers `time` holds, if it began at `since` or later; else `time`. @param {number} time */
  held(time, since = -Infinity) {
    const i = countBelow(this.onsets, time, true) - 1;
    return i >= 0 && this.onsets[i] >= since && time < this.lifts[i] ? this.lifts[i] : time;
  }
}

/** A piece as a player needs it. A voice is {note, level, isDark, times, fallen, up}: what a tone has fallen by, in nepers,
 * at ascending seconds from its strike to its end, and the second at which its damper begins to follow the pedal. */
export class Score {
  /** @param {MusicEvent[]} events @param {Index} index */
  constructor(events, index) {
    const press = [0, 1, 2].map((pedal) => events.filter((e) => e.key === pedal));
    this.index = index;
    this.events = events;
    this.notes = events.filter(isNote);
    this.onsets = Float64Array.from(this.notes, (e) => e.onset);
    this.dampers = new Dampers(press[SUSTAIN]);
    this.sustain = new Presses(press[SUSTAIN]);
    this.sostenuto = new Presses(press[SOSTENUTO]);
    this.unaCorda = new Presses(press[UNA_CORDA]);
    this.again = this.#struckAgain();
    /** @type {[onset: number, kind: string, level: number][]} */
    this.pedalNoises = press[SUSTAIN].flatMap((e) => [[e.onset, "pedal-down", pedalLevel(e.velocity)],
      [e.onset + e.duration, "pedal-up", pedalLevel(e.velocity)]]);
  }

  /** The second at which the key of each note is struck again. */
  #struckAgain() {
    const next = new Array(HIGHEST + 1).fill(Infinity), again = new Float64Array(this.notes.length);
    for (let i = this.notes.length - 1; i >= 0; i--) {
      const { key, onset } = this.notes[i];
      again[i] = next[key];
      next[key] = onset;
    }
    return again;
  }

  /** The numbers [first, last) of the notes that begin from `from` up to `to`. @param {number} from @param {number} to */
  range(from, to) { return [countBelow(this.onsets, from), countBelow(this.onsets, to)]; }

  /** The voices of notes that begin from `from` up to `to`. @param {number} from @param {number} to */
  voices(from, to) {
    const [first, last] = this.range(from, to);
    return Array.from({ length: last - first }, (_, i) => this.voice(first + i));
  }

  /** The voices of earlier notes that still sound at `seconds`. @param {number} seconds */
  sounding(seconds) {
    return this.voices(seconds - this.index.longest, seconds).filter((voice) => lastOf(voice.times) > seconds);
  }

  /** The voice that an equal note has, or null. @param {MusicEvent} note */
  find({ onset, key, velocity }) {
    for (let i = countBelow(this.onsets, onset); this.onsets[i] === onset; i++) {
      if (this.notes[i].key === key && this.notes[i].velocity === velocity) return this.voice(i);
    }
    return null;
  }

  /** @param {number} i @returns {ScoreVoice} */
  voice(i) {
    const note = this.notes[i], { onset, key, velocity } = note, up = this.#keyUp(note);
    const isDark = this.unaCorda.held(onset) > onset;
    const isDamped = up < Infinity && this.dampers.at(up) > 0.5; // the damper is heard when it falls
    return { note, level: toneLevel(velocity, isDark), isDark, up, isDamped, ...this.#fall(onset, up, this.again[i], key) };
  }

  /** @param {MusicEvent} note */
  #keyUp({ onset, duration, key }) {
    if (key >= LOWEST_UNDAMPED) return Infinity;
    const end = onset + duration, free = this.sustain.held(end), caught = this.sostenuto.held(free, onset);
    return caught > free ? caught : end;
  }

  /** @param {number} onset @param {number} up @param {number} again @param {number} key */
  #fall(onset, up, again, key) {
    const { dampers } = this, rate = dampingRate(key), last = onset + this.index.keys[key].seconds, from = Math.min(up, again);
    const touchedBefore = up < Math.min(again, last) ? dampers.touched(from) : null;
    /** @param {number} t */
    const fallenBy = (t) => Math.max(t - again, 0) * STRUCK_RATE
      + (touchedBefore === null ? 0 : rate * (dampers.touched(clamp(t, from, again)) - touchedBefore));
    const inner = [up, again, ...dampers.moves(up, Math.min(again, last))].filter((t) => t > onset && t < last);
    const times = [onset, ...[...new Set(inner)].sort((a, b) => a - b), last];
    return silenced(times, times.map(fallenBy));
  }
}

/** @param {number[]} values */
export const lastOf = (values) => values[values.length - 1];

/** End a fall where the tone is no longer heard. @param {number[]} times @param {number[]} fallen @returns {Fall} */
export function silenced(times, fallen) {
  const i = fallen.findIndex((each) => each > SILENCE);
  if (i < 1) return { times, fallen };
  const share = (SILENCE - fallen[i - 1]) / (fallen[i] - fallen[i - 1]);
  return { times: [...times.slice(0, i), times[i - 1] + share * (times[i] - times[i - 1])], fallen: [...fallen.slice(0, i), SILENCE] };
}

/** The nepers that a tone has fallen by at a time. @param {Fall} fall @param {number} t */
export function fallenAt({ times, fallen }, t) {
  const i = clamp(countBelow(times, t), 1, times.length - 1), [a, b] = [times[i - 1], times[i]];
  return fallen[i - 1] + (fallen[i] - fallen[i - 1]) * (b > a ? clamp((t - a) / (b - a), 0, 1) : 1);
}

/** The part of a fall after `t`, beginning with `t`. @param {Fall} fall @param {number} t @returns {Fall} */
export function fallAfter(fall, t) {
  const i = countBelow(fall.times, t, true);
  return { times: [t, ...fall.times.slice(i)], fallen: [fallenAt(fall, t), ...fall.fallen.slice(i)] };
}

/** A fall at a later time: of the audio clock, for example. @param {Fall} fall @param {number} seconds @returns {Fall} */
export const delayed = ({ times, fallen }, seconds) => ({ times: times.map((t) => t + seconds), fallen });

/** A fall that a damper ends at `t`: at the end of a loop, for example.
 * @param {Fall} fall @param {number} t @param {number} rate @returns {Fall} */
export function dampedFrom(fall, t, rate) {
  if (lastOf(fall.times) <= t) return fall;
  const i = countBelow(fall.times, t), at = fallenAt(fall, t), end = t + (SILENCE - at) / rate;
  return { times: [...fall.times.slice(0, i), t, end], fallen: [...fall.fallen.slice(0, i), at, SILENCE] };
}
