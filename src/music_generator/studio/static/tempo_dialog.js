// The dialog of tempo and bars: typed or tapped. Every note keeps its second; the bars move.
import { FASTEST, SLOWEST, steadyMap, tappedTempo } from "./beats.js";
import { $, onClick } from "./panels.js";

const REST = 2.5; // seconds without a tap, after which tapping begins again

export class TempoDialog {
  /** @type {{time: number, at: number | null}[]} */ #taps = [];

  /** `now()`: the second of the piece that sounds, or null.
   * @param {Studio} studio @param {{now(): number | null, tempoSet(): void}} page */
  constructor(studio, page) {
    this.studio = studio;
    this.page = page;
    onClick("tempo", () => this.#open());
    onClick("tap", () => this.#tap());
    onClick("set-tempo", () => this.#set());
    onClick("file-tempo", () => this.#restore());
  }

  #open() {
    const { time, playhead } = this.studio, [top, bottom] = time.beats.metreAt(playhead);
    this.#taps = [];
    $("tempo-value").value = String(Math.round(time.beats.tempoAt(playhead) * 100) / 100);
    $("metre-top").value = String(top);
    $("metre-bottom").value = String(bottom);
    $("downbeat").value = playhead.toFixed(2);
    $("file-tempo").disabled = !this.#original;
    $("tempo-text").textContent = "";
    $("tempo-box").showModal();
  }

  /** The tempo map that the piece had first. */
  get #original() { return this.studio.history.steps.find((step) => step.facts[1].tempo_map)?.facts[1].tempo_map ?? null; }

  #tap() {
    const now = performance.now() / 1000, taps = this.#taps;
    if (taps.length && now - taps[taps.length - 1].time > REST) taps.length = 0;
    taps.push({ time: now, at: this.page.now() });
    const tempo = tappedTempo(taps.map((tap) => tap.time), 1 / Number($("metre-bottom").value));
    if (tempo === null) { $("tempo-text").textContent = "Go on tapping …"; return; }
    $("tempo-value").value = Math.min(FASTEST, Math.max(SLOWEST, tempo)).toFixed(1);
    const [{ at: first }] = taps;
    if (first !== null) $("downbeat").value = first.toFixed(2); // the first tap begins a bar
    $("tempo-text").textContent = `${taps.length} taps`;
  }

  #set() {
    const tempo = Number($("tempo-value").value), top = Number($("metre-top").value), downbeat = Number($("downbeat").value);
    const bottom = Number($("metre-bottom").value);
    if (!(tempo >= SLOWEST && tempo <= FASTEST)) { $("tempo-text").textContent = `A tempo is ${SLOWEST} to ${FASTEST} quarters per minute`; return; }
    if (!(Number.isInteger(top) && top >= 1 && top <= 32)) { $("tempo-text").textContent = "A bar has 1 to 32 beats"; return; }
    if (!(downbeat >= 0 && $("downbeat").value)) { $("tempo-text").textContent = "A bar begins at 0 seconds or later"; return; }
    this.studio.setFacts(`Tempo ${tempo}, ${top}/${bottom}`, { tempo_map: steadyMap(tempo, [top, bottom], downbeat) });
    this.page.tempoSet();
    $("tempo-box").close();
  }

  #restore() {
    this.studio.setFacts("The file's tempo", { tempo_map: this.#original });
    $("tempo-box").close();
  }
}
