// The tracks of the piece's file: which of them is the piece; the others are shown faintly, heard, and exported untouched.
import { $, make } from "./panels.js";
import { HIGHEST, LOWEST, partName, toJson } from "./piece.js";
import * as server from "./server.js";
import * as store from "./store.js";

export class Tracks {
  /** @type {Source | null} */ #source = null; // the file whose parts are shown
  /** @type {Part[]} */ parts = [];

  /** @param {Studio} studio @param {{roll: Roll, player: Player, run(action: () => Promise<void>): void}} page */
  constructor(studio, { roll, player, run }) {
    this.studio = studio;
    this.roll = roll;
    this.player = player;
    this.run = run;
    $("hear-others").checked = store.setting("hear others") ?? true;
    $("hear-others").addEventListener("change", () => {
      store.setSetting("hear others", $("hear-others").checked);
      this.#play();
    });
  }

  /** Show the parts of the present file; the page calls this after each change. */
  async show() {
    const { history } = this.studio, { source } = history.facts;
    if (source === this.#source) return;
    this.#source = source;
    const answer = source ? await server.parts(toJson([], history.facts)).catch(() => null) : null;
    if (source !== this.#source) return; // another file meanwhile
    this.parts = answer?.parts ?? [];
    $("tracks").hidden = this.parts.length < 2;
    $("tracks-cut").textContent = answer?.cut == null ? "" : `of the others, what comes after ${Math.round(answer.cut)} s is not shown or heard`;
    $("track-list").replaceChildren(...this.parts.map((part) => this.#item(part)));
    this.roll.setOthers(this.#others().filter((note) => note.key >= LOWEST && note.key <= HIGHEST && !note.isDrum));
    this.#play();
  }

  /** @param {Part} part */
  #item(part) {
    const { track, channel, count, drums, chosen } = part;
    const kind = drums ? "drums" : `channel ${channel}`, notes = `${count} note${count === 1 ? "" : "s"}`;
    const button = make("button", { type: "button", disabled: drums, title: drums ? "Drums are no piano" : "Work on this track",
      onclick: () => this.run(() => this.studio.chooseTrack(track)) },
      make("b", { textContent: partName(part) }), make("small", { textContent: `${kind} · ${notes}` }));
    button.setAttribute("aria-pressed", String(chosen));
    return make("li", {}, button);
  }

  /** The notes of the parts that are not the piece, in the order of their onsets. @returns {OtherNote[]} */
  #others() {
    const notes = this.parts.flatMap(({ notes: rows, program, drums }) => rows.map(([onset, duration, key, velocity]) =>
      ({ id: 0, onset, duration, key, velocity, program, isDrum: drums, generated: false, other: true })));
    return notes.sort((a, b) => a.onset - b.onset);
  }

  #play() { this.player.others = $("hear-others").checked ? this.#others() : []; }
}
