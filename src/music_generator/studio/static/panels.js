// The panels beside the roll: controls, variations, selection, history, dialogs, and files that are dropped.
import { isNote } from "./piece.js";
import { helpTables } from "./keys.js";
import * as store from "./store.js";
import { lastWritten } from "./takeaway.js";

export const $ = (id) => document.getElementById(id);
const SLIDERS = ["variations", "temperature", "top-p"];
const INTO_A_FUTURE = ["lead-in", "bridge"];
const make = (tag, facts = {}, ...inside) => {
  const element = Object.assign(document.createElement(tag), facts);
  element.append(...inside);
  return element;
};

export class Panels {
  constructor(studio, page) {
    Object.assign(this, { studio, page, info: null });
    this.#listen();
    this.#dialogs();
    this.#drops();
    $("shortcuts").append(...helpTables());
  }

  /** What the server said of itself: composers, defaults, limits. */
  start(info) {
    this.info = info;
    const kept = store.setting("controls") ?? {}, { defaults, limits } = info;
    for (const name of info.composers) $("composer").append(new Option(name, name));
    $("variations").max = limits.variations;
    const fresh = { variations: defaults.variations, temperature: defaults.temperature, "top-p": defaults.top_p };
    for (const id of SLIDERS) $(id).value = kept[id] ?? fresh[id];
    for (const id of ["composer", "seconds", "seed"]) $(id).value = kept[id] ?? "";
    $("seconds").placeholder = `${defaults.piece_seconds}`;
    $("seconds").title = `Empty: ${defaults.piece_seconds} s, into a future ${defaults.join_seconds} s`;
    $("sounds").replaceChildren(...info.formats.map((format) => make("button", { type: "button", textContent: format.toUpperCase(),
      onclick: () => this.#saved(() => this.page.takeAway.sound(format, $("only-span").checked ? this.studio.span : null)) })));
    this.#sliders();
  }

  /** What the controls ask for; an empty field is left to the server's default. */
  controls(task) {
    const number = (id) => ($(id).value.trim() === "" ? null : Number($(id).value));
    const asked = { temperature: number("temperature"), top_p: number("top-p"), variations: number("variations") };
    Object.assign(asked, { seed: number("seed"), composer: $("composer").value || null });
    if (task !== "infill") asked.seconds = number("seconds");
    if (task === "continue" && $("from-playhead").checked) asked.from = Math.round(this.studio.playhead * 100) / 100;
    return asked;
  }

  // --- what is so ------------------------------------------------------------------------------------------------

  show(what) {
    const { studio } = this, { history, choice, span } = studio, notes = studio.strokes.some(isNote);
    $("name").textContent = studio.name;
    document.title = `${studio.name} · Studio`;
    $("undo").disabled = !history.canUndo && !choice;
    $("redo").disabled = !history.canRedo;
    $("empty").hidden = notes || Boolean(choice);
    $("legend").hidden = !notes && !choice;
    const deaf = this.info && !this.info.hears_future;
    $("infill").disabled = !span || !notes || deaf;
    for (const id of ["continue", "lead-in"]) $(id).disabled = !notes || (deaf && id === "lead-in");
    $("bridge").disabled = !notes || !studio.second || deaf;
    $("no-span").disabled = !span;
    $("second-name").textContent = studio.second?.name ?? "for Bridge";
    $("no-second").hidden = !studio.second;
    if (document.activeElement !== $("from")) $("from").value = span ? span[0].toFixed(2) : "";
    if (document.activeElement !== $("to")) $("to").value = span ? span[1].toFixed(2) : "";
    this.#edit();
    this.writing();
    if (!["span", "chosen", "dragged"].includes(what)) this.#steps();
    this.#describe();
  }

  #describe() {
    const { studio } = this, { span, strokes } = studio, inside = span
      ? strokes.filter((s) => isNote(s) && s.on >= span[0] && s.on < span[1]).length : 0;
    const notes = strokes.filter(isNote).length;
    $("roll-says").textContent = `${studio.name}, ${notes} notes, ${studio.end.toFixed(1)} seconds. `
      + (span ? `Selected span: ${span[0].toFixed(2)} to ${span[1].toFixed(2)} seconds, ${inside} notes. ` : "No span is selected. ")
      + "Comma and full stop go from note to note; question mark opens the help.";
  }

  /** The bar of variations; called for every stroke that comes, so it does little. */
  writing() {
    const { choice } = this.studio, count = choice?.variations.length ?? 0;
    $("choice").hidden = !choice;
    if (!choice) return;
    const variation = choice.variations[choice.current];
    const notes = variation ? variation.strokes.filter(isNote).length : 0;
    $("choice-says").textContent = !variation ? `${choice.label} …`
      : `${count > 1 ? `Variation ${choice.current + 1} of ${count} · ` : `${choice.label} · `}${notes} notes${variation.done ? "" : " …"} · seed ${variation.seed}`;
    $("previous").disabled = $("next").disabled = count < 2;
    $("keep").ariaDisabled = !variation?.done; // disabled, it could not have the focus
    $("again").hidden = Boolean(choice.job);
    $("discard").textContent = choice.job && !variation?.done ? "Cancel" : "Discard";
    const writing = choice.variations.findIndex((v) => !v.done);
    const dots = choice.variations.map((v, i) =>
      [v.done && "done", i === writing && "writing", i === choice.current && "current"].filter(Boolean).join(" "));
    if (this.dots !== dots.join()) {
      this.dots = dots.join();
      $("dots").replaceChildren(...dots.map((name) => make("li", { className: name })));
    }
  }

  #edit() {
    const chosen = this.studio.chosenStrokes;
    $("edit").hidden = !chosen.length || Boolean(this.studio.choice);
    if (!chosen.length) return;
    $("edit-says").textContent = `${this.studio.count()} selected`;
    const mean = Math.round(chosen.reduce((sum, s) => sum + s.vel, 0) / chosen.length);
    $("velocity").value = mean;
    $("velocity-says").textContent = mean;
  }

  #steps() {
    const { history } = this.studio;
    const steps = [{ label: "Nothing yet" }, ...history.steps].map(({ label, detail }, i) => {
      const button = make("button", { type: "button", onclick: () => this.studio.goTo(i - 1) }, make("span", { textContent: label }));
      if (detail?.seed !== undefined) button.append(make("small", { textContent: `seed ${detail.seed}` }));
      const item = make("li", { className: i > history.at ? "ahead" : "" }, button);
      if (i === history.at) item.setAttribute("aria-current", "step");
      return item;
    });
    $("steps").replaceChildren(...steps.reverse());
  }

  showRecent(works) {
    $("recent").hidden = !works.length;
    const buttons = works.slice(0, 4).map((work) => make("button", { type: "button", onclick: () => this.studio.restore(work) },
      make("b", { textContent: work.name }), make("span", { textContent: new Date(work.saved).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) })));
    $("recent").querySelector("ul").replaceChildren(...buttons.map((button) => make("li", {}, button)));
  }

