// The panels beside the roll: what to write, the settings, and the history.
import { countNotes, isNote } from "./piece.js";
import { helpTables } from "./shortcuts.js";
import * as store from "./store.js";
import { notesBetween } from "./voices.js";

/** The element of an id; those that are no fields or buttons stand in the type. */
export const $ = /** @type {PageElement} */ ((/** @type {string} */ id) => document.getElementById(id));
/** The elements of a selector, as buttons. @param {string} selector @returns {NodeListOf<HTMLButtonElement>} */
export const buttons = (selector) => document.querySelectorAll(selector);
/** @param {string} id @param {(event: MouseEvent) => unknown} action */
export const onClick = (id, action) => $(id).addEventListener("click", action);
/** @template {keyof HTMLElementTagNameMap} Tag @param {Tag} tag @param {Partial<HTMLElementTagNameMap[Tag]>} properties @param {(Node | string)[]} children */
export const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

/** @type {Task[]} */
export const TASKS = ["infill", "continue", "lead-in", "bridge", "compose"];
const SLIDERS = ["variations", "temperature", "top-p"];
/** @type {("density" | "loudness")[]} */
const FREE = ["density", "loudness"]; // sliders that may be left to the model
const SETTINGS = [...SLIDERS, ...FREE, "composer", "seconds", "seed"];
const MAX_SEED = Number.MAX_SAFE_INTEGER;
const PARTIAL = ["span", "selected", "preview", "moved"]; // changes that leave the history as it is
/** @param {string} id */
const isEmpty = (id) => $(id).value.trim() === "";
/** The button that leaves a slider to the model. @param {string} id */
const freeButton = (id) => buttons(`[data-free=${id}]`)[0];
/** @param {string} id */
const numberOf = (id) => (isEmpty(id) ? null : Number($(id).value));

/** @param {string} text */
function seedOf(text) {
  if (!text.trim()) return null;
  if (!/^\d+$/.test(text.trim())) throw new Error(`Seed: a whole number from 0, not “${text.trim()}”; leave it empty for a new one each time`);
  if (Number(text) > MAX_SEED) throw new Error(`Seed: at most ${MAX_SEED}`);
  return Number(text);
}

export class Panels {
  /** @type {Info | null} */ info = null; // what the server says about itself
  /** @type {Set<string>} */ free = new Set(); // the sliders that are left to the model

  /** @param {Studio} studio @param {{write(task: Task): void, rewrite(): void}} page */
  constructor(studio, page) {
    this.studio = studio;
    this.page = page;
    this.#listenToSettings();
    $("shortcuts").append(...helpTables());
  }

  /** Fill the controls with the composers, defaults and limits of the server. @param {Info} info */
  start(info) {
    this.info = info;
    const { defaults, limits } = info, stored = store.setting("controls") ?? {};
    /** @type {Record<string, number>} */
    const initial = { variations: defaults.variations, temperature: defaults.temperature, "top-p": defaults.top_p };
    for (const name of info.composers) $("composer").append(new Option(name, name));
    $("variations").max = String(limits.variations);
    for (const id of SETTINGS) $(id).value = stored[id] ?? initial[id] ?? "";
    this.free = new Set(FREE.filter((id) => stored[id] === undefined || stored.free?.includes(id)));
    for (const id of FREE) this.#setRange(id, info.steering[id]);
    $("seconds").placeholder = String(defaults.piece_seconds);
    $("seconds").title = `Empty: ${defaults.piece_seconds} s, or ${defaults.join_seconds} s for Lead in and Bridge`;
    this.#settingsChanged();
  }

