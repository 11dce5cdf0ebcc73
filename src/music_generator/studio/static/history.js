// The history of a piece: each step holds only the events that it removed and those that it added.
import { reserveIds, sorted } from "./piece.js";

export class History {
  /** @type {MusicEvent[]} */ events = [];
  /** @type {Step[]} */ steps = [];
  at = 0; // the number of steps that are done; those after it can be redone
  /** @type {Facts} */ facts = { name: "", tempo_map: null, source: null };

  /**
   * Make `after` the piece; `facts` (name, tempo map, file) may change with it, `detail` is kept beside the label.
   * With `again` the newest step is replaced by one that does both: a key held down is one step.
   * @param {string} label
   * @param {MusicEvent[]} after
   * @param {{facts?: Facts, detail?: Detail | null, again?: boolean}} options
   */
  commit(label, after, { facts = this.facts, detail = null, again = false } = {}) {
    const last = again && this.at ? this.steps[this.at - 1] : null;
    const base = last ? this.#eventsBefore(last) : this.events, was = new Set(base), is = new Set(after);
    const removed = base.filter((e) => !is.has(e)), added = after.filter((e) => !was.has(e));
    this.steps.length = this.at - (last ? 1 : 0);
    this.steps.push({ label, removed, added, facts: [last?.facts[0] ?? this.facts, facts], detail });
    Object.assign(this, { events: after, at: this.steps.length, facts });
  }

  /** @param {Step} step */
  #eventsBefore({ removed, added }) {
    const gone = new Set(added.map((e) => e.id));
    return this.events.filter((e) => !gone.has(e.id)).concat(removed);
  }

  get canUndo() { return this.at > 0; }
  get canRedo() { return this.at < this.steps.length; }
  get done() { return this.steps.slice(0, this.at); }

  /** Undo a step and return it, or null if there is none. */
  undo() {
    if (!this.canUndo) return null;
    const step = this.steps[--this.at];
    this.#replace(step.added, step.removed, step.facts[0]);
    return step;
  }

  /** Redo a step and return it, or null if there is none. */
  redo() {
    if (!this.canRedo) return null;
    const step = this.steps[this.at++];
    this.#replace(step.removed, step.added, step.facts[1]);
    return step;
  }

  /** Go to just after step number `index`; -1 is before all of them. @param {number} index */
  goTo(index) {
    while (this.at > index + 1) this.undo();
    while (this.at < index + 1) this.redo();
  }

  /** The piece as it was before step number `index`. @param {number} index */
  before(index) {
    const { at } = this;
    this.goTo(index - 1);
    const { events, facts } = this;
    this.goTo(at - 1);
    return { events, facts };
  }

  /** The newest step that the model wrote and that is not undone: its detail and its `index`; or null.
   * @returns {Detail & {index: number} | null} */
  lastWritten() {
    const index = this.done.findLastIndex((step) => step.detail);
    return index < 0 ? null : { .../** @type {Detail} */ (this.steps[index].detail), index };
  }

  /** @param {MusicEvent[]} removed @param {MusicEvent[]} added @param {Facts} facts */
  #replace(removed, added, facts) {
    const gone = new Set(removed.map((e) => e.id));
    this.events = sorted(this.events.filter((e) => !gone.has(e.id)).concat(added));
    this.facts = facts;
  }

  /** The state to store; `restore` is the inverse. @returns {StoredHistory} */
  plain() { return { events: this.events, steps: this.steps, at: this.at, facts: this.facts }; }

  /** @param {StoredHistory} plain */
  restore(plain) {
    Object.assign(this, plain);
    reserveIds([plain.events, ...plain.steps.flatMap((step) => [step.removed, step.added])].flat());
  }
}
