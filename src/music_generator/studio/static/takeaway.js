// Taking the work away: files to save, a MIDI file to drag into another program, and the command line.
import { isNote, toWire } from "./piece.js";
import * as server from "./server.js";

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const safe = (name) => name.replace(/[^\p{L}\p{N} ._-]+/gu, "-").trim() || "piece";

/** The last thing the model wrote that is still in the piece. */
export function lastWritten(history) {
  for (let i = history.at - 1; i >= 0; i--) if (history.steps[i].detail?.command) return { ...history.steps[i].detail, index: i };
  return null;
}

export class TakeAway {
  constructor(studio) { this.studio = studio; this.dragged = null; }

  get wire() {
    const wire = toWire(this.studio.strokes, this.studio.history.facts.tempo_map);
    if (!wire.notes.length) throw new Error("there is nothing to take away yet: open, compose or paste something first");
    return wire;
  }

  get fileName() { return safe(this.studio.name); }

  async midi() { save(await server.midi(this.wire), `${this.fileName}.mid`); }

  async midiBefore(index) {
    const { strokes, facts } = this.studio.history.before(index);
    if (!strokes.some(isNote)) throw new Error("before this step the piece was empty: the command needs no file");
    save(await server.midi(toWire(strokes, facts.tempo_map)), `${safe(facts.name || "untitled")}.mid`);
  }

  async sound(format, span) {
    const [from, to] = span ?? [0, this.studio.end];
    const made = await server.sound(this.wire, { from, to, format });
    save(made.blob, `${this.fileName}.${format}`);
    return made.engine;
  }

  async picture() {
    const span = lastWritten(this.studio.history)?.span;
    save(await server.picture(this.wire, this.studio.name, span), `${this.fileName}.png`);
  }

  command() { return lastWritten(this.studio.history)?.command ?? `music-generator render ${quoted(`${this.fileName}.mid`)}`; }

  /** Fetch the file that a drag will hand over: while dragging it is too late to ask. */
  async prepareDrag() {
    const { strokes } = this.studio;
    if (this.dragged?.strokes === strokes) return;
    const bytes = new Uint8Array(await (await server.midi(this.wire)).arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    this.dragged = { strokes, url: `data:audio/midi;base64,${btoa(text)}` };
  }

  drag(event) {
    if (this.dragged?.strokes !== this.studio.strokes) { event.preventDefault(); return; }
    event.dataTransfer.effectAllowed = "copy";
    event.dataTransfer.setData("DownloadURL", `audio/midi:${this.fileName}.mid:${this.dragged.url}`);
  }
}

const quoted = (name) => (/^[\w@%+=:,./-]+$/.test(name) ? name : `'${name.replaceAll("'", `'"'"'`)}'`);
