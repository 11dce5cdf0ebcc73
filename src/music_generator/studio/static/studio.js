// What the studio holds and does, without the page: the piece and its history, what is selected, what is written.
// Every change is told to `changed`; what went wrong goes to `failed` in one line.
import { History } from "./history.js";
import {
  before, clampMove, edited, endOf, from, fromWire, isNote, nameOf, reserveIds, shifted, stroke, tidy, toTick, toWire,
} from "./piece.js";
import * as server from "./server.js";

const LABELS = { compose: "Compose", continue: "Continue", "lead-in": "Lead in", infill: "Infill", bridge: "Bridge" };
const span2 = (a, b) => `${a.toFixed(1)}–${b.toFixed(1)} s`;

export class Studio {
  history = new History();
  chosen = new Set(); // ids of selected strokes
  span = null; // [from, to] seconds
  playhead = 0;
  second = null; // {name, wire}: the piece to bridge to
  clipboard = [];
  choice = null; // what is being written, or waits to be chosen from
  preview = null; // strokes while they are dragged

  constructor({ changed, failed, said, streamed }) { Object.assign(this, { changed, failed, said, streamed }); }

  get strokes() { return this.preview ?? (this.choice ? this.shown(this.choice.current) : this.history.strokes); }
  get name() { return this.history.facts.name || "untitled"; }
  get end() { return endOf(this.strokes); }
  get busy() { return Boolean(this.choice?.job); }

  // --- opening ---------------------------------------------------------------------------------------------------

  async open(file) {
    const { piece, left_out: leftOut } = await server.readMidi(file);
    this.#opened(file.name.replace(/\.midi?$/i, ""), piece, `Open ${file.name}`, 0);
    if (leftOut) this.said(`${file.name}: ${leftOut}`);
  }

  async openExample() {
    const { piece } = await server.example();
    this.#opened("example", piece, "Open the example", 1);
  }

