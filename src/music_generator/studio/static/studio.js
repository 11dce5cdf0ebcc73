// The state of the studio: the piece and its history, the selection, and what is being written.
// `changed(what)` is called after each change, `announce(message)` with news, `failed(message)` with an error in one line.
import { Editor } from "./editor.js";
import { extent } from "./editing.js";
import { History } from "./history.js";
import { countNotes, endOf, fromJson, isNote, keyName, partName, toJson, toTick } from "./piece.js";
import { isProject, readProject } from "./project.js";
import { isRecording, Recordings } from "./recordings.js";
import * as server from "./server.js";
import { Time } from "./time.js";
import { notesBetween, VOICES } from "./voices.js";
import { factsOf, selectedNotes, Writer } from "./writer.js";

/** @param {string} fileName */
const withoutExtension = (fileName) => fileName.replace(/\.(midi?|kar|rmi|smf|json|wav|flac|ogg|mp3|aiff?|au|caf)$/i, "");

export class Studio {
  history = new History();
  time = new Time();
  writer = new Writer(this);
  editor = new Editor(this);
  /** @type {Set<number>} */ selected = new Set(); // ids of events
  /** @type {Span | null} */ span = null;
  playhead = 0;
  /** @type {Second | null} */ second = null; // the piece to bridge to
  /** @type {Session | null} */ recording = null; // what is being played in; it ends before anything else changes the piece
  /** @type {Preview | null} */ preview = null; // while a gesture changes the piece

  /** @param {StudioListener} listener */
  constructor({ changed, failed, announce, streamed, leave, transcribing }) {
    this.recordings = new Recordings(transcribing);
    this.changed = changed;
    this.failed = failed;
    this.announce = announce;
    this.streamed = streamed;
    this.leave = leave;
  }

  get choice() { return this.writer.choice; }
  get events() { return this.preview?.events ?? (this.choice ? this.writer.events : this.history.events); }
  /** The name, the tempo map and the file of the piece as it is shown. */
  get facts() { return this.choice && !this.choice.original ? this.choice.facts : this.history.facts; }
  get name() { return this.history.facts.name || "untitled"; }
  get end() { return endOf(this.events); }

  // --- opening ---------------------------------------------------------------------------------------------------

  /** @param {File} file */
  async open(file) {
    if (isProject(file)) { await this.openWork(await readProject(file)); return; }
    const read = await this.#read(file), name = withoutExtension(file.name);
    if (!read) return;
    this.#replacePiece(`Open ${file.name}`, fromJson(read.piece), { ...factsOf(read.piece), name });
    this.#announceRead(file.name, read);
  }

