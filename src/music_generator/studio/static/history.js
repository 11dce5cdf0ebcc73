// What was done, as steps that can be taken back: each step holds only the strokes it took away and those it brought.
import { reserveIds, sorted } from "./piece.js";

export class History {
  constructor() { this.clear(); }

  clear() { Object.assign(this, { strokes: [], steps: [], at: 0, facts: { name: "", tempo_map: null } }); }

  /** Make `after` the piece; `facts` (name, tempo map) may change with it, `detail` is kept beside the label. */
  commit(label, after, { facts = this.facts, detail = null } = {}) {
    const was = new Set(this.strokes), is = new Set(after);
    const removed = this.strokes.filter((s) => !is.has(s)), added = after.filter((s) => !was.has(s));
    this.steps.length = this.at;
    this.steps.push({ label, removed, added, facts: [this.facts, facts], detail });
    Object.assign(this, { strokes: after, at: this.steps.length, facts });
  }

  get canUndo() { return this.at > 0; }
  get canRedo() { return this.at < this.steps.length; }

  undo() {
    if (!this.canUndo) return null;
    const step = this.steps[--this.at];
    this.#swap(step.added, step.removed, step.facts[0]);
    return step;
  }

  redo() {
    if (!this.canRedo) return null;
    const step = this.steps[this.at++];
    this.#swap(step.removed, step.added, step.facts[1]);
    return step;
  }

  /** To just after step number `index` (-1: before all). */
  goTo(index) {
    while (this.at > index + 1) this.undo();
    while (this.at < index + 1) this.redo();
  }

  /** The piece as it was before a step. */
  before(index) {
    const here = this.at;
    this.goTo(index - 1);
    const { strokes, facts } = this;
    this.goTo(here - 1);
    return { strokes, facts };
  }

  #swap(out, back, facts) {
    const gone = new Set(out.map((s) => s.id));
    this.strokes = sorted(this.strokes.filter((s) => !gone.has(s.id)).concat(back));
    this.facts = facts;
  }

  /** What is stored, and the way back. */
  plain() { return { strokes: this.strokes, steps: this.steps, at: this.at, facts: this.facts }; }

  restore(plain) {
    Object.assign(this, plain);
    const all = [plain.strokes, ...plain.steps.flatMap((step) => [step.removed, step.added])];
    reserveIds(all.flat().reduce((most, s) => Math.max(most, s.id), 0));
  }
}
