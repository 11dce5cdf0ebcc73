// The dialog of the export.
import { $, make, onClick } from "./panels.js";
import { messageOf } from "./server.js";

export class ExportDialog {
  /** @param {Studio} studio @param {Exporter} exporter */
  constructor(studio, exporter) {
    this.studio = studio;
    this.exporter = exporter;
    onClick("export", () => this.#open());
    onClick("save-midi", () => this.#run(() => exporter.midi()));
    onClick("save-picture", () => this.#run(() => exporter.picture()));
    onClick("save-before", () => this.#run(() => exporter.midiBefore(studio.history.lastWritten()?.index ?? 0)));
    onClick("copy-command", () => this.#run(() => navigator.clipboard.writeText($("command").textContent), "Copied"));
    const handle = $("drag-midi");
    for (const name of ["pointerenter", "pointerdown"]) handle.addEventListener(name, () => exporter.prepareDrag().catch(() => {}));
    handle.addEventListener("dragstart", (event) => exporter.startDrag(event));
  }

  /** Make a button for each sound format of the server. @param {Info} info */
  start({ formats }) {
    $("sounds").replaceChildren(...formats.map((format) => make("button", { type: "button", textContent: format.toUpperCase(),
      onclick: () => this.#run(() => this.exporter.sound(format, $("only-span").checked ? this.studio.span : null)) })));
  }

  #open() {
    const written = this.studio.history.lastWritten(), { span } = this.studio;
    const words = this.exporter.command.split(" "); // a line may break between words, but not inside `--seed`
    $("command").replaceChildren(...words.flatMap((word, i) => [i ? " " : "", make("span", { textContent: word })]));
    $("save-before").hidden = !written || written.task === "compose";
    $("only-span").disabled = !span;
    $("only-span").checked &&= Boolean(span);
    $("export-text").textContent = "";
    $("export-box").showModal();
  }

  /** @param {() => Promise<string | null | void>} action */
  async #run(action, word = "Saved") {
    const text = $("export-text");
    text.textContent = "One moment …";
    try {
      const engine = await action();
      text.textContent = engine ? `${word}; sound: ${engine}` : word;
    } catch (error) { text.textContent = messageOf(error); }
  }
}