  // --- what is done ----------------------------------------------------------------------------------------------

  #listen() {
    const { studio, page } = this, click = (id, action) => $(id).addEventListener("click", action);
    for (const task of ["infill", "continue", "lead-in", "bridge", "compose"]) click(task, () => page.write(task));
    click("previous", () => studio.flick(-1));
    click("next", () => studio.flick(1));
    click("keep", () => { studio.keep(); page.focusRoll(); });
    click("discard", () => { studio.discard(); page.focusRoll(); });
    click("again", () => page.again());
    click("no-span", () => studio.setSpan(0, 0));
    click("second", () => $("second-file").click());
    click("no-second", () => { studio.second = null; studio.changed(); });
    for (const id of ["from", "to"]) $(id).addEventListener("change", () => this.#spanTyped());
    $("controls").addEventListener("input", () => this.#sliders());
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    $("file").addEventListener("change", () => this.#opened($("file")));
    $("second-file").addEventListener("change", () => {
      const [file] = $("second-file").files;
      if (file) page.run(() => studio.openSecond(file));
      $("second-file").value = "";
    });
    const edits = {
      erase: () => studio.erase(), copy: () => studio.copy(), cut: () => studio.cut(), paste: () => studio.paste(),
      down: () => studio.move(0, -1), up: () => studio.move(0, 1), octave: () => studio.move(0, 12),
      earlier: () => studio.move(-0.1, 0), later: () => studio.move(0.1, 0),
    };
    for (const button of $("edit").querySelectorAll("[data-edit]")) button.addEventListener("click", edits[button.dataset.edit]);
    $("velocity").addEventListener("input", () => { $("velocity-says").textContent = $("velocity").value; });
    $("velocity").addEventListener("change", () => {
      const value = Number($("velocity").value);
      studio.setVelocity(() => value, `Velocity ${value}`);
    });
  }

  #spanTyped() {
    const [from, to] = [$("from"), $("to")].map((field) => (field.value.trim() === "" ? null : Number(field.value)));
    if (from !== null && to !== null) this.studio.setSpan(from, to);
    else if (from === null && to === null) this.studio.setSpan(0, 0);
  }

  #sliders() {
    for (const id of SLIDERS) $(`${id}-says`).textContent = id === "variations" ? $(id).value : Number($(id).value).toFixed(2);
    const ids = [...SLIDERS, "composer", "seconds", "seed"];
    store.setSetting("controls", Object.fromEntries(ids.map((id) => [id, $(id).value])));
  }

