// The panels beside the roll: controls, variations, selection and history.
import { countNotes, isNote } from "./piece.js";
import { helpTables } from "./shortcuts.js";
import * as store from "./store.js";

export const $ = (id) => document.getElementById(id);
export const onClick = (id, action) => $(id).addEventListener("click", action);
export const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

export const TASKS = ["infill", "continue", "lead-in", "bridge", "compose"];
const SLIDERS = ["variations", "temperature", "top-p"];
const SETTINGS = [...SLIDERS, "composer", "seconds", "seed"];
const PARTIAL = ["span", "selected", "dragged"]; // changes that leave the history as it is
const isEmpty = (id) => $(id).value.trim() === "";
const numberOf = (id) => (isEmpty(id) ? null : Number($(id).value));

export class Panels {
  /** `page` has the actions `write(task)`, `tryAgain()` and `focusRoll()`. */
  constructor(studio, page) {
    Object.assign(this, { studio, page, info: null });
    this.#listenToSettings();
    this.#listenToVariations();
    this.#listenToSelection();
    $("shortcuts").append(...helpTables());
  }

  /** Fill the controls with the composers, defaults and limits of the server. */
  start(info) {
    this.info = info;
    const { defaults, limits } = info, stored = store.setting("controls") ?? {};
    const initial = { variations: defaults.variations, temperature: defaults.temperature, "top-p": defaults.top_p };
    for (const name of info.composers) $("composer").append(new Option(name, name));
    $("variations").max = limits.variations;
    for (const id of SETTINGS) $(id).value = stored[id] ?? initial[id] ?? "";
    $("seconds").placeholder = defaults.piece_seconds;
    $("seconds").title = `Empty: ${defaults.piece_seconds} s, or ${defaults.join_seconds} s for Lead in and Bridge`;
    this.#settingsChanged();
  }

  /** The settings as fields of a request; the server has defaults for those that are null. */
  settings(task) {
    const settings = { temperature: numberOf("temperature"), top_p: numberOf("top-p"), variations: numberOf("variations") };
    Object.assign(settings, { seed: numberOf("seed"), composer: $("composer").value || null });
    if (task !== "infill") settings.seconds = numberOf("seconds");
    if (task === "continue" && $("from-playhead").checked) settings.from = Math.round(this.studio.playhead * 100) / 100;
    return settings;
  }

  // --- showing ---------------------------------------------------------------------------------------------------

  show(what) {
    const { studio } = this, { history, choice } = studio, hasNotes = studio.events.some(isNote);
    $("name").textContent = studio.name;
    document.title = `${studio.name} · Studio`;
    $("undo").disabled = !history.canUndo && !choice;
    $("redo").disabled = !history.canRedo;
    $("empty").hidden = hasNotes || Boolean(choice);
    $("legend").hidden = !hasNotes && !choice;
    this.#showTasks(hasNotes);
    this.#showSpan();
    this.#showSelection();
    this.showVariations();
    if (!PARTIAL.includes(what)) this.#showHistory();
    this.#describe();
  }

