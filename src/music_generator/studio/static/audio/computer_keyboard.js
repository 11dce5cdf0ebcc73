// The computer's keyboard as a piano: A W S E D … from C on, Z and X an octave down and up. Places count, not letters.
import { HIGHEST, LOWEST } from "../piece.js";

const CODES = ["KeyA", "KeyW", "KeyS", "KeyE", "KeyD", "KeyF", "KeyT", "KeyG", "KeyY", "KeyH", "KeyU", "KeyJ", "KeyK", "KeyO", "KeyL",
  "KeyP", "Semicolon"];
/** @type {Record<string, number>} */
const OCTAVES = { KeyZ: -12, KeyX: 12 };
const MIDDLE_C = 60, VELOCITY = 80;
const FIELDS = "input:not([type=checkbox]):not([type=range]), select, textarea, dialog";

export class ComputerKeyboard {
  /** @type {Map<string, number>} */ #down = new Map(); // code → key
  isOn = false;
  lowest = MIDDLE_C;

  /** `announce(message)` tells the octave.
   * @param {Pick<Player, "strike" | "release">} player @param {(message: string) => void} announce @param {EventTarget} target */
  constructor(player, announce, target = document) {
    this.player = player;
    this.announce = announce;
    /** @param {string} name @param {(event: any) => void} action */
    const listen = (name, action) => target.addEventListener(name, action, { capture: true });
    listen("keydown", (event) => this.#press(event)); // before the shortcuts
    listen("keyup", (event) => this.#release(event));
    globalThis.addEventListener?.("blur", () => this.releaseAll());
  }

  /** Let the letters play notes, or be shortcuts again. @param {boolean} isOn */
  turn(isOn) {
    this.isOn = isOn;
    this.releaseAll();
  }

  releaseAll() { for (const code of [...this.#down.keys()]) this.#let(code); }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const { code, ctrlKey, metaKey, altKey, shiftKey, repeat, target } = event, step = CODES.indexOf(code), octave = OCTAVES[code];
    if (!this.isOn || ctrlKey || metaKey || altKey || shiftKey || (step < 0 && !octave)) return;
    if (/** @type {Element | null} */ (target)?.closest?.(FIELDS)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (repeat) return;
    if (octave) this.#shift(octave); else this.#strike(code, this.lowest + step, event.timeStamp);
  }

  /** @param {string} code @param {number} key @param {number} time */
  #strike(code, key, time) {
    if (key > HIGHEST || this.#down.has(code)) return;
    this.#down.set(code, key);
    this.player.strike(key, VELOCITY, time);
  }

  /** @param {number} semitones */
  #shift(semitones) {
    const lowest = this.lowest + semitones;
    if (lowest < LOWEST || lowest + 12 > HIGHEST) return;
    this.lowest = lowest;
    this.announce(`Keyboard from C${lowest / 12 - 1}`);
  }

  /** @param {KeyboardEvent} event */
  #release(event) { if (this.#down.has(event.code)) this.#let(event.code, event.timeStamp); }

  /** @param {string} code @param {number} [time] */
  #let(code, time) {
    this.player.release(this.#down.get(code) ?? 0, time);
    this.#down.delete(code);
  }
}
