// The piano's recordings: fetched and decoded when they are needed, the rest in the background, within a budget of memory.
import { NO_ANSWER } from "../server.js";
import { Index } from "./voices.js";

export const SAMPLE_RATE = 44_100; // of the files, and of all audio of the page
const TOGETHER = 3; // files that are fetched and decoded at once: the browser keeps connections for the other requests
const MIDDLE_LAYER = 2; // is loaded first: it stands for the other layers until they are there
const IN_USE = 30_000; // milliseconds after which a recording that was not played may be dropped for another
const BUDGET_SECONDS = Math.min(700, 140 * (globalThis.navigator?.deviceMemory ?? 4)); // of decoded sound: 250 MB at most

export class Samples {
  /** @type {Map<string, AudioBuffer>} */ #buffers = new Map(); // file → AudioBuffer, the least recently used first
  /** @type {Map<string, {row: Sample, promise: Promise<void>, resolve: () => void, reject: (error: unknown) => void}>} */
  #pending = new Map(); // by file
  /** @type {string[]} */ #waiting = []; // files in the order in which they are to be loaded
  /** @type {Map<string, number>} */ #played = new Map(); // file → the time at which it was last needed
  #loading = 0;
  #seconds = 0;

  /** @type {Index | null} */ index = null;
  /** @type {Promise<Index> | null} */ opening = null;

  constructor(folder = "samples", budget = BUDGET_SECONDS) {
    this.folder = folder;
    this.budget = budget;
  }

  /** Fetch the index. Return it. @returns {Promise<Index>} */
  open() {
    this.opening ??= this.#fetch("index.json").then((response) => response.json()).then((facts) => (this.index = new Index(facts)));
    this.opening.catch(() => { this.opening = null; }); // the next call tries again
    return this.opening;
  }

