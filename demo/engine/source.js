// What writing must know of the file that a piece is from: where its notes and pedal messages are.
//
// A piece that is from no file is taken as the file that it would be written as: music/splice.py.
import { InputError } from "./errors.js";
import { rint } from "./tempo_map.js";
import { NUM_PEDALS } from "./tokens.js";

export class Source {
  /**
   * `noteTicks`: the onsets of all notes of the file, other parts' too; `pedalTicks`: [tick, pedal] of the messages of its
   * piano's pedals; `namesTempo`: it has a tempo event at tick 0; `json`: what `begin` says of the file, or null.
   */
  constructor({ tempoMap, noteTicks, pedalTicks, namesTempo = true, json = null }) {
    Object.assign(this, { tempoMap, noteTicks, pedalTicks, namesTempo, json });
  }

  /** The file with `factor` times as many ticks. */
  scaled(factor) { return factor === 1 ? this : this.#moved(this.tempoMap.scaled(factor), (tick) => rint(tick * factor)); }

  #moved(tempoMap, move) {
    const pedalTicks = this.pedalTicks.map(([tick, pedal]) => [move(tick), pedal]);
    return new Source({ ...this, tempoMap, noteTicks: this.noteTicks.map(move), pedalTicks });
  }

  /** The file `ticks` later, on another tempo map. */
  later(ticks, tempoMap) { return this.#moved(tempoMap, (tick) => tick + ticks); }

  /** The second of the first message of each pedal at or after a second; infinity without one. */
  firstMessages(second) {
    const from = this.tempoMap.firstTickFrom(second), first = Array(NUM_PEDALS).fill(Infinity);
    for (const [tick, pedal] of this.pedalTicks) {
      if (tick >= from) first[pedal] = Math.min(first[pedal], this.tempoMap.toSeconds(tick));
    }
    return first;
  }
}

/** The source of a performance; of one without, the file that it would be written as. */
export function sourceOf(performance) {
  if (performance.source) return performance.source;
  const tempoMap = performance.tempoMap.refined();
  const noteTicks = performance.notes.map(([onset]) => tempoMap.toTicks(onset)), last = Array(NUM_PEDALS), pedalTicks = [];
  for (const [onset, duration, pedal] of performance.pedals) {
    const start = tempoMap.toTicks(onset), end = Math.max(tempoMap.toTicks(onset + duration), start + 1);
    const before = last[pedal];
    if (before?.start === start) {
      before.end = Math.max(before.end, end);
      continue;
    }
    if (before) before.end = Math.min(before.end, start);
    pedalTicks.push((last[pedal] = { start, end, pedal }));
  }
  return new Source({
    tempoMap, noteTicks, pedalTicks: pedalTicks.flatMap(({ start, end, pedal }) => [[start, pedal], [end, pedal]]),
  });
}

/** The source of a piece's JSON value; `name` is that of its field. */
export function openSource(_value, name) {
  throw new InputError(`\`${name}.source\` cannot be read here: leave it out`);
}
