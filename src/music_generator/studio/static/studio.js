// The state of the studio, without the page: the piece and its history, the selection, and what is being written.
// `changed(what)` is called after each change, `announce(message)` with news, `failed(message)` with an error in one line.
import { History } from "./history.js";
import {
  before, clampMove, countNotes, edited, endOf, from, fromJson, isNote, keyName, makeEvent, reserveIds, shifted, tidy, toJson,
  toTick,
} from "./piece.js";
import * as server from "./server.js";

const LABELS = { compose: "Compose", continue: "Continue", "lead-in": "Lead in", infill: "Infill", bridge: "Bridge" };
const signed = (number, digits = 0) => `${number > 0 ? "+" : "−"}${Math.abs(number).toFixed(digits)}`;
const withoutExtension = (fileName) => fileName.replace(/\.midi?$/i, "");

const factsOf = ({ tempo_map, source }) => ({ tempo_map, source });

export class Studio {
  history = new History();
  selected = new Set(); // ids of events
  span = null; // [from, to] in seconds
  playhead = 0;
  second = null; // {name, piece}: the piece to bridge to
  clipboard = [];
  choice = null; // the variations that are being written, or of which the user keeps one
  preview = null; // the events while some are dragged

  constructor({ changed, failed, announce, streamed }) { Object.assign(this, { changed, failed, announce, streamed }); }

  get events() { return this.preview ?? (this.choice ? this.withVariation(this.choice.current) : this.history.events); }
  get name() { return this.history.facts.name || "untitled"; }
  get end() { return endOf(this.events); }

  // --- opening ---------------------------------------------------------------------------------------------------

  async open(file) {
    const { piece, remarks } = await server.readMidi(file);
    const name = withoutExtension(file.name);
    this.#replacePiece(`Open ${file.name}`, fromJson(piece), { ...factsOf(piece), name });
    this.#announcePiece();
    if (remarks.length) this.announce(`${file.name}: ${remarks.join("; ")}`);
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

  #replacePiece(label, events, facts) {
    this.settle();
    this.history.commit(label, events, { facts });
    Object.assign(this, { span: null, playhead: 0 });
    this.selected.clear();
    this.changed("opened");
  }

  #announcePiece() { this.announce(`${this.name}: ${countNotes(this.history.events)} notes, ${this.end.toFixed(1)} seconds`); }

  async openSecond(file) {
    const { piece } = await server.readMidi(file);
    this.setSecond({ name: withoutExtension(file.name), piece });
    this.announce(`Bridge leads to ${this.second.name}`);
  }

  setSecond(second) {
    this.second = second;
    this.changed("second");
  }

  // --- writing ---------------------------------------------------------------------------------------------------

  /** Write new music into `choice` as it arrives. A single variation is kept at its end. */
  async write(task, controls) {
    this.settle();
    if (task === "bridge" && !this.second) { this.failed("to bridge, choose a second piece: drop a MIDI file on “Second piece”"); return; }
    if (task === "infill" && !this.span) { this.failed("to infill, select a span first: drag across the roll or its ruler"); return; }
    const { events: base, facts } = this.history, request = this.#request(task, controls), abort = new AbortController();
    const choice = { task, base, facts, request, current: 0, variations: [], abort, job: null, writing: true };
    this.choice = choice;
    this.selected.clear();
    this.changed("requested");
    let failure = null;
    try {
      for await (const message of server.write(request, abort.signal)) if (this.choice === choice) this.#receive(message, choice);
    } catch (error) { failure = error; }
    if (this.choice !== choice) return; // discarded meanwhile
    this.#finish(choice);
    if (failure) this.failed(failure.message);
  }