  /** @param {string} file */
  async #fetch(file) {
    const response = await fetch(`${this.folder}/${file}`).catch(() => null);
    if (!response) throw new Error(`the piano's samples cannot be loaded: ${NO_ANSWER}`);
    if (!response.ok) throw new Error(`the piano's sample ${file} cannot be loaded: the server answered ${response.status}`);
    return response;
  }

  /** Return a recording's AudioBuffer, or null if it is not decoded yet. @param {Sample} row */
  get(row) {
    const buffer = this.#buffers.get(row.file);
    if (!buffer) return null;
    this.#buffers.delete(row.file);
    this.#buffers.set(row.file, buffer); // now the most recently used
    this.#played.set(row.file, performance.now());
    return buffer;
  }

  /** Return what plays a layer of a key, {row, buffer}: it or the nearest layer that is decoded, or null.
   * @param {Tone[]} recordings @param {number} layer */
  nearest(recordings, layer) {
    const near = recordings.filter((row) => this.#buffers.has(row.file))
      .sort((a, b) => Math.abs(a.layer - layer) - Math.abs(b.layer - layer))[0];
    const buffer = near && this.get(near);
    return buffer ? { row: near, buffer } : null;
  }

  /** Decode a recording, `urgent` ones first. Where all that is decoded is in use, it is not, and another layer of its key
   * stands in: dense music would decode without end. @param {Sample} row @returns {Promise<void>} */
  load(row, urgent = true) {
    if (this.#buffers.has(row.file)) return Promise.resolve();
    const known = this.#pending.get(row.file);
    if (known) {
      if (urgent && this.#waiting.includes(row.file)) this.#queue(row.file, true);
      return known.promise;
    }
    const { promise, resolve, reject } = deferred();
    promise.catch(() => {}); // who needs it is told as well
    this.#pending.set(row.file, { row, promise, resolve, reject });
    this.#queue(row.file, urgent);
    this.#next();
    return promise;
  }

  /** @param {string} file @param {boolean} urgent */
  #queue(file, urgent) {
    this.#waiting = this.#waiting.filter((each) => each !== file);
    if (urgent) this.#waiting.unshift(file); else this.#waiting.push(file);
  }

  async #next() {
    if (this.#loading >= TOGETHER) return;
    const file = this.#waiting.shift() ?? "", pending = this.#pending.get(file);
    if (!pending) return;
    const { row, resolve, reject } = pending;
    this.#loading++;
    try {
      if (this.#hasRoom(row)) this.#keep(row, await decode(await (await this.#fetch(file)).arrayBuffer(), row.seconds));
      resolve();
    } catch (error) { reject(error); }
    this.#pending.delete(file);
    this.#loading--;
    this.#next();
  }

  /** @param {Sample & {key?: number}} row */
  #hasRoom({ file, key, seconds }) {
    if (this.#seconds + seconds <= this.budget || isKept(file)) return true;
    if (!this.index?.tones.get(key ?? -1)?.some((row) => this.#buffers.has(row.file))) return true; // the key would be silent
    const oldest = [...this.#buffers.keys()].find((each) => !isKept(each)) ?? "";
    return performance.now() - (this.#played.get(oldest) ?? 0) > IN_USE;
  }

  /** Keep a decoded recording, and drop the least recently used tones beyond the budget. @param {Sample} row @param {AudioBuffer} buffer */
  #keep(row, buffer) {
    this.#buffers.set(row.file, buffer);
    this.#seconds += buffer.duration;
    for (const [file, old] of this.#buffers) {
      if (this.#seconds <= this.budget) break;
      if (old === buffer || isKept(file)) continue;
      this.#buffers.delete(file);
      this.#seconds -= old.duration;
    }
  }

  /** Load what any key needs to sound: the noises and the middle layer. */
  async loadFirst() {
    const { noises, tones } = await this.open(), middle = [...tones.values()].map((rows) => rows[MIDDLE_LAYER]);
    const byUse = middle.sort((a, b) => Math.abs(a.key - 64) - Math.abs(b.key - 64));
    await Promise.all([...byUse, ...noises].map((row) => this.load(row, false)));
  }

  /** Load the other layers, as many as the budget allows. */
  async loadRest() {
    await this.loadFirst();
    const { tones } = await this.open(), rest = [...tones.values()].flat().sort((a, b) => Math.abs(a.layer - 2.2) - Math.abs(b.layer - 2.2));
    for (const row of rest) if (this.#seconds + row.seconds <= this.budget) await this.load(row, false);
  }
}

/** @param {string} file */
const isKept = (file) => file.endsWith(`-${MIDDLE_LAYER}.mp3`) || /^[a-z]/.test(file); // the middle layer and the noises

function deferred() {
  /** @type {() => void} */ let resolve = () => {};
  /** @type {(error: unknown) => void} */ let reject = () => {};
  const promise = /** @type {Promise<void>} */ (new Promise((done, failed) => { resolve = done; reject = failed; }));
  return { promise, resolve, reject };
}

/** Decode an MP3 file to `seconds`. Some browsers leave the encoder's delay at its beginning: it is taken off. @param {ArrayBuffer} bytes @param {number} seconds */
export async function decode(bytes, seconds) {
  const delay = encoderDelay(new Uint8Array(bytes)), frames = Math.round(seconds * SAMPLE_RATE);
  const decoder = new OfflineAudioContext(2, 1, SAMPLE_RATE), whole = await decoder.decodeAudioData(bytes);
  if (whole.length < frames + delay) return whole;
  const buffer = decoder.createBuffer(whole.numberOfChannels, frames, SAMPLE_RATE);
  for (let i = 0; i < whole.numberOfChannels; i++) buffer.copyToChannel(whole.getChannelData(i).subarray(delay), i);
  return buffer;
}

/** The frames before the sound that an MP3 file names in its LAME tag, with the decoder's own. @param {Uint8Array} bytes */
export function encoderDelay(bytes) {
  const tag = String.fromCharCode(...bytes.subarray(0, 256)), at = tag.indexOf("LAME");
  return at < 0 ? 0 : 529 + (bytes[at + 21] << 4) + (bytes[at + 22] >> 4);
}
