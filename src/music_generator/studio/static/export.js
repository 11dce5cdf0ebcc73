// Export: files to save, a MIDI file to drag into another program, and the command line.
import { isNote, toJson } from "./piece.js";
import * as server from "./server.js";

/** Save a file in the folder of downloads. @param {Blob} blob @param {string} name */
export function saveBlob(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** @param {string} name */
const safeName = (name) => name.replace(/[^\p{L}\p{N} ._-]+/gu, "-").trim() || "piece";
/** @param {string} name */
const shellQuoted = (name) => (/^[\w@%+=:,./-]+$/.test(name) ? name : `'${name.replaceAll("'", `'"'"'`)}'`);

export class Exporter {
  /** The MIDI file of these events as a data URL. @type {{events: MusicEvent[], url: string} | null} */
  #dragged = null;

  /** @param {Studio} studio */
  constructor(studio) { this.studio = studio; }

  get piece() {
    const piece = toJson(this.studio.events, this.studio.history.facts);
    if (!piece.notes.length) throw new Error("there is nothing to export yet: open, compose or paste something first");
    return piece;
  }

  get fileName() { return safeName(this.studio.name); }

  async midi() { saveBlob(await server.midi(this.piece), `${this.fileName}.mid`); }

  /** Save the piece as it was before step number `index`. @param {number} index */
  async midiBefore(index) {
    const { events, facts } = this.studio.history.before(index);
    if (!events.some(isNote)) throw new Error("before this step the piece was empty: the command needs no file");
    saveBlob(await server.midi(toJson(events, facts)), `${safeName(facts.name || "untitled")}.mid`);
  }

  /** Save a sound file, of the span if there is one. Return the name of the sound engine.
   * @param {string} format @param {Span | null} span */
  async sound(format, span) {
    const [from, to] = span ?? [0, this.studio.end];
    const { blob, engine } = await server.sound(this.piece, { from, to, format });
    saveBlob(blob, `${this.fileName}.${format}`);
    return engine;
  }

  async picture() {
    const span = this.studio.history.lastWritten()?.span;
    saveBlob(await server.picture(this.piece, this.studio.name, span), `${this.fileName}.png`);
  }

  /** The command line that writes the last written span again, or that renders the piece; or why there is none. */
  get command() {
    const written = this.studio.history.lastWritten();
    if (written?.noCommand) return `# ${written.noCommand}`;
    return written?.command ?? `music-generator render ${shellQuoted(`${this.fileName}.mid`)}`;
  }

  /** Fetch the file before a drag begins: during the drag there is no time to wait for it. */
  async prepareDrag() {
    const { events } = this.studio;
    if (this.#dragged?.events === events) return;
    const bytes = new Uint8Array(await (await server.midi(this.piece)).arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    this.#dragged = { events, url: `data:audio/midi;base64,${btoa(text)}` };
  }

  /** @param {DragEvent} event */
  startDrag(event) {
    if (!event.dataTransfer || this.#dragged?.events !== this.studio.events) { event.preventDefault(); return; }
    event.dataTransfer.effectAllowed = "copy";
    event.dataTransfer.setData("DownloadURL", `audio/midi:${this.fileName}.mid:${this.#dragged.url}`);
  }
}