  /** Give a slider of the character its range, or hide it if the model cannot be told.
   * @param {string} id @param {{from: number, to: number} | null} range */
  #setRange(id, range) {
    for (const element of buttons(`[data-steer=${id}]`)) element.hidden = !range;
    if (!range) { this.free.add(id); return; }
    const from = Math.max(0, range.from);
    Object.assign($(id), { min: from, max: range.to });
    if (this.free.has(id)) $(id).value = String((from + range.to) / 2);
  }

  /**
   * The settings as fields of a request; the server has defaults for those that are null. Throws an Error of one line if
   * a field has no number.
   * @param {Task} task
   */
  settings(task) {
    /** @type {Settings} */
    const settings = { temperature: numberOf("temperature"), top_p: numberOf("top-p"), variations: numberOf("variations"),
      seed: seedOf($("seed").value), composer: $("composer").value || null };
    for (const id of FREE) if (!this.free.has(id)) settings[id] = numberOf(id);
    if (task !== "infill") settings.seconds = numberOf("seconds");
    if (task === "continue" && $("from-playhead").checked) settings.from = Math.round(this.studio.playhead * 100) / 100;
    return settings;
  }

  // --- showing ---------------------------------------------------------------------------------------------------

  /** @param {StudioChange} what */
  show(what) {
    const { studio } = this, { history, choice } = studio, hasNotes = studio.events.some(isNote);
    if (document.activeElement !== $("name")) $("name").value = studio.name;
    document.title = `${studio.name} · Studio`;
    $("undo").disabled = !history.canUndo && !choice;
    $("redo").disabled = !history.canRedo;
    $("empty").hidden = hasNotes || Boolean(choice);
    this.#showTasks(hasNotes);
    this.#showSpan();
    if (!PARTIAL.includes(what)) this.#showHistory();
    this.#describe();
  }

  /** @param {boolean} hasNotes */
  #showTasks(hasNotes) {
    const { span, second } = this.studio, canUseFuture = !this.info || this.info.uses_future;
    const isInPiece = span && span[0] < this.studio.end;
    $("infill").disabled = !isInPiece || !hasNotes || !canUseFuture;
    $("rewrite").disabled = !canUseFuture || !(this.studio.keptNotes.length || (!span && this.studio.selected.size));
    $("continue").disabled = !hasNotes;
    $("lead-in").disabled = !hasNotes || !canUseFuture;
    $("bridge").disabled = !hasNotes || !second || !canUseFuture;
    $("second-name").textContent = second?.name ?? "for Bridge";
    $("no-second").hidden = !second;
  }

  #showSpan() {
    const { span, time } = this.studio;
    $("no-span").disabled = !span;
    ["from", "to"].forEach((id, i) => {
      if (document.activeElement !== $(id)) $(id).value = span ? span[i].toFixed(2) : "";
    });
    $("span-bars").textContent = span && time.inBeats ? `bars ${time.text(span[0])} to ${time.text(span[1])}` : "";
  }

  /** Describe the roll for screen readers. */
  #describe() {
    const { name, span, events, end } = this.studio;
    const spanText = span
      ? `Selected span: ${span[0].toFixed(2)} to ${span[1].toFixed(2)} seconds, ${notesBetween(events, span).length} notes.`
      : "No span is selected.";
    $("roll-description").textContent = `${name}, ${countNotes(events)} notes, ${end.toFixed(1)} seconds. ${spanText} `
      + "Comma and full stop go from note to note; question mark opens the help.";
  }

  #showHistory() {
    const { history } = this.studio;
    const items = [{ label: "Nothing yet", detail: null }, ...history.steps].map(({ label, detail }, i) => {
      const button = make("button", { type: "button", onclick: () => this.studio.goTo(i - 1) }, make("span", { textContent: label }));
      if (detail) button.append(make("small", { textContent: `seed ${detail.seed}` }));
      const item = make("li", { className: i > history.at ? "undone" : "" }, button);
      const others = detail?.choice?.variations.length ?? 0;
      if (others > 1) item.append(make("button", { type: "button", className: "again", textContent: `${others} ›`, title: "Choose another variation",
        ariaLabel: `Choose another of the ${others} variations`, onclick: () => this.studio.writer.reopen(i - 1) }));
      if (i === history.at) item.setAttribute("aria-current", "step");
      return item;
    });
    $("steps").replaceChildren(...items.reverse());
  }

  /** List the stored works; each can be opened or deleted. @param {SavedWork[]} works */
  showRecent(works) {
    $("recent").hidden = !works.length;
    const items = works.map((work) => {
      const saved = new Date(work.saved).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      const item = make("li", {}, make("button", { type: "button", onclick: () => this.studio.openWork(work, work.id) },
        make("b", { textContent: work.name }), make("span", { textContent: saved })));
      item.append(make("button", { type: "button", textContent: "×", title: "Delete", ariaLabel: `Delete ${work.name}`, onclick: async () => {
        await store.remove(work.id);
        this.showRecent(works.filter((each) => each !== work));
      } }));
      return item;
    });
    $("recent-list").replaceChildren(...items);
  }

  // --- listening -------------------------------------------------------------------------------------------------

  #listenToSettings() {
    const { studio, page } = this;
    for (const task of TASKS) onClick(task, () => page.write(task));
    onClick("rewrite", () => page.rewrite());
    for (const id of FREE) freeButton(id).addEventListener("click", () => this.#setFree(id));
    for (const id of FREE) $(id).addEventListener("input", () => this.free.delete(id));
    onClick("no-span", () => studio.setSpan(0, 0));
    onClick("no-second", () => studio.setSecond(null));
    for (const id of ["from", "to"]) $(id).addEventListener("change", () => this.#spanTyped(id));
    $("name").addEventListener("change", () => this.#rename());
    $("controls").addEventListener("input", () => this.#settingsChanged());
    $("controls").addEventListener("submit", (event) => event.preventDefault());
  }

  #rename() {
    this.studio.rename($("name").value);
    $("name").blur();
    $("name").value = this.studio.name; // an empty name is none
  }

  /** @param {string} id */
  #setFree(id) {
    this.free.add(id);
    this.#settingsChanged();
  }

  /** Take a typed span. Its other edge follows if it would lie on the wrong side: a span never turns round. @param {string} id */
  #spanTyped(id) {
    const from = numberOf("from"), to = numberOf("to"), { span } = this.studio, seconds = span ? span[1] - span[0] : 4;
    if (from === null && to === null) { this.studio.setSpan(0, 0); return; }
    if (from !== null && to !== null && to > from) this.studio.setSpan(from, to);
    else if (id === "from" && from !== null) this.studio.setSpan(from, from + seconds);
    else if (id === "to" && to !== null) this.studio.setSpan(Math.max(0, to - seconds), to);
    const after = this.studio.span;
    if (after) { $("from").value = after[0].toFixed(2); $("to").value = after[1].toFixed(2); }
  }

  #settingsChanged() {
    for (const id of SLIDERS) $(`${id}-value`).textContent = id === "variations" ? $(id).value : Number($(id).value).toFixed(2);
    for (const id of FREE) {
      const isFree = this.free.has(id), unit = id === "density" ? " notes/s" : "";
      $(`${id}-value`).textContent = isFree ? "as the model likes" : `${$(id).value}${unit}`;
      $(id).classList.toggle("free", isFree);
      freeButton(id).disabled = isFree;
    }
    const values = Object.fromEntries(SETTINGS.map((id) => [id, $(id).value]));
    store.setSetting("controls", { ...values, free: [...this.free] });
  }
}
