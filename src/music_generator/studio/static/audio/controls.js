// The controls of the sound: the volume, the computer's keyboard. The browser stores their settings.
import { $ } from "../panels.js";
import * as store from "../store.js";
import { ComputerKeyboard } from "./computer_keyboard.js";

const VOLUME = 70; // percent, of one who has never moved the slider

/** Connect the controls of the page to a player; `announce(message)` has news.
 * @param {Player} player @param {(message: string) => void} announce */
export function listenToSound(player, announce) {
  listenToVolume(player, $("volume"));
  listenToKeyboard(new ComputerKeyboard(player, announce), $("keyboard"));
  for (const name of ["pointerdown", "keydown"]) { // browsers let a page sound after a gesture only
    addEventListener(name, () => player.wake().catch(() => {}), { capture: true });
  }
}

/** @param {Player} player @param {HTMLInputElement} slider */
function listenToVolume(player, slider) {
  const set = () => player.setVolume(Number(slider.value) / 100);
  slider.value = store.setting("volume") ?? VOLUME;
  slider.addEventListener("input", () => { set(); store.setSetting("volume", Number(slider.value)); });
  set();
}

/** @param {ComputerKeyboard} keyboard @param {HTMLElement} button */
function listenToKeyboard(keyboard, button) {
  /** @param {boolean} isOn */
  const turn = (isOn) => {
    keyboard.turn(isOn);
    button.setAttribute("aria-pressed", String(isOn));
  };
  button.addEventListener("click", () => {
    turn(!keyboard.isOn);
    store.setSetting("keyboard", keyboard.isOn);
  });
  turn(store.setting("keyboard") ?? false);
}