  /** Several files at once: the first is the piece, the second the one to bridge to. */
  #opened(field) {
    const files = [...field.files];
    field.value = "";
    this.#take(files);
  }

  #take([first, second]) {
    const { studio } = this;
    this.page.run(async () => {
      if (first) await studio.open(first);
      if (second) await studio.openSecond(second);
    });
  }

  // --- dropped files ---------------------------------------------------------------------------------------------

  #drops() {
    const isFile = (event) => event.dataTransfer?.types.includes("Files"), zones = $("drop").querySelectorAll("div");
    addEventListener("dragenter", (event) => {
      if (!isFile(event)) return;
      zones[1].hidden = !this.studio.history.strokes.some(isNote);
      $("drop").hidden = false;
    });
    addEventListener("dragover", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      for (const zone of zones) zone.classList.toggle("over", zone === event.target);
    });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
    addEventListener("drop", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      $("drop").hidden = true;
      const files = [...event.dataTransfer.files], zone = event.target instanceof Element ? event.target.dataset.drop : "";
      if (zone === "second") this.page.run(() => this.studio.openSecond(files[0])); else this.#take(files);
    });
  }

  // --- dialogs ---------------------------------------------------------------------------------------------------

  #dialogs() {
    const { takeAway } = this.page, click = (id, action) => $(id).addEventListener("click", action);
    click("takeaway", () => {
      const written = lastWritten(this.studio.history);
      const words = takeAway.command().split(" "); // each in one piece: a line broken within `--seed` misleads
      $("command").replaceChildren(...words.flatMap((word, i) => [i ? " " : "", make("span", { textContent: word })]));
      $("save-before").hidden = !written || written.command.includes("generate --seconds");
      $("only-span").disabled = !this.studio.span;
      $("only-span").checked &&= Boolean(this.studio.span);
      $("takeaway-says").textContent = "";
      $("takeaway-box").showModal();
    });
    click("save-midi", () => this.#saved(() => takeAway.midi()));
    click("save-picture", () => this.#saved(() => takeAway.picture()));
    click("save-before", () => this.#saved(() => takeAway.midiBefore(lastWritten(this.studio.history).index)));
    click("copy-command", () => this.#saved(() => navigator.clipboard.writeText($("command").textContent), "Copied"));
    const handle = $("drag-midi");
    for (const event of ["pointerenter", "pointerdown"]) handle.addEventListener(event, () => takeAway.prepareDrag().catch(() => {}));
    handle.addEventListener("dragstart", (event) => takeAway.drag(event));
    for (const box of document.querySelectorAll("dialog")) {
      box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
    }
  }

  async #saved(action, word = "Saved") {
    const says = $("takeaway-says");
    says.textContent = "One moment …";
    try {
      const engine = await action();
      says.textContent = engine ? `${word}; sound: ${engine}` : word;
    } catch (error) { says.textContent = error.message; }
  }
}