  #opened(name, wire, label, by) {
    this.settle();
    this.history.commit(label, fromWire(wire, by), { facts: { name, tempo_map: wire.tempo_map } });
    Object.assign(this, { span: null, playhead: 0 });
    this.chosen.clear();
    this.changed("opened");
    this.said(`${name}: ${this.history.strokes.filter(isNote).length} notes, ${this.end.toFixed(1)} seconds`);
  }

  async openSecond(file) {
    const { piece } = await server.readMidi(file);
    this.second = { name: file.name.replace(/\.midi?$/i, ""), wire: piece };
    this.changed();
    this.said(`Bridge leads to ${this.second.name}`);
  }

  startAnew() {
    this.settle();
    if (!this.history.strokes.length) return;
    this.history.commit("New piece", [], { facts: { name: "", tempo_map: null } });
    Object.assign(this, { span: null, playhead: 0 });
    this.chosen.clear();
    this.changed("opened");
  }

  // --- writing ---------------------------------------------------------------------------------------------------

  /** Ask for a task; the strokes stream into `choice`, and one variation alone is kept at its end. */
  async write(task, controls) {
    this.settle();
    const base = this.history.strokes, { facts } = this.history;
    const asked = { task, ...controls, name: this.name };
    if (task !== "compose") asked.piece = toWire(base, facts.tempo_map);
    if (task === "bridge") {
      if (!this.second) return this.failed("to bridge, name a second piece: drop a MIDI file on “Second piece”");
      Object.assign(asked, { second: this.second.wire, second_name: this.second.name });
    }
    if (task === "infill") {
      if (!this.span) return this.failed("to infill, select a span first: drag across the roll or its ruler");
      [asked.from, asked.to] = this.span;
    }
    const abort = new AbortController();
    const choice = { task, label: LABELS[task], base, facts, asked, current: 0, variations: [], abort, job: "asked" };
    this.choice = choice;
    this.chosen.clear();
    this.changed();
    try {
      for await (const event of server.write(asked, abort.signal)) if (this.choice === choice) this.#take(event, choice);
    } catch (error) {
      if (error.name !== "AbortError" && this.choice === choice) { this.#written(choice); this.failed(error.message); }
      return;
    }
    if (this.choice === choice) this.#written(choice);
  }

  #take(event, choice) {
    if (event.event === "job") choice.job = event.job;
    if (event.event === "begin") this.#begun(event, choice);
    if (event.event === "strokes") {
      const made = fromWire(event, 1), variation = choice.variations[event.variation];
      variation.strokes.push(...made);
      if (event.variation === choice.current) this.streamed(made, variation);
    }
    if (event.event === "variation") {
      const variation = choice.variations[event.variation];
      Object.assign(variation, { strokes: fromWire(event, 1), done: true });
      this.changed();
    }
  }

  /** Where the new music lies: what comes before and after it, once for all variations. */
  #begun(event, choice) {
    const { start, end, future_shift: shift, seeds, commands } = event, { task, base } = choice;
    const past = { compose: [], continue: before(base, start), "lead-in": [], infill: before(base, start), bridge: base };
    const future = { infill: () => from(base, end), "lead-in": () => shifted(base, shift) };
    future.bridge = () => shifted(fromWire(this.second.wire), shift);
    Object.assign(choice, { start, end, past: past[task], future: future[task]?.() ?? [] });
    choice.variations = seeds.map((seed, i) => ({ seed, command: commands[i], strokes: [], done: false }));
    this.changed("begun");
  }

  #written(choice) {
    choice.job = null;
    choice.variations = choice.variations.filter((variation) => variation.done);
    choice.current = Math.min(choice.current, choice.variations.length - 1);
    if (!choice.variations.length) this.choice = null;
    this.changed("written");
    if (this.choice && choice.asked.variations === 1) this.keep();
    else if (this.choice) this.said(`${choice.variations.length} variations: choose one and keep it`);
  }

  /** The whole piece with a variation in its place. */
  shown(index) {
    const { choice } = this, variation = choice.variations[index];
    if (!variation) return choice.base;
    if (!variation.done) return variation.outside ??= choice.past.concat(choice.future);
    return variation.whole ??= tidy(choice.past.concat(variation.strokes, choice.future));
  }

  flick(by) {
    const { choice } = this;
    if (!choice?.variations.length) return;
    const count = choice.variations.length;
    choice.current = (choice.current + by + count) % count;
    this.changed("flicked");
    const variation = choice.variations[choice.current];
    this.said(`Variation ${choice.current + 1} of ${count}, ${variation.strokes.filter(isNote).length} notes`);
  }

  /** Make the variation that is shown the piece; `select` its span, so that it can be written once more. */
  keep(select = true) {
    const { choice } = this, variation = choice?.variations[choice.current];
    if (!variation) return;
    if (!variation.done) { this.said("this variation is still being written"); return; }
    const whole = this.shown(choice.current), { start, end, label, facts, task, asked } = choice;
    this.#stop();
    const what = task === "compose" ? `${label} ${asked.seconds ?? Math.round(end - start)} s` : `${label} ${span2(start, end)}`;
    const fresh = task === "compose" ? { name: `composed-${variation.seed}`, tempo_map: null } : facts;
    const { command, seed } = variation;
    this.history.commit(what, whole, { facts: fresh, detail: { command, seed, span: [start, end] } });
    if (select) this.span = task === "compose" ? null : [start, end];
    this.changed("kept");
    this.said(`Kept: ${what}, seed ${seed}`);
  }

  discard() {
    if (!this.choice) return;
    this.#stop();
    this.changed("discarded");
    this.said("Discarded; the piece is as it was");
  }

  #stop() {
    const { choice } = this;
    if (choice.job) {
      if (choice.job !== "asked") server.cancel(choice.job);
      choice.abort.abort();
    }
    this.choice = null;
  }

  /** Before something else is done: a variation that is ready is kept, one that is not is dropped. */
  settle() {
    if (!this.choice) return;
    if (this.choice.variations[this.choice.current]?.done) this.keep(false); else this.discard();
  }

  // --- editing ---------------------------------------------------------------------------------------------------

  undo() { this.#travel(() => this.history.undo(), "Undone"); }
  redo() { this.#travel(() => this.history.redo(), "Redone"); }

  #travel(step, word) {
    if (this.choice) { this.discard(); return; }
    const done = step();
    this.chosen.clear();
    this.changed("travelled");
    this.said(done ? `${word}: ${done.label}` : `Nothing to be ${word.toLowerCase()}`);
  }

  goTo(index) {
    this.settle();
    this.history.goTo(index);
    this.chosen.clear();
    this.changed("travelled");
  }

  choose(ids, add) {
    if (this.choice) return;
    if (!add) this.chosen.clear();
    for (const id of ids) if (add && ids.length === 1 && this.chosen.has(id)) this.chosen.delete(id); else this.chosen.add(id);
    this.changed("chosen");
  }

  chooseAll() { this.choose(this.history.strokes.map((s) => s.id)); this.setSpan(0, this.end); }

  /** The stroke after (or before) the selected one, for who cannot see or point. */
  chooseNext(by) {
    const all = this.history.strokes.filter(isNote);
    if (!all.length || this.choice) return;
    let at = all.findIndex((s) => this.chosen.has(s.id));
    if (at < 0) at = all.findIndex((s) => s.on >= this.playhead) - (by > 0 ? 1 : 0);
    const s = all[Math.min(Math.max(at + by, 0), all.length - 1)];
    this.choose([s.id]);
    this.changed("sought");
    this.said(`${nameOf(s.key)}, ${s.on.toFixed(2)} s, ${s.dur.toFixed(2)} s long, velocity ${s.vel}${s.by ? ", by the model" : ""}`);
  }

  get chosenStrokes() { return this.history.strokes.filter((s) => this.chosen.has(s.id)); }

  setSpan(a, b) {
    const [start, end] = [Math.max(0, toTick(Math.min(a, b))), toTick(Math.max(a, b))];
    this.span = end - start >= 0.01 ? [start, end] : null;
    this.changed("span");
  }

  #edit(label, change) {
    if (!this.chosen.size || this.choice) return;
    const { strokes, made } = edited(this.history.strokes, this.chosen, change);
    this.preview = null;
    this.chosen = new Set(made.map((s) => s.id));
    this.history.commit(label, strokes);
    this.changed("edited");
    this.said(label);
  }

  count(word = "note") {
    const notes = this.chosenStrokes.filter(isNote).length, n = notes || this.chosen.size;
    return `${n} ${notes ? word : "pedal press"}${n === 1 ? "" : notes ? "s" : "es"}`;
  }

  erase() { this.#edit(`Delete ${this.count()}`, () => null); }

  move(seconds, semitones, final = true) {
    const chosen = this.chosenStrokes, [by, up] = clampMove(chosen, toTick(seconds), semitones);
    const change = (s) => ({ on: s.on + by, key: isNote(s) ? s.key + up : s.key });
    const still = by === 0 && up === 0;
    if (!final || still || this.choice) {
      this.preview = still || this.choice ? null : edited(this.history.strokes, this.chosen, change).strokes;
      this.changed("dragged");
      return;
    }
    const how = [by && `${by > 0 ? "+" : "−"}${Math.abs(by).toFixed(2)} s`, up && `${up > 0 ? "+" : "−"}${Math.abs(up)} semitones`];
    this.#edit(`${by ? "Move" : "Transpose"} ${this.count()} by ${how.filter(Boolean).join(", ")}`, change);
  }

  setVelocity(change, label) {
    this.#edit(`${label} of ${this.count()}`, (s) => ({ vel: Math.min(127, Math.max(1, Math.round(change(s.vel)))) }));
  }

  copy() {
    const chosen = this.chosenStrokes;
    if (!chosen.length) return false;
    const first = chosen[0].on;
    this.clipboard = chosen.map((s) => ({ ...s, on: s.on - first }));
    this.said(`Copied ${this.count()}`);
    return true;
  }

  cut() { if (this.copy()) this.erase(); }

  paste() {
    if (!this.clipboard.length) { this.said("Nothing was copied"); return; }
    this.settle();
    const made = this.clipboard.map((s) => stroke(s.on + toTick(this.playhead), s.dur, s.key, s.vel, s.by));
    this.history.commit(`Paste ${made.length} at ${this.playhead.toFixed(1)} s`, tidy(this.history.strokes.concat(made)));
    this.chosen = new Set(made.map((s) => s.id));
    this.changed("edited");
  }

  // --- keeping ---------------------------------------------------------------------------------------------------

  plain() {
    const { span, playhead, second, choice } = this;
    const ready = choice?.variations.filter((v) => v.done).map(({ whole, outside, ...rest }) => rest) ?? [];
    const waiting = ready.length && choice.task !== "bridge" ? { ...choice, abort: null, job: null, variations: ready } : null;
    if (waiting) waiting.current = Math.min(Math.max(choice.current, 0), ready.length - 1);
    return { name: this.name, history: this.history.plain(), span, playhead, second, choice: waiting };
  }

  restore({ history, span, playhead, second, choice }) {
    this.history.restore(history);
    const waiting = choice ? [choice.past, choice.future, ...choice.variations.map((v) => v.strokes)].flat() : [];
    reserveIds(waiting.reduce((most, s) => Math.max(most, s.id), 0));
    Object.assign(this, { span, playhead, second, choice });
    this.chosen.clear();
    this.changed("opened");
  }
}
