// The computer's keyboard as a piano: A W S E D … from C on, Z and X an octave down and up. Places count, not letters.
import { HIGHEST, LOWEST } from "../piece.js";

const CODES = ["KeyA", "KeyW", "KeyS", "KeyE", "KeyD", "KeyF", "KeyT", "KeyG", "KeyY", "KeyH", "KeyU", "KeyJ", "KeyK", "KeyO", "KeyL",
  "KeyP", "Semicolon"];
const OCTAVES = { KeyZ: -12, KeyX: 12 };
const MIDDLE_C = 60, VELOCITY = 80;
const FIELDS = "input:not([type=checkbox]):not([type=range]), select, textarea, dialog";

export class ComputerKeyboard {
  #down = new Map(); // code → key

  /** `announce(message)` tells the octave. */
  constructor(player, announce, target = document) {
    Object.assign(this, { player, announce, isOn: false, lowest: MIDDLE_C });
    target.addEventListener("keydown", (event) => this.#press(event), { capture: true }); // before the shortcuts
    target.addEventListener("keyup", (event) => this.#release(event), { capture: true });
    globalThis.addEventListener?.("blur", () => this.releaseAll());
  }

  /** Let the letters play notes, or be shortcuts again. */
  turn(isOn) {
    this.isOn = isOn;
    this.releaseAll();
  }

  releaseAll() { for (const code of [...this.#down.keys()]) this.#let(code); }

  #press(event) {
    const { code, ctrlKey, metaKey, altKey, shiftKey, repeat, target } = event, step = CODES.indexOf(code), octave = OCTAVES[code];
    if (!this.isOn || ctrlKey || metaKey || altKey || shiftKey || (step < 0 && !octave)) return;
    if (target?.closest?.(FIELDS)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (repeat) return;
    if (octave) this.#shift(octave); else this.#strike(code, this.lowest + step, event.timeStamp);
  }

  #strike(code, key, time) {
    if (key > HIGHEST || this.#down.has(code)) return;
    this.#down.set(code, key);
    this.player.strike(key, VELOCITY, time);
  }

  #shift(semitones) {
    const lowest = this.lowest + semitones;
    if (lowest < LOWEST || lowest + 12 > HIGHEST) return;
    this.lowest = lowest;
    this.announce(`Keyboard from C${lowest / 12 - 1}`);
  }

  #release(event) { if (this.#down.has(event.code)) this.#let(event.code, event.timeStamp); }

  #let(code, time) {
    this.player.release(this.#down.get(code), time);
    this.#down.delete(code);
  }
}
