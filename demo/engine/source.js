// What writing must know of the file that a piece is from: where its notes and the messages of its pedals are.
//
// A piece that is from no file is taken as the file that it would be written as: music/splice.py.
import { InputError } from "./errors.js";
import { END_OF_TRACK, MidiFile, TRACK_NAME, makeTrack, meta, metreEvent, parseMidi, tempoEvent } from "./midi_file.js";
import { findParts, pedalsOf } from "./midi_parts.js";
import { FRAMES, noteTable, tempoMapOf, temposOf } from "./midi_tables.js";
import { LONGEST_SECONDS } from "./performance.js";
import { rint } from "./tempo_map.js";
import { checkCountable } from "./ticks.js";
import { NUM_PEDALS } from "./tokens.js";

export class Source {
  /**
   * `noteTicks`: the onsets of all notes of the file, other parts' too; `pedalTicks`: [tick, pedal] of the messages of its
   * piano's pedals; `division`: its header's; `namesTempo`: it has a tempo event at tick 0; `allParts` and `parts` of the
   * file, null where it is none; `file`: null where it would have to be written anew; `into`: the parts that take new
   * notes; `rewritten`: spans in seconds whose pedals are the piece's alone.
   */
  constructor({ tempoMap, noteTicks, pedalTicks, division = tempoMap.ticksPerQuarter, namesTempo = true, allParts = null,
    parts = null, file = null, into = parts, rewritten = [] }) {
    Object.assign(this, { tempoMap, noteTicks, pedalTicks, division, namesTempo, allParts, parts, file, into, rewritten });
  }

  /** The source of a file, read as some of its parts. */
  static ofFile(file, { allParts = findParts(file), parts, into = parts, rewritten = [] }) {
    return new Source({
      tempoMap: tempoMapOf(file), division: file.division, namesTempo: temposOf(file).some(([tick]) => tick === 0),
      noteTicks: noteTable(file).map(({ start }) => start),
      pedalTicks: pedalsOf(file, allParts, parts).map(({ tick, pedal }) => [tick, pedal]), allParts, parts, file, into, rewritten,
    });
  }

  /** A piece's field `source`, null without a file; `openSource` is the inverse. */
  get json() {
    if (!this.file) return null;
    const [parts, into] = [this.parts, this.into].map((some) => some.map(({ place }) => place));
    return { file: toBase64(this.file.toBytes()), parts, into, rewritten: this.rewritten };
  }

  get isInFrames() { return (this.division & FRAMES) !== 0; }

  /** The file on other ticks and another tempo map; it is not written here. */
  moved(tempoMap, move, fields = {}) {
    const pedalTicks = this.pedalTicks.map(([tick, pedal]) => [move(tick), pedal]);
    return new Source({ ...this, tempoMap, noteTicks: this.noteTicks.map(move), pedalTicks, file: null, ...fields });
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
    return new Source({ ...this, rewritten: [...this.rewritten, [start, end]] });
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
  return Source.ofFile(file, { allParts, parts, into: taking, rewritten });
}

function toBase64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

/** The tempi and time signatures of a tempo map by tick: [tick, message]. */
export function tempoEvents({ tempos, timeSignatures }) {
  const events = tempos.map(([tick, tempo]) => [tick, tempoEvent(tempo)]);
  events.push(...timeSignatures.map(([tick, top, bottom]) => [tick, metreEvent(top, bottom)]));
  return events.sort((a, b) => a[0] - b[0]);
}

/** A file of one track without notes, on ticks of at most 1 ms, with the tempo map of a performance. */
export function newSource({ tempoMap }) {
  const events = [[0, meta(TRACK_NAME, new TextEncoder().encode("Piano"))], ...tempoEvents(tempoMap.refined())];
  events.push([events.at(-1)[0], meta(END_OF_TRACK, [])]);
  checkCountable(events.map(([tick]) => tick));
  const piano = [{ track: 0, channel: 0, place: 0, name: "Piano", program: 0, notes: 0 }];
  return Source.ofFile(new MidiFile(0, tempoMap.refined().ticksPerQuarter, [makeTrack(events)]), { allParts: piano, parts: piano });
}
