// Editing: what the user does to the selected events. Each edit is a step of the history; the same edit again, shortly
// after, is the same step. While the mouse moves, a preview is shown, which ends with the gesture.
import {
  clampMove, copies, edited, extent, moved, quantised, resized, SHORTEST, splitAt, withVelocity,
} from "./editing.js";
import { clock, isNote, keyName, makeEvent, tidy, toTick } from "./piece.js";

const AGAIN_TIME = 1500; // milliseconds between two edits that are one step
/** @param {number} number */
const signed = (number, digits = 0) => `${number > 0 ? "+" : "−"}${Math.abs(number).toFixed(digits)}`;

export class Editor {
  /** @type {{events: MusicEvent[], seconds: number}} */
  clipboard = { events: [], seconds: 0 };
  lastLength = 0.5; // seconds: of the note that is drawn next
  lastVelocity = 72;
  /** The newest edit that may go on. @type {{kind: string | null, at: number, amounts: number[], time: number, selected: Set<number>} | null} */
  #last = null;

  /** @param {Studio} studio */
  constructor(studio) { this.studio = studio; }

  // --- steps -----------------------------------------------------------------------------------------------------

  /** Change the selected events. `amounts` are summed up while the edit of a `kind` goes on; `labelOf` gets the sums.
   * @param {string | null} kind @param {number[]} amounts @param {(...sums: number[]) => string} labelOf @param {Change} change */
  #edit(kind, amounts, labelOf, change) {
    const { studio } = this;
    if (!studio.selected.size || studio.choice) return;
    const { events, made } = edited(studio.history.events, studio.selected, change);
    const last = this.#goesOn(kind), sums = last ? amounts.map((amount, i) => amount + last.amounts[i]) : amounts;
    const label = labelOf(...sums);
    this.commit(label, events, made, last !== null);
    this.#last = { kind, amounts: sums, at: studio.history.at, time: performance.now(), selected: studio.selected };
  }

  /** The newest edit, if one of a kind goes on with it. @param {string | null} kind */
  #goesOn(kind) {
    const { studio } = this, last = this.#last;
    const goesOn = kind !== null && last?.kind === kind && last.at === studio.history.at && last.selected === studio.selected
      && performance.now() - last.time < AGAIN_TIME;
    return goesOn ? last : null;
  }

  /** Make `events` the piece and select some of them, if they are there: of two at one onset one stays.
   * @param {string} label @param {MusicEvent[]} events @param {MusicEvent[]} selected */
  commit(label, events, selected, again = false) {
    const { studio } = this, ids = new Set(selected.map((e) => e.id));
    this.#last = null;
    studio.preview = null;
    studio.selected = new Set(events.filter((e) => ids.has(e.id)).map((e) => e.id));
    studio.history.commit(label, events, { again });
    studio.changed("edited");
    studio.announce(label);
  }

  /** Show the selected events changed, without a step of the history; with null, as they are. @param {Change | null} change */
  preview(change) {
    const { studio } = this;
    if (studio.choice) return;
    if (!change) { studio.setPreview(null); return; }
    const { events, made } = edited(studio.history.events, studio.selected, change);
    studio.setPreview({ events, selected: made });
  }

  // --- edits -----------------------------------------------------------------------------------------------------

  erase() { this.#edit(null, [], () => `Delete ${this.studio.selectionText}`, () => null); }

  /** What a move by some seconds and semitones comes to within the limits of the piano and the piece.
   * @param {number} seconds @param {number} semitones */
  limitedMove(seconds, semitones) { return clampMove(this.studio.selectedEvents, toTick(seconds), semitones); }

  /** @param {number} seconds @param {number} semitones @param {string | null} kind */
  move(seconds, semitones, kind = null) {
    const [by, up] = this.limitedMove(seconds, semitones);
    if (!by && !up) { this.preview(null); return; }
    /** @param {number} sum @param {number} keys */
    const label = (sum, keys) => {
      const distance = [Math.abs(sum) > 1e-9 && `${signed(sum, 2)} s`, keys && `${signed(keys)} semitone${Math.abs(keys) === 1 ? "" : "s"}`].filter(Boolean);
      return `${by ? "Move" : "Transpose"} ${this.studio.selectionText} by ${distance.join(", ") || "0"}`;
    };
    this.#edit(kind, [by, up], label, moved(by, up));
  }

  /** Copies of the selection, moved: drawn while it is dragged, then kept. @param {number} seconds @param {number} semitones */
  previewCopies(seconds, semitones) {
    const { studio } = this, [by, up] = this.limitedMove(seconds, semitones);
    const made = copies(studio.selectedEvents, by, up);
    studio.setPreview({ events: tidy(studio.history.events.concat(made)), selected: made });
  }

  /** @param {number} seconds @param {number} semitones */
  copyTo(seconds, semitones) {
    const { studio } = this, [by, up] = this.limitedMove(seconds, semitones);
    if (!by && !up) { this.preview(null); return; }
    const made = copies(studio.selectedEvents, by, up);
    this.commit(`Copy ${studio.selectionText}`, tidy(studio.history.events.concat(made)), made);
  }

  /** Repeat the selection after itself: at the next place of the grid, if there is one. */
  duplicate() {
    const { studio } = this, selected = studio.selectedEvents;
    if (!selected.length || studio.choice) return;
    const [start, end] = extent(selected), by = Math.max(toTick(studio.time.ceil(end) - studio.time.floor(start)), 0.05);
    const made = copies(selected, by);
    this.commit(`Duplicate ${studio.selectionText}`, tidy(studio.history.events.concat(made)), made);
    studio.changed("focused");
  }

  /** @param {number} seconds @param {Edge} edge @param {string | null} kind */
  resize(seconds, edge = "end", kind = null) {
    if (!toTick(seconds)) { this.preview(null); return; }
    this.#edit(kind, [seconds], (sum) => `Resize ${this.studio.selectionText} by ${signed(sum, 2)} s`, resized(toTick(seconds), edge));
    const [only, another] = this.studio.selectedEvents;
    if (only && !another) this.lastLength = only.duration;
  }

  /** Split the selected events at the playhead. */
  split() {
    const { studio } = this, time = studio.playhead;
    if (!studio.selectedEvents.some((e) => e.onset + SHORTEST < time && e.onset + e.duration - SHORTEST > time)) {
      studio.announce("Split: move the playhead into a selected note first");
      return;
    }
    this.#edit(null, [], () => `Split ${studio.selectionText} at ${clock(time, 2)}`, splitAt(time));
  }

  quantise() {
    const { studio } = this, { time } = studio;
    if (!time.step) { studio.announce("Quantise: choose a grid to snap to first"); return; }
    this.#edit(null, [], () => `Quantise ${studio.selectionText} to ${time.stepName}`, quantised((seconds) => toTick(time.snap(seconds))));
  }

  /** Raise or lower the velocities of the selection, which keeps its dynamics. @param {number} by @param {string | null} kind */
  addVelocity(by, kind = "velocity") {
    this.#edit(kind, [by], (sum) => `Velocity of ${this.studio.selectionText} ${signed(sum)}`, withVelocity((velocity) => velocity + by));
  }

  /** @param {number} value */
  setVelocity(value) {
    this.lastVelocity = value;
    this.#edit("set velocity", [], () => `Velocity of ${this.studio.selectionText} ${value}`, withVelocity(() => value));
  }

  /** Give some notes the velocities of a map from id to velocity, whether or not they are selected. @param {Map<number, number>} velocities */
  paintVelocities(velocities) {
    const { studio } = this;
    if (!velocities.size) { studio.setPreview(null); return; }
    const { events, made } = edited(studio.history.events, new Set(velocities.keys()), (e) => ({ velocity: velocities.get(e.id) }));
    const count = made.length;
    this.commit(`Draw the velocity of ${count} note${count === 1 ? "" : "s"}`, events, studio.selected.size ? made : []);
  }

  // --- drawing ---------------------------------------------------------------------------------------------------

  /** Show a note or a pedal press while it is drawn. @param {MusicEvent} event */
  previewDrawn(event) {
    const { studio } = this;
    studio.setPreview({ events: tidy(studio.history.events.concat(event)), selected: [event] });
  }

  /** @param {MusicEvent} event */
  draw(event) {
    if (this.studio.choice) return;
    if (isNote(event)) this.lastLength = event.duration;
    const label = isNote(event) ? `Draw ${keyName(event.key)}` : `Draw the ${keyName(event.key)}`;
    this.commit(label, tidy(this.studio.history.events.concat(event)), [event]);
  }

  // --- clipboard -------------------------------------------------------------------------------------------------

  /** Return false if nothing is selected. */
  copy() {
    const { studio } = this, events = studio.selectedEvents;
    if (!events.length) return false;
    const [start, end] = extent(events), begin = studio.time.floor(start);
    this.clipboard = { events: events.map((e) => ({ ...e, onset: e.onset - begin })), seconds: studio.time.ceil(end) - begin };
    studio.announce(`Copied ${studio.selectionText}`);
    return true;
  }

  cut() { if (this.copy()) this.erase(); }

  /** Paste at the playhead, which then moves to the end of what was pasted. */
  paste() {
    const { studio } = this, { events, seconds } = this.clipboard;
    if (!events.length) { studio.announce("Nothing was copied"); return; }
    studio.settle();
    const at = toTick(studio.time.snap(studio.playhead));
    const pasted = events.map((e) => makeEvent(Math.max(0, e.onset + at), e.duration, e.key, e.velocity, e.generated));
    this.commit(`Paste ${pasted.length} at ${at.toFixed(1)} s`, tidy(studio.history.events.concat(pasted)), pasted);
    studio.playhead = at + seconds;
    studio.changed("moved");
  }
}