  #showTasks(hasNotes) {
    const { span, second } = this.studio, canUseFuture = !this.info || this.info.uses_future;
    $("infill").disabled = !span || !hasNotes || !canUseFuture;
    $("continue").disabled = !hasNotes;
    $("lead-in").disabled = !hasNotes || !canUseFuture;
    $("bridge").disabled = !hasNotes || !second || !canUseFuture;
    $("second-name").textContent = second?.name ?? "for Bridge";
    $("no-second").hidden = !second;
  }

  #showSpan() {
    const { span } = this.studio;
    $("no-span").disabled = !span;
    ["from", "to"].forEach((id, i) => {
      if (document.activeElement !== $(id)) $(id).value = span ? span[i].toFixed(2) : "";
    });
  }

  /** Describe the roll for screen readers. */
  #describe() {
    const { name, span, events, end } = this.studio, inSpan = (e) => e.onset >= span[0] && e.onset < span[1];
    const spanText = span
      ? `Selected span: ${span[0].toFixed(2)} to ${span[1].toFixed(2)} seconds, ${countNotes(events.filter(inSpan))} notes.`
      : "No span is selected.";
    $("roll-description").textContent = `${name}, ${countNotes(events)} notes, ${end.toFixed(1)} seconds. ${spanText} `
      + "Comma and full stop go from note to note; question mark opens the help.";
  }

  /** Show the bar of variations. This is called for each event that arrives, so it does little. */
  showVariations() {
    const { choice } = this.studio, count = choice?.variations.length ?? 0;
    $("choice").hidden = !choice;
    if (!choice) return;
    const variation = choice.variations[choice.current];
    $("choice-text").textContent = variation ? this.#variationText(variation, choice) : `${this.studio.taskLabel} …`;
    $("previous").disabled = $("next").disabled = count < 2;
    $("keep").ariaDisabled = !variation?.done; // a disabled button could not have the focus
    $("try-again").hidden = choice.writing;
    $("discard").textContent = choice.writing && !variation?.done ? "Cancel" : "Discard";
    this.#showDots(choice);
  }

  #variationText({ events, done, seed }, { current, variations }) {
    const title = variations.length > 1 ? `Variation ${current + 1} of ${variations.length}` : this.studio.taskLabel;
    return `${title} · ${countNotes(events)} notes${done ? "" : " …"} · seed ${seed}`;
  }

  #showDots({ variations, current }) {
    const writing = variations.findIndex((v) => !v.done);
    const classes = variations.map((v, i) =>
      [v.done && "done", i === writing && "writing", i === current && "current"].filter(Boolean).join(" "));
    if (this.dots === classes.join()) return;
    this.dots = classes.join();
    $("dots").replaceChildren(...classes.map((className) => make("li", { className })));
  }

  #showSelection() {
    const { selectedEvents: selected, selectionText, choice } = this.studio;
    $("edit").hidden = !selected.length || Boolean(choice);
    if (!selected.length) return;
    $("selection-text").textContent = `${selectionText} selected`;
    const mean = Math.round(selected.reduce((sum, e) => sum + e.velocity, 0) / selected.length);
    $("velocity").value = mean;
    $("velocity-value").textContent = mean;
  }

  #showHistory() {
    const { history } = this.studio;
    const items = [{ label: "Nothing yet" }, ...history.steps].map(({ label, detail }, i) => {
      const button = make("button", { type: "button", onclick: () => this.studio.goTo(i - 1) }, make("span", { textContent: label }));
      if (detail) button.append(make("small", { textContent: `seed ${detail.seed}` }));
      const item = make("li", { className: i > history.at ? "undone" : "" }, button);
      if (i === history.at) item.setAttribute("aria-current", "step");
      return item;
    });
    $("steps").replaceChildren(...items.reverse());
  }

  showRecent(works) {
    $("recent").hidden = !works.length;
    const items = works.slice(0, 4).map((work) => {
      const saved = new Date(work.saved).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      return make("li", {}, make("button", { type: "button", onclick: () => this.studio.restore(work) },
        make("b", { textContent: work.name }), make("span", { textContent: saved })));
    });
    $("recent").querySelector("ul").replaceChildren(...items);
  }

  // --- listening -------------------------------------------------------------------------------------------------

  #listenToSettings() {
    const { studio, page } = this;
    for (const task of TASKS) onClick(task, () => page.write(task));
    onClick("no-span", () => studio.setSpan(0, 0));
    onClick("no-second", () => studio.setSecond(null));
    for (const id of ["from", "to"]) $(id).addEventListener("change", () => this.#spanTyped());
    $("controls").addEventListener("input", () => this.#settingsChanged());
    $("controls").addEventListener("submit", (event) => event.preventDefault());
  }

  #listenToVariations() {
    const { studio, page } = this;
    onClick("previous", () => studio.nextVariation(-1));
    onClick("next", () => studio.nextVariation(1));
    onClick("keep", () => { studio.keep(); page.focusRoll(); });
    onClick("discard", () => { studio.discard(); page.focusRoll(); });
    onClick("try-again", () => page.tryAgain());
  }

  #listenToSelection() {
    const { studio } = this;
    const edits = {
      erase: () => studio.erase(), copy: () => studio.copy(), cut: () => studio.cut(), paste: () => studio.paste(),
      down: () => studio.move(0, -1), up: () => studio.move(0, 1), octave: () => studio.move(0, 12),
      earlier: () => studio.move(-0.1, 0), later: () => studio.move(0.1, 0),
    };
    for (const button of $("edit").querySelectorAll("[data-edit]")) button.addEventListener("click", edits[button.dataset.edit]);
    $("velocity").addEventListener("input", () => { $("velocity-value").textContent = $("velocity").value; });
    $("velocity").addEventListener("change", () => {
      const value = Number($("velocity").value);
      studio.setVelocity(() => value, `Velocity ${value}`);
    });
  }

  #spanTyped() {
    const from = numberOf("from"), to = numberOf("to");
    if (from !== null && to !== null) this.studio.setSpan(from, to);
    else if (from === null && to === null) this.studio.setSpan(0, 0);
  }

  #settingsChanged() {
    for (const id of SLIDERS) $(`${id}-value`).textContent = id === "variations" ? $(id).value : Number($(id).value).toFixed(2);
    store.setSetting("controls", Object.fromEntries(SETTINGS.map((id) => [id, $(id).value])));
  }
}
