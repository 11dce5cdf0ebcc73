// Writing: the variations that arrive from the model, and choosing one of them.
import { before, countNotes, from, fromJson, reserveIds, shifted, tidy, toJson } from "./piece.js";
import * as server from "./server.js";
import { notesBetween } from "./voices.js";

/** @type {Record<Task, string>} */
const LABELS = { compose: "Compose", continue: "Continue", "lead-in": "Lead in", infill: "Infill", bridge: "Bridge" };
const RUNNING = { abort: null, job: null, writing: false }; // of a choice that is not being written
/** What is known of the new music before it begins. @type {Pick<Choice, "start" | "end" | "shift" | "past" | "future">} */
const UNKNOWN = { start: 0, end: 0, shift: 0, past: [], future: [] };

/** The facts of a piece that the server changes as it writes. @param {Omit<Facts, "name">} piece */
export const factsOf = ({ tempo_map, source }) => ({ tempo_map, source });

export class Writer {
  /** What is being written, or what the user chooses from; null at other times. @type {Choice | null} */
  choice = null;

  /** @param {Studio} studio */
  constructor(studio) { this.studio = studio; }

  // --- writing ---------------------------------------------------------------------------------------------------

  /** Write new music as it arrives. A single variation is kept at its end. `kept`: notes that stay.
   * @param {Task} task @param {Settings} settings @param {MusicEvent[]} kept */
  async write(task, settings, kept = []) {
    const { studio } = this;
    studio.settle();
    if (task === "bridge" && !studio.second) { studio.failed("to bridge, choose a second piece: drop a MIDI file on “Second piece”"); return; }
    if (task === "infill" && !studio.span) { studio.failed("to infill, select a span first: drag across the roll or its ruler"); return; }
    const { events: base, facts } = studio.history, { span, second } = studio;
    /** @type {Choice} */
    const choice = { task, settings, span, second, kept, base, facts, current: 0, original: false, variations: [], ...RUNNING, ...UNKNOWN };
    this.choice = choice;
    studio.selected.clear();
    studio.changed("requested");
    await this.#receiveAll(choice, settings);
  }

  /** Write more variations beside those that are there, with the seeds after theirs. */
  async more() {
    const { choice, studio } = this;
    if (!choice || choice.writing) return;
    const seed = Math.max(...choice.variations.map((variation) => variation.seed)) + 1;
    Object.assign(choice, { current: choice.variations.length, original: false });
    studio.changed("requested");
    await this.#receiveAll(choice, { ...choice.settings, seed });
  }

  /** @param {Choice} choice @param {Settings} settings */
  async #receiveAll(choice, settings) {
    const { studio } = this, first = choice.variations.length;
    const abort = new AbortController();
    Object.assign(choice, { abort, writing: true });
    let failure = null;
    try {
      for await (const message of server.write(this.#request(choice, settings), abort.signal)) {
        if (this.choice === choice) this.#receive(message, choice, first);
      }
    } catch (error) { failure = error; }
    if (this.choice !== choice) return; // discarded meanwhile
    this.#finish(choice);
    if (failure) studio.failed(server.messageOf(failure));
  }