  #request(task, controls) {
    const request = { task, ...controls, name: this.name };
    if (task !== "compose") request.piece = toJson(this.history.events, this.history.facts);
    if (task === "bridge") Object.assign(request, { second: this.second.piece, second_name: this.second.name });
    if (task === "infill") [request.from, request.to] = this.span;
    return request;
  }

  #receive(message, choice) {
    const variation = choice.variations[message.variation];
    if (message.type === "job") choice.job = message.job;
    if (message.type === "begin") this.#begin(message, choice);
    if (message.type === "events") {
      const events = fromJson(message, true);
      variation.events.push(...events);
      if (message.variation === choice.current) this.streamed(events);
    }
    if (message.type === "variation") {
      Object.assign(variation, { events: fromJson(message, true), done: true });
      this.changed("variation");
    }
  }

  /** Set the past and the future of the new music, which all variations share. */
  #begin(message, choice) {
    const { start, end, future_shift: shift, seeds, commands } = message;
    const { task, base } = choice;
    const around = {
      compose: () => [[], []],
      continue: () => [before(base, start), []],
      "lead-in": () => [[], shifted(base, shift)],
      infill: () => [before(base, start), from(base, end)],
      bridge: () => [base, shifted(fromJson(this.second.piece), shift)],
    };
    const [past, future] = around[task]();
    Object.assign(choice, { start, end, past, future, facts: { ...choice.facts, ...factsOf(message) } });
    choice.variations = seeds.map((seed, i) => ({ seed, command: commands[i], events: [], done: false }));
    this.changed("begun");
  }

  #finish(choice) {
    choice.writing = false;
    choice.variations = choice.variations.filter((variation) => variation.done);
    choice.current = Math.min(choice.current, choice.variations.length - 1);
    if (!choice.variations.length) this.choice = null;
    this.changed("written");
    if (this.choice && choice.request.variations === 1) this.keep();
    else if (this.choice) this.announce(`${choice.variations.length} variations: choose one and keep it`);
  }

  /** The whole piece with a variation in its place; with the past and the future alone while it is being written. */
  withVariation(index) {
    const { choice } = this, variation = choice.variations[index];
    if (!variation) return choice.base;
    if (!variation.done) return variation.around ??= choice.past.concat(choice.future);
    return variation.whole ??= tidy(choice.past.concat(variation.events, choice.future));
  }

  /** Show the next variation, or with -1 the previous one. */
  nextVariation(by) {
    const { choice } = this, count = choice?.variations.length;
    if (!count) return;
    choice.current = (choice.current + by + count) % count;
    this.changed("switched");
    this.announce(`Variation ${choice.current + 1} of ${count}, ${countNotes(choice.variations[choice.current].events)} notes`);
  }

  /** Make the shown variation the piece; `select` its span, so that it can be written again. */
  keep(select = true) {
    const { choice } = this, variation = choice?.variations[choice.current];
    if (!variation) return;
    if (!variation.done) { this.announce("this variation is still being written"); return; }
    const whole = this.withVariation(choice.current), { start, end, task } = choice, isNew = task === "compose";
    this.#close();
    const { command, seed } = variation, label = this.#labelOf(choice);
    const facts = isNew ? { ...choice.facts, name: `composed-${seed}` } : choice.facts;
    this.history.commit(label, whole, { facts, detail: { task, command, seed, span: [start, end] } });
    if (select) this.span = isNew ? null : [start, end];
    this.changed("kept");
    this.announce(`Kept: ${label}, seed ${seed}`);
  }

  #labelOf({ task, start, end, request }) {
    const where = task === "compose" ? request.seconds ?? Math.round(end - start) : `${start.toFixed(1)}–${end.toFixed(1)}`;
    return `${LABELS[task]} ${where} s`;
  }

  get taskLabel() { return LABELS[this.choice.task]; }

  discard() {
    if (!this.choice) return;
    this.#close();
    this.changed("discarded");
    this.announce("Discarded; the piece is as it was");
  }

  #close() {
    const { job, writing, abort } = this.choice;
    if (writing && job) server.cancel(job);
    if (writing) abort.abort();
    this.choice = null;
  }

  /** Before another action: keep the shown variation if it is complete, else discard it. */
  settle() {
    if (!this.choice) return;
    if (this.choice.variations[this.choice.current]?.done) this.keep(false); else this.discard();
  }

  // --- history ---------------------------------------------------------------------------------------------------

  undo() {
    if (this.choice) { this.discard(); return; }
    const step = this.history.undo();
    this.#showHistory();
    this.announce(step ? `Undone: ${step.label}` : "Nothing to undo");
  }

  redo() {
    if (this.choice) { this.discard(); return; }
    const step = this.history.redo();
    this.#showHistory();
    this.announce(step ? `Redone: ${step.label}` : "Nothing to redo");
  }

  goTo(index) {
    this.settle();
    this.history.goTo(index);
    this.#showHistory();
  }

  #showHistory() {
    this.selected.clear();
    this.changed("history");
  }

  // --- selecting -------------------------------------------------------------------------------------------------

  get selectedEvents() { return this.history.events.filter((e) => this.selected.has(e.id)); }

  /** Select events. With `add` they are added to the selection; a single one that is selected already is removed. */
  select(ids, add) {
    if (this.choice) return;
    if (!add) this.selected.clear();
    const remove = add && ids.length === 1 && this.selected.has(ids[0]);
    for (const id of ids) if (remove) this.selected.delete(id); else this.selected.add(id);
    this.changed("selected");
  }

  selectAll() {
    this.select(this.history.events.map((e) => e.id));
    this.setSpan(0, this.end);
  }

  /** Select the next note, or with -1 the previous one, and announce it: for users who cannot see or point. */
  selectNext(by) {
    const notes = this.history.events.filter(isNote);
    if (!notes.length || this.choice) return;
    let index = notes.findIndex((e) => this.selected.has(e.id));
    if (index < 0) index = notes.findIndex((e) => e.onset >= this.playhead) - (by > 0 ? 1 : 0);
    const { id, key, onset, duration, velocity, generated } = notes[Math.min(Math.max(index + by, 0), notes.length - 1)];
    this.select([id]);
    this.changed("focused");
    const place = `${keyName(key)}, ${onset.toFixed(2)} s, ${duration.toFixed(2)} s long`;
    this.announce(`${place}, velocity ${velocity}${generated ? ", by the model" : ""}`);
  }

  setSpan(a, b) {
    const [start, end] = [Math.max(0, toTick(Math.min(a, b))), toTick(Math.max(a, b))];
    this.span = end - start >= 0.01 ? [start, end] : null;
    this.changed("span");
  }

  /** The size of the selection in words, for example "3 notes". */
  get selectionText() {
    const notes = countNotes(this.selectedEvents), n = notes || this.selected.size;
    return notes ? `${n} note${n === 1 ? "" : "s"}` : `${n} pedal press${n === 1 ? "" : "es"}`;
  }

  // --- editing ---------------------------------------------------------------------------------------------------

  #edit(label, change) {
    if (!this.selected.size || this.choice) return;
    const { events, made } = edited(this.history.events, this.selected, change);
    this.preview = null;
    this.#commitSelected(label, events, made);
    this.announce(label);
  }

  #commitSelected(label, events, selected) {
    this.selected = new Set(selected.map((e) => e.id));
    this.history.commit(label, events);
    this.changed("edited");
  }

  erase() { this.#edit(`Delete ${this.selectionText}`, () => null); }

  /** Move the selection; while it is dragged (`final` false), only show it moved. */
  move(seconds, semitones, final = true) {
    const [by, up] = clampMove(this.selectedEvents, toTick(seconds), semitones), isMoved = by !== 0 || up !== 0;
    const change = (e) => ({ onset: e.onset + by, key: isNote(e) ? e.key + up : e.key });
    if (!final || !isMoved || this.choice) {
      this.preview = isMoved && !this.choice ? edited(this.history.events, this.selected, change).events : null;
      this.changed("dragged");
      return;
    }
    const distance = [by && `${signed(by, 2)} s`, up && `${signed(up)} semitones`].filter(Boolean).join(", ");
    this.#edit(`${by ? "Move" : "Transpose"} ${this.selectionText} by ${distance}`, change);
  }

  setVelocity(change, label) {
    const limited = (velocity) => Math.min(127, Math.max(1, Math.round(velocity)));
    this.#edit(`${label} of ${this.selectionText}`, (e) => ({ velocity: limited(change(e.velocity)) }));
  }

  /** Return false if nothing is selected. */
  copy() {
    const events = this.selectedEvents;
    if (!events.length) return false;
    this.clipboard = events.map((e) => ({ ...e, onset: e.onset - events[0].onset }));
    this.announce(`Copied ${this.selectionText}`);
    return true;
  }

  cut() { if (this.copy()) this.erase(); }

  paste() {
    if (!this.clipboard.length) { this.announce("Nothing was copied"); return; }
    this.settle();
    const pasted = this.clipboard.map((e) =>
      makeEvent(e.onset + toTick(this.playhead), e.duration, e.key, e.velocity, e.generated));
    const label = `Paste ${pasted.length} at ${this.playhead.toFixed(1)} s`;
    this.#commitSelected(label, tidy(this.history.events.concat(pasted)), pasted);
  }

  // --- storing ---------------------------------------------------------------------------------------------------

  /** The state to store; `restore` is the inverse. */
  plain() {
    const { name, span, playhead, second } = this;
    return { name, history: this.history.plain(), span, playhead, second, choice: this.#plainChoice() };
  }

  #plainChoice() {
    const { choice } = this;
    const variations = choice?.variations.filter((v) => v.done).map(({ whole, around, ...rest }) => rest) ?? [];
    if (!variations.length || choice.task === "bridge") return null;
    const current = Math.min(Math.max(choice.current, 0), variations.length - 1);
    return { ...choice, abort: null, job: null, writing: false, variations, current };
  }

  restore({ history, span, playhead, second, choice }) {
    this.history.restore(history);
    if (choice) reserveIds([choice.past, choice.future, ...choice.variations.map((v) => v.events)].flat());
    Object.assign(this, { span, playhead, second, choice });
    this.selected.clear();
    this.changed("opened");
  }
}
