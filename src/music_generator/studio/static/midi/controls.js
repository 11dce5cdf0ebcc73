// The controls of playing in: record, metronome, trade phrases, MIDI devices.
import { $, onClick } from "../panels.js";
import * as store from "../store.js";
import { Clocks } from "./clocks.js";
import { MidiDialog } from "./dialog.js";
import { Metronome } from "./metronome.js";
import { Recording } from "./recording.js";
import { Trade } from "./trade.js";

/**
 * Connect the controls. @param {PlayingPage} page
 * Returns {record(), trade(), changed()}: the actions of the buttons, and what to call after each change of the piece.
 */
export function listenToPlaying(page) { return new Playing(page); }

class Playing {
  pedals = [0, 0, 0]; // where they are, 0 to 1

  /** @param {PlayingPage} page */
  constructor({ studio, player, roll, stop, settings, announce }) {
    this.studio = studio;
    this.player = player;
    this.roll = roll;
    this.stop = stop;
    this.settings = settings;
    this.announce = announce;
    this.clocks = new Clocks(player);
    this.metronome = new Metronome(player);
    const { clocks, metronome } = this;
    this.dialog = new MidiDialog({ player, clocks, stop, announce, played: (...message) => this.#receive(...message) });
    player.played = (played) => this.#played(played);
    onClick("record", () => this.record());
    onClick("trade", () => this.trade());
    onClick("metronome", () => this.#turnMetronome(!metronome.isOn));
    this.#turnMetronome(store.setting("metronome") ?? false, false);
  }

  get restSeconds() { return this.dialog.restSeconds; }

  /** Play what a MIDI device sends. An instrument that sounds what the page plays does not get its own notes back.
   * @param {PianoMessage} message @param {number} time @param {MIDIInput} input */
  #receive(message, time, input) {
    const { player } = this, sounded = player.port?.name !== input.name;
    if (message.kind === "strike") player.strike(message.key, message.velocity, time, sounded);
    if (message.kind === "release") player.release(message.key, time);
    if (message.kind === "pedal") player.pedal(message.pedal, message.value, time, sounded);
  }

  /** @param {Played} played */
  #played(played) {
    if (played.kind === "pedal") this.pedals[played.pedal] = played.value;
    this.studio.recording?.played(played);
  }

  record() { this.#toggle(Recording); }
  trade() { this.#toggle(Trade); }

  /** @param {typeof Recording | typeof Trade} Session */
  #toggle(Session) {
    const { studio } = this, wasOn = studio.recording instanceof Session;
    studio.recording?.stop();
    if (!wasOn) new Session(this).start();
  }

  /** @param {boolean} isOn */
  #turnMetronome(isOn, isTold = true) {
    const { beats } = this.studio.time;
    this.metronome.turn(isOn, beats, this.studio.end);
    $("metronome").setAttribute("aria-pressed", String(isOn));
    store.setSetting("metronome", isOn);
    if (isTold) this.announce(isOn ? "Metronome on" : "Metronome off");
  }

  changed() { this.metronome.set(this.studio.time.beats, this.studio.end); }

  /** Show whether something is recorded. */
  sessionChanged() {
    const kind = this.studio.recording?.kind;
    for (const each of ["record", "trade"]) $(each).setAttribute("aria-pressed", String(each === kind));
    if (kind) document.documentElement.dataset.recording = kind; else delete document.documentElement.dataset.recording;
  }
}
