// MIDI devices of the browser (Web MIDI): asked for when the user turns them on; they may come and go.
import { readMessage } from "./messages.js";

export const ALL = "all"; // inputs
const NO_MIDI = "this browser has no Web MIDI: use Chromium, Chrome, Edge or Firefox to play a MIDI keyboard";
const REFUSED = "the browser was told not to use MIDI devices: allow it beside the page's address, and turn it on again";

/** @param {MIDIPort} port */
const isConnected = (port) => port.state === "connected";

export class Devices {
  /** @type {MIDIAccess | null} */ #access = null;
  /** @type {Set<string>} */ #known = new Set(); // ids of the devices that are there
  /** By the ids of inputs; `down`: keys, `pedals`: those that are not up. @type {Map<string, Heard>} */
  #listening = new Map();
  chosen = ALL;

  /** `played(message, time, input)`: a message (`readMessage`) of an input; `changed(news)`: devices came or went.
   * @param {{played(message: PianoMessage, time: number, input: MIDIInput): void, changed(news: string): void}} listener */
  constructor({ played, changed }) {
    this.played = played;
    this.changed = changed;
  }

  get isOn() { return this.#access !== null; }
  get inputs() { return [...this.#access?.inputs.values() ?? []].filter(isConnected); }
  get outputs() { return [...this.#access?.outputs.values() ?? []].filter(isConnected); }

  /** Ask the browser for the devices. Throws an Error of one line if there are none to be had. */
  async turnOn() {
    if (!navigator.requestMIDIAccess) throw new Error(NO_MIDI);
    try { this.#access = await navigator.requestMIDIAccess(); } catch { throw new Error(REFUSED); }
    this.#access.onstatechange = ({ port }) => { if (port) this.#portChanged(port); };
    this.#listen();
  }

  turnOff() {
    if (this.#access) this.#access.onstatechange = null;
    this.#access = null;
    this.#listen();
  }

  /** Listen to one input, by its id, or to all. @param {string} id */
  choose(id) {
    this.chosen = id;
    this.#listen();
  }

  /** @param {MIDIPort} port */
  #portChanged(port) {
    const wasThere = this.#known.has(port.id), isThere = port.state === "connected";
    this.#listen();
    if (wasThere !== isThere) this.changed(`${port.name} was ${isThere ? "connected" : "unplugged"}`);
  }

  /** Listen to the inputs that are there and chosen, and let go of the others. */
  #listen() {
    const { inputs } = this, isChosenThere = inputs.some((each) => each.id === this.chosen);
    const wanted = new Map(inputs.filter((each) => !isChosenThere || each.id === this.chosen).map((each) => [each.id, each]));
    for (const [id, { input }] of this.#listening) if (!wanted.has(id)) this.#leave(id, input);
    for (const [id, input] of wanted) {
      if (!this.#listening.has(id)) this.#listening.set(id, { input, down: new Set(), pedals: new Set() });
      input.onmidimessage = (event) => this.#receive(id, event);
    }
    this.#known = new Set([...inputs, ...this.outputs].map((each) => each.id));
  }

  /** @param {string} id @param {MIDIMessageEvent} event */
  #receive(id, { data, timeStamp }) {
    const message = data && readMessage(data), heard = this.#listening.get(id);
    if (!message || !heard) return;
    const { input, down, pedals } = heard;
    if (message.kind === "silence") { this.#letGo(id, timeStamp); return; }
    if (message.kind === "strike") down.add(message.key);
    if (message.kind === "release") down.delete(message.key);
    if (message.kind === "pedal") { if (message.value > 0) pedals.add(message.pedal); else pedals.delete(message.pedal); }
    this.played(message, timeStamp || performance.now(), input);
  }

  /** @param {string} id @param {MIDIInput} input */
  #leave(id, input) {
    input.onmidimessage = null;
    this.#letGo(id, performance.now());
    this.#listening.delete(id);
  }

  /** Let up all keys and pedals of an input. @param {string} id @param {number} time */
  #letGo(id, time) {
    const heard = this.#listening.get(id);
    if (!heard) return;
    const { input, down, pedals } = heard;
    for (const key of down) this.played({ kind: "release", key }, time, input);
    for (const pedal of pedals) this.played({ kind: "pedal", pedal, value: 0 }, time, input);
    down.clear();
    pedals.clear();
  }
}