  /** The piece of a MIDI file or of a recording; null if the user cancels it. @param {File} file */
  async #read(file) {
    if (!await isRecording(file)) return server.readMidi(file);
    const read = await this.recordings.read(file);
    if (!read) this.announce(`Cancelled: ${file.name} is not opened`);
    return read;
  }

  /** Work on another track of the piece's file, as the file is now. @param {number} track */
  async chooseTrack(track) {
    this.settle();
    const { events, facts } = this.history, file = await server.midi(toJson(events, facts));
    const answer = await server.readMidi(new File([file], this.name), track), { piece } = answer;
    this.#replacePiece(`Track ${track}`, fromJson(piece), { ...factsOf(piece), name: facts.name });
    this.#announceRead(this.name, answer);
  }

  /** Say what of a file was opened. @param {string} name @param {Reading} reading */
  #announceRead(name, { parts, remarks }) {
    this.#announcePiece();
    const chosen = parts.filter((each) => each.chosen).map(partName).join(", ");
    const said = parts.length > 1 ? [`${chosen} is the piece, the other tracks stay as they are`, ...remarks] : remarks;
    if (said.length) this.announce(`${name}: ${said.join("; ")}`);
  }

  /** Open a piece with its history, in the place of the present one. @param {StoredWork} work @param {string} [id] of a stored one */
  async openWork(work, id) {
    this.settle();
    await this.leave(id);
    this.restore(work);
    this.#announcePiece();
  }

  async openExample() {
    const { piece } = await server.example();
    this.#replacePiece("Open the example", fromJson(piece, true), { ...factsOf(piece), name: "example" });
    this.#announcePiece();
  }

  newPiece() {
    this.settle();
    if (this.history.events.length) this.#replacePiece("New piece", [], { name: "", tempo_map: null, source: null });
  }

  /** @param {string} label @param {MusicEvent[]} events @param {Facts} facts */
  #replacePiece(label, events, facts) {
    this.settle();
    this.preview = null;
    this.history.commit(label, events, { facts });
    Object.assign(this, { span: null, playhead: 0 });
    this.selected.clear();
    this.changed("opened");
  }

  #announcePiece() { this.announce(`${this.name}: ${countNotes(this.history.events)} notes, ${this.end.toFixed(1)} seconds`); }

  /** @param {File} file */
  async openSecond(file) {
    const read = await this.#read(file);
    if (!read) return;
    const name = withoutExtension(file.name);
    this.setSecond({ name, piece: read.piece });
    this.announce(`Bridge leads to ${name}`);
  }

  /** @param {Second | null} second */
  setSecond(second) {
    this.second = second;
    this.changed("second");
  }

  /** Change the name, the tempo map or the file of the piece: a step of the history. @param {string} label @param {Partial<Facts>} facts */
  setFacts(label, facts) {
    this.settle();
    this.preview = null;
    this.history.commit(label, this.history.events, { facts: { ...this.history.facts, ...facts } });
    this.changed("edited");
  }

  /** @param {string} name */
  rename(name) { if (name.trim() && name.trim() !== this.name) this.setFacts(`Rename to ${name.trim()}`, { name: name.trim() }); }

  // --- writing ---------------------------------------------------------------------------------------------------

  /** @param {Task} task @param {Settings} settings @param {MusicEvent[]} kept */
  write(task, settings, kept) { return this.writer.write(task, settings, kept); }

  /** The selected notes of the span, which stay when the rest is written again. */
  get keptNotes() { return this.span && !this.choice ? selectedNotes(this.history.events, this.selected, this.span) : []; }

  /** Before another action: end what is unfinished, and keep what is complete of it, but not if the user goes to step number
   * `index` and that would delete it. @param {number} [index] */
  settle(index) {
    this.recording?.stop();
    this.writer.settle(index);
  }

  // --- history ---------------------------------------------------------------------------------------------------

  undo() {
    this.recording?.stop();
    if (this.choice) { this.writer.discard(); return; }
    const step = this.history.undo();
    this.#showHistory();
    this.announce(step ? `Undone: ${step.label}` : "Nothing to undo");
  }

  redo() {
    if (this.choice) { this.writer.discard(); return; }
    const step = this.history.redo();
    this.#showHistory();
    this.announce(step ? `Redone: ${step.label}` : "Nothing to redo");
  }

  /** @param {number} index */
  goTo(index) {
    this.settle(index);
    this.history.goTo(index);
    this.#showHistory();
  }

  #showHistory() {
    this.preview = null;
    this.selected.clear();
    const { span, end } = this;
    if (span && span[0] >= end) this.span = null; // there is nothing left of what was selected
    this.changed("history");
  }

  // --- selecting -------------------------------------------------------------------------------------------------

  get selectedEvents() { return this.history.events.filter((e) => this.selected.has(e.id)); }

  /** The selected events as they are shown: those of a preview while there is one. */
  get shownSelection() { return this.preview?.selected ?? this.selectedEvents; }

  /** Select events. With `add` they are added to the selection; a single one that is selected already is removed.
   * @param {number[]} ids */
  select(ids, add = false) {
    if (this.choice) return;
    const remove = add && ids.length === 1 && this.selected.has(ids[0]);
    this.selected = new Set(add ? this.selected : []);
    for (const id of ids) if (remove) this.selected.delete(id); else this.selected.add(id);
    this.preview = null;
    this.changed("selected");
  }

  selectAll() {
    this.select(this.history.events.map((e) => e.id));
    this.setSpan(0, this.end);
  }

  /** Select the notes of a voice (`VOICES`) in the span, or in the whole piece. @param {string} name @param {number} velocity */
  selectVoice(name, velocity) {
    const notes = notesBetween(this.history.events, this.span ?? [0, Infinity]), chosen = VOICES[name](notes, velocity);
    this.select(chosen.map((e) => e.id));
    this.announce(chosen.length ? `${this.selectionText} selected` : "No such notes here");
  }

  deselect() {
    if (this.selected.size) { this.select([]); this.announce("Nothing is selected"); }
    else if (this.span) { this.setSpan(0, 0); this.announce("No span is selected"); }
  }

  /** Select the next note, or with -1 the previous one, and announce it: for users who cannot see or point. @param {number} by */
  selectNext(by) {
    const notes = this.history.events.filter(isNote);
    if (!notes.length || this.choice) return;
    let index = notes.findIndex((e) => this.selected.has(e.id));
    if (index < 0) index = notes.findIndex((e) => e.onset >= this.playhead) - (by > 0 ? 1 : 0);
    const note = notes[Math.min(Math.max(index + by, 0), notes.length - 1)];
    this.select([note.id]);
    this.changed("focused");
    this.announce(this.describe(note));
    return note;
  }

  /** @param {MusicEvent} note */
  describe({ key, onset, duration, velocity, generated }) {
    const place = this.time.inBeats ? `bar ${this.time.text(onset)}` : `${onset.toFixed(2)} s`;
    return `${keyName(key)}, ${place}, ${duration.toFixed(2)} s long, velocity ${velocity}${generated ? ", by the model" : ""}`;
  }

  /** @param {number} a @param {number} b */
  setSpan(a, b) {
    const [start, end] = [Math.max(0, toTick(Math.min(a, b))), toTick(Math.max(a, b))];
    this.span = end - start >= 0.01 ? [start, end] : null;
    this.changed("span");
  }

  /** Make the extent of the selected events the span. */
  spanOfSelection() {
    const { selectedEvents: events } = this;
    if (events.length) { const [start, end] = extent(events); this.setSpan(this.time.floor(start), this.time.ceil(end)); }
  }

  /** The span in words. */
  get spanText() {
    const { span, time } = this;
    if (!span) return "No span is selected";
    const notes = notesBetween(this.events, span).length;
    return `Span ${time.text(span[0])} to ${time.text(span[1])}, ${notes} note${notes === 1 ? "" : "s"}`;
  }

  /** The size of the selection in words, for example "3 notes". */
  get selectionText() {
    const notes = countNotes(this.selectedEvents), n = notes || this.selected.size;
    return notes ? `${n} note${n === 1 ? "" : "s"}` : `${n} pedal press${n === 1 ? "" : "es"}`;
  }

  /** @param {Preview | null} preview */
  setPreview(preview) {
    if (!preview && !this.preview) return;
    this.preview = preview;
    this.changed("preview");
  }

  // --- storing ---------------------------------------------------------------------------------------------------

  /** The state to store; `restore` is the inverse. @returns {StoredWork} */
  plain() {
    const { name, span, playhead, second } = this;
    return { name, history: this.history.plain(), span, playhead, second, choice: this.writer.plain() };
  }

  /** @param {StoredWork} work */
  restore({ history, span, playhead, second, choice }) {
    this.history.restore(history);
    this.writer.restore(choice);
    Object.assign(this, { span, playhead, second, preview: null });
    this.selected.clear();
    this.changed("opened");
  }
}