  /** @param {Choice} choice @param {Settings} settings */
  #request({ task, base, facts, span, second, kept }, settings) {
    /** @type {Record<string, unknown>} */
    const request = { task, ...settings, name: facts.name || "untitled" };
    if (task !== "compose") request.piece = toJson(base, facts);
    if (task === "bridge" && second) Object.assign(request, { second: second.piece, second_name: second.name });
    if (task === "infill" && span) [request.from, request.to] = span;
    if (kept.length) request.keep = kept.map((e) => [e.onset, e.duration, e.key, e.velocity]);
    return request;
  }

  /** @param {Message} message @param {Choice} choice @param {number} first */
  #receive(message, choice, first) {
    if (message.type === "job") choice.job = message.job;
    if (message.type === "begin") this.#begin(message, choice, first);
    if (message.type === "events") {
      const events = fromJson(message, true), variation = choice.variations[first + message.variation];
      variation.events.push(...events);
      if (!choice.original && variation === choice.variations[choice.current]) this.studio.streamed(events);
    }
    if (message.type === "variation") {
      Object.assign(choice.variations[first + message.variation], { events: fromJson(message, true), done: true });
      this.studio.changed("variation");
    }
  }

  /** @param {BeginMessage} message @param {Choice} choice @param {number} first */
  #begin(message, choice, first) {
    const { start, end, future_shift: shift, seeds, commands, no_command: noCommand } = message;
    if (!first) setAround(Object.assign(choice, { start, end, shift, facts: { ...choice.facts, ...factsOf(message) } }));
    choice.variations.push(...seeds.map((seed, i) => ({ seed, command: commands[i], noCommand, events: [], done: false })));
    if (!first) this.studio.changed("begun");
  }

  /** @param {Choice} choice */
  #finish(choice) {
    const { studio } = this;
    Object.assign(choice, RUNNING);
    choice.variations = choice.variations.filter((variation) => variation.done);
    choice.current = Math.min(choice.current, choice.variations.length - 1);
    if (!choice.variations.length) this.choice = null;
    studio.changed("written");
    if (this.choice && choice.variations.length === 1 && choice.settings.variations === 1) this.keep();
    else if (this.choice) studio.announce(`${choice.variations.length} variations: choose one and keep it`);
  }

  // --- choosing --------------------------------------------------------------------------------------------------

  /** The piece with a variation in its place; with the past and the future alone while it is being written.
   * @param {Choice} choice */
  #shownPiece(choice) {
    const variation = choice.variations[choice.current];
    if (!variation || choice.original) return choice.base;
    const { past, kept, future } = choice;
    if (!variation.done) return variation.around ??= past.concat(kept, future);
    return variation.whole ??= tidy(past.concat(kept, variation.events, future));
  }

  /** The piece as it is shown. */
  get events() { return this.choice ? this.#shownPiece(this.choice) : this.studio.history.events; }
  get taskLabel() { return this.choice ? LABELS[this.choice.task] : ""; }

  /** Show the next variation, or with -1 the previous one. @param {number} by */
  next(by) {
    const { choice } = this, count = choice?.variations.length;
    if (choice && count) this.show((choice.current + by + count) % count);
  }

  /** @param {number} index */
  show(index) {
    const { choice, studio } = this, variation = choice?.variations[index];
    if (!choice || !variation) return;
    Object.assign(choice, { current: index, original: false });
    studio.changed("switched");
    studio.announce(`Variation ${index + 1} of ${choice.variations.length}, ${countNotes(variation.events)} notes`);
  }

  /** Show the piece as it was, or the variation again. */
  compare() {
    const { choice, studio } = this;
    if (!choice?.variations.length) return;
    choice.original = !choice.original;
    studio.changed("switched");
    studio.announce(choice.original ? "The original" : `Variation ${choice.current + 1}`);
  }

  /** Make the shown variation the piece; `select` its span, so that it can be written again. */
  keep(select = true) {
    const { choice, studio } = this, variation = choice?.variations[choice.current];
    if (!choice || !variation) return;
    if (!variation.done) { studio.announce("This variation is still being written"); return; }
    if (choice.original) { studio.announce("This is the original: choose a variation, or discard them"); return; }
    const whole = this.events, { start, end, task } = choice, isNew = task === "compose";
    const others = this.plain();
    this.close();
    const { command, noCommand, seed } = variation, label = this.#labelOf(choice);
    const facts = isNew ? { ...choice.facts, name: `composed-${seed}` } : choice.facts;
    studio.history.commit(label, whole, { facts, detail: { task, command, noCommand, seed, span: [start, end], choice: others } });
    if (select) studio.span = isNew ? null : [start, end];
    studio.changed("kept");
    const rest = choice.variations.length - 1;
    studio.announce(`Kept: ${label}, seed ${seed}${rest ? `; the history has the other ${rest}` : ""}`);
  }

  /** @param {Choice} choice */
  #labelOf({ task, start, end, settings, kept }) {
    const where = task === "compose" ? settings.seconds ?? Math.round(end - start) : `${start.toFixed(1)}–${end.toFixed(1)}`;
    return `${kept.length ? "Rewrite" : LABELS[task]} ${where} s`;
  }

  /** Show the variations of a step of the history again, to choose another one. @param {number} index */
  reopen(index) {
    const { studio } = this, plain = studio.history.steps[index].detail?.choice;
    if (!plain) return;
    studio.settle();
    studio.history.goTo(index - 1);
    this.restore(plain);
    studio.selected.clear();
    studio.changed("begun");
    studio.changed("written");
    studio.announce(`${plain.variations.length} variations: choose one and keep it`);
  }

  discard() {
    const { choice, studio } = this;
    if (!choice) return;
    this.close();
    studio.changed("discarded");
    studio.announce("Discarded; the piece is as it was");
  }

  close() {
    const { choice } = this;
    if (choice?.writing && choice.job) server.cancel(choice.job);
    choice?.abort?.abort();
    this.choice = null;
  }

  /** Before another action: keep the shown variation if it is complete, else discard it. */
  settle() {
    const { choice } = this;
    if (!choice) return;
    if (choice.variations[choice.current]?.done && !choice.original) this.keep(false); else this.discard();
  }

  // --- storing ---------------------------------------------------------------------------------------------------

  /** The variations that are complete, without the piece around them; `restore` is the inverse. Null if there are none.
   * @returns {StoredChoice | null} */
  plain() {
    const { choice } = this;
    const variations = choice?.variations.filter((each) => each.done).map(({ whole, around, ...rest }) => rest) ?? [];
    if (!choice || !variations.length) return null;
    const { base, past, future, ...rest } = choice, current = Math.min(Math.max(choice.current, 0), variations.length - 1);
    return { ...rest, ...RUNNING, original: false, variations, current };
  }

  /** Show stored variations in the present piece. @param {StoredChoice | null} plain */
  restore(plain) {
    if (!plain) { this.choice = null; return; }
    reserveIds(plain.variations.flatMap((each) => each.events));
    const variations = plain.variations.map((each) => ({ ...each }));
    this.choice = setAround({ ...plain, variations, base: this.studio.history.events, past: [], future: [] });
  }
}

/** Set the past and the future of the new music, which all variations share. Returns the choice. @param {Choice} choice */
function setAround(choice) {
  const { task, base, start, end, shift, second } = choice;
  /** @type {Record<Task, () => [past: MusicEvent[], future: MusicEvent[]]>} */
  const around = {
    compose: () => [[], []],
    continue: () => [before(base, start), []],
    "lead-in": () => [[], shifted(base, shift)],
    infill: () => [before(base, start), from(base, end)],
    bridge: () => [base, second ? shifted(fromJson(second.piece), shift) : []],
  };
  const [past, future] = around[task]();
  return Object.assign(choice, { past, future });
}

/** The notes of the piece that the user has selected in a span.
 * @param {MusicEvent[]} events @param {Set<number>} selected @param {Span} span */
export const selectedNotes = (events, selected, span) => notesBetween(events, span).filter((e) => selected.has(e.id));
