// The toolbar over the roll: the tool, how time is shown, and what can be done with the selected notes. Nothing of it moves.
import { $, buttons, onClick } from "./panels.js";
import { isNote } from "./piece.js";
import * as store from "./store.js";

/** @type {Tool[]} */
const TOOLS = ["select", "draw", "hand"];

export class Toolbar {
  /** @type {Tool} */ tool = "select";
  /** @type {number | null} */ mean = null; // velocity of the selected notes

  /** @param {Studio} studio @param {{timeChanged(): void}} page */
  constructor(studio, page) {
    this.studio = studio;
    this.page = page;
    const isTouch = matchMedia("(pointer: coarse)").matches;
    this.setTool(isTouch ? "hand" : "select");
    this.#listenToTools();
    this.#listenToTime();
    this.#listenToSelection();
  }

  // --- tools and time --------------------------------------------------------------------------------------------

  /** @param {Tool} tool */
  setTool(tool) {
    this.tool = tool;
    for (const button of buttons("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }

  #listenToTools() {
    for (const tool of TOOLS) buttons(`[data-tool=${tool}]`)[0].addEventListener("click", () => this.setTool(tool));
  }

  #listenToTime() {
    const { time } = this.studio, stored = store.setting("time") ?? {};
    this.setUnits(stored.units === "beats" ? "beats" : "seconds", stored.grid);
    $("units").addEventListener("change", () => this.setUnits($("units").value === "beats" ? "beats" : "seconds"));
    $("grid").addEventListener("change", () => { time.grid = $("grid").value; this.#timeChanged(); });
  }

  /** Show time in "beats" or "seconds", and snap to a grid of it. @param {"beats" | "seconds"} units @param {string} [grid] */
  setUnits(units, grid) {
    const { time } = this.studio;
    time.units = units;
    if (grid) time.grid = grid;
    $("units").value = units;
    $("grid").replaceChildren(...time.grids.map(([value, name]) => new Option(name, value)));
    $("grid").value = time.grid;
    this.#timeChanged();
  }

  #timeChanged() {
    const { units, grid } = this.studio.time;
    store.setSetting("time", { units, grid });
    this.page.timeChanged();
  }

  // --- the selection ---------------------------------------------------------------------------------------------

  #listenToSelection() {
    const { studio } = this, { editor } = studio;
    /** @type {Record<string, () => unknown>} */
    const edits = {
      erase: () => editor.erase(), copy: () => editor.copy(), cut: () => editor.cut(), duplicate: () => editor.duplicate(),
      split: () => editor.split(), quantise: () => editor.quantise(), down: () => editor.move(0, -1, "transpose"),
      up: () => editor.move(0, 1, "transpose"), octave: () => editor.move(0, 12, "transpose"),
    };
    for (const button of buttons("[data-edit]")) button.addEventListener("click", edits[button.dataset.edit ?? ""]);
    onClick("paste", () => editor.paste());
    $("velocity").addEventListener("change", () => editor.addVelocity(Number($("velocity").value) - (this.mean ?? 0), null));
    $("velocity-exact").addEventListener("change", () => this.#setExact());
    $("voice").addEventListener("change", () => {
      if ($("voice").value) studio.selectVoice($("voice").value, Number($("voice-velocity").value));
      $("voice").value = "";
    });
  }

  #setExact() {
    const value = Math.round(Number($("velocity-exact").value));
    if (value >= 1 && value <= 127) this.studio.editor.setVelocity(value);
    else { this.studio.announce("A velocity is 1 to 127"); this.show(); }
  }

  show() {
    const { studio } = this, { shownSelection: selected, choice, time } = studio, notes = selected.filter(isNote);
    $("toolbar").hidden = Boolean(choice);
    $("choice").hidden = !choice;
    $("selection-text").textContent = selected.length ? `${studio.selectionText} selected` : "nothing selected";
    for (const button of buttons("[data-edit]")) button.disabled = !selected.length;
    $("paste").disabled = !studio.editor.clipboard.events.length;
    for (const id of ["velocity", "velocity-exact"]) $(id).disabled = !notes.length;
    this.mean = notes.length ? Math.round(notes.reduce((sum, e) => sum + e.velocity, 0) / notes.length) : null;
    $("velocity").value = String(this.mean ?? 64);
    if (document.activeElement !== $("velocity-exact")) $("velocity-exact").value = String(this.mean ?? "");
    const [top, bottom] = time.beats.metreAt(studio.playhead);
    $("tempo").textContent = `♩ ${Math.round(time.beats.tempoAt(studio.playhead) * 10) / 10} · ${top}/${bottom}`;
  }
}
