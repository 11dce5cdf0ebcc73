// The bar of variations: it takes the place of the toolbar while the user listens and chooses.
import { $, make, onClick } from "./panels.js";
import { countNotes } from "./piece.js";

export class ChoiceBar {
  #dots = ""; // the state of the buttons that are shown

  /** @param {Studio} studio @param {{focusRoll(): void}} page */
  constructor(studio, page) {
    this.studio = studio;
    const { writer } = studio;
    onClick("previous", () => writer.next(-1));
    onClick("next", () => writer.next(1));
    onClick("compare", () => writer.compare());
    onClick("keep", () => { writer.keep(); page.focusRoll(); });
    onClick("discard", () => { writer.discard(); page.focusRoll(); });
    onClick("more", () => writer.more());
  }

  /** Show the bar of variations. This is called for each event that arrives, so it does little. */
  show() {
    const { choice, writer } = this.studio;
    if (!choice) return;
    const { variations, current, original, writing } = choice, variation = variations[current];
    $("choice-text").textContent = variation ? this.#text(choice) : `${writer.taskLabel} …`;
    $("previous").disabled = $("next").disabled = variations.length < 2;
    $("keep").ariaDisabled = String(!variation?.done || original); // a disabled button could not have the focus
    $("more").disabled = writing;
    $("compare").disabled = !variations.length || choice.task === "compose";
    $("compare").setAttribute("aria-pressed", String(original));
    $("discard").textContent = writing && !variation?.done ? "Cancel" : "Discard";
    this.#showDots(choice);
  }

  /** @param {Choice} choice */
  #text({ variations, current, original }) {
    if (original) return "The piece as it was";
    const { events, done, seed } = variations[current];
    const title = variations.length > 1 ? `Variation ${current + 1} of ${variations.length}` : this.studio.writer.taskLabel;
    return `${title} · ${countNotes(events)} notes${done ? "" : " …"} · seed ${seed}`;
  }

  /** @param {Choice} choice */
  #showDots({ variations, current, original }) {
    const writing = variations.findIndex((v) => !v.done), { writer } = this.studio;
    const classes = variations.map((v, i) => [v.done && "done", i === writing && "writing"].filter(Boolean).join(" "));
    const state = `${classes} ${current} ${original}`;
    if (this.#dots === state) return;
    this.#dots = state;
    $("dots").replaceChildren(...classes.map((className, i) => {
      const button = make("button", { type: "button", className, textContent: String(i + 1), ariaLabel: `Variation ${i + 1}`, onclick: () => writer.show(i) });
      button.setAttribute("aria-pressed", String(i === current && !original));
      return button;
    }));
  }
}
