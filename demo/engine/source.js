// What writing must know of the file that a piece is from: where its notes and the messages of its pedals are.
//
// A piece that is from no file is taken as the file that it would be written as: music/splice.py.
import { InputError } from "./errors.js";
import { CONTROL, TEMPO, TIME_SIGNATURE, metas, parseMidi } from "./midi_file.js";
import { findParts, isDrums, isNoteOn } from "./midi_parts.js";
import { LONGEST_SECONDS } from "./performance.js";
import { TempoMap, rint } from "./tempo_map.js";
import { NUM_PEDALS } from "./tokens.js";

const PEDAL_CONTROLLERS = [64, 66, 67], RESET_CONTROLLERS = 121;
const BEAT_UNITS = 7; // 1 to 64
const FRAMES = 0x8000; // of a time division: it is in frames a second

export class Source {
  /**
   * `noteTicks`: the onsets of all notes of the file, other parts' too; `pedalTicks`: [tick, pedal] of the messages of its
   * piano's pedals; `division`: its header's; `namesTempo`: it has a tempo event at tick 0; `allParts` and `parts` of the
   * file, null where it is none; `json`: the piece's field `source`, null where the file would have to be written anew.
   */
  constructor({ tempoMap, noteTicks, pedalTicks, division = tempoMap.ticksPerQuarter, namesTempo = true, allParts = null,
    parts = null, json = null }) {
    Object.assign(this, { tempoMap, noteTicks, pedalTicks, division, namesTempo, allParts, parts, json });
  }

  get isInFrames() { return (this.division & FRAMES) !== 0; }

  /** The file on other ticks and another tempo map; it is not written here. */
  moved(tempoMap, move, fields = {}) {
    const pedalTicks = this.pedalTicks.map(([tick, pedal]) => [move(tick), pedal]);
    return new Source({ ...this, tempoMap, noteTicks: this.noteTicks.map(move), pedalTicks, json: null, ...fields });
  }

  /** The file `ticks` later, on another tempo map. */
  later(ticks, tempoMap) { return this.moved(tempoMap, (tick) => tick + ticks); }

  /** The file in ticks of a quarter, also where it is in frames a second. */
  inQuarters() {
    if (!this.isInFrames) return this;
    return new Source({ ...this, division: this.tempoMap.ticksPerQuarter, namesTempo: true });
  }

  /** The file with `factor` times as many ticks. */
  scaled(factor) {
    if (factor === 1) return this;
    const tempoMap = this.tempoMap.scaled(factor);
    return this.moved(tempoMap, (tick) => rint(tick * factor), { division: tempoMap.ticksPerQuarter });
  }

  /** The source with one more span, in seconds, whose pedals are the piece's alone. */
  withRewritten(start, end) {
    const json = this.json && { ...this.json, rewritten: [...this.json.rewritten, [start, end]] };
    return new Source({ ...this, json });
  }

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
  const tempoMap = performance.tempoMap.refined(), last = Array(NUM_PEDALS), presses = [];
  for (const [onset, duration, pedal] of performance.pedals) {
    const start = tempoMap.toTicks(onset), end = Math.max(tempoMap.toTicks(onset + duration), start + 1);
    const before = last[pedal];
    if (before?.start === start) {
      before.end = Math.max(before.end, end);
      continue;
    }
    if (before) before.end = Math.min(before.end, start);
    presses.push((last[pedal] = { start, end, pedal }));
  }
  return new Source({
    tempoMap,
    noteTicks: performance.notes.map(([onset]) => tempoMap.toTicks(onset)),
    pedalTicks: presses.flatMap(({ start, end, pedal }) => [[start, pedal], [end, pedal]]),
  });
}

/** The source of a piece's JSON value; `name` is that of its field. */
export function openSource(json, name) {
  try {
    return readSource(json);
  } catch {
    throw new InputError(`\`${name}.source\` must be as the server gave it`);
  }
}

function readSource({ file: base64, parts: chosen, into, rewritten }) {
  const file = parseMidi(Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0))), allParts = findParts(file);
  const [parts, taking] = [chosen, into].map((places) => allParts.filter(({ place }) => places.includes(place)));
  const isSpan = ([start, end]) => start >= 0 && start <= end && end <= LONGEST_SECONDS;
  if (!taking.length || !rewritten.every(isSpan)) throw new RangeError("damaged");
  const tempos = temposOf(file);
  return new Source({
    tempoMap: tempoMapOf(file, tempos), division: file.division, namesTempo: tempos.some(([tick]) => tick === 0),
    noteTicks: file.tracks.flatMap((track) => track.filter(isNoteOn).map(({ tick }) => tick)),
    pedalTicks: pedalTicksOf(file, allParts, parts), allParts, parts,
    json: { file: base64, parts: parts.map(({ place }) => place), into: taking.map(({ place }) => place), rewritten },
  });
}

function temposOf(file) {
  const events = metas(file, TEMPO).filter(([, data]) => data.length === 3);
  return events.map(([tick, [high, middle, low]]) => [tick, (high << 16) | (middle << 8) | low]);
}

/** The tempo map of all tracks; of a division in frames a second one of a quarter note a second. */
function tempoMapOf(file, tempos) {
  const { division } = file, frames = 256 - (division >> 8), dropped = frames === 29; // 30 frames in 1.001 s
  if (division & FRAMES) return new TempoMap((dropped ? 30 : frames) * (division & 255), [[0, dropped ? 1001000 : 1000000]]);
  const signs = metas(file, TIME_SIGNATURE).filter(([, data]) => data.length > 1 && data[0] && data[1] < BEAT_UNITS);
  return TempoMap.ofEvents(division, tempos, signs.map(([tick, [top, power]]) => [tick, top, 1 << power]));
}

/** The messages of the pedals of some parts: [tick, pedal]; see `pedals_of` of music/midi_parts.py. */
function pedalTicksOf({ tracks }, allParts, parts) {
  const others = allParts.filter((part) => !parts.includes(part)), otherPlaces = others.map(({ place }) => place);
  const [ofAll, ofParts] = [allParts, parts].map((some) => new Set(some.map(({ channel }) => channel)));
  const isFree = (channel) => !ofAll.has(channel) && !isDrums({ channel });
  const isOwn = (channel, place) =>
    (ofParts.has(channel) && !otherPlaces.includes(place)) || (others.every(isDrums) && isFree(channel));
  return tracks.flatMap((track, number) => track.flatMap(({ tick, status, first }) => {
    if ((status & 0xf0) !== CONTROL || !isOwn(status & 15, number * 16 + (status & 15))) return [];
    return PEDAL_CONTROLLERS.flatMap((controller, pedal) =>
      (first === controller || first === RESET_CONTROLLERS ? [[tick, pedal]] : []));
  }));
}
