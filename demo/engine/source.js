// The file that a performance was read from, and into which it is written: `MidiSource` of music/midi_parts.py.
import { InputError } from "./errors.js";
import { parseMidi } from "./midi_file.js";
import { findParts, pedalsOf } from "./midi_parts.js";
import { tempoMapOf } from "./midi_tables.js";
import { LONGEST_SECONDS } from "./performance.js";
import { NUM_PEDALS } from "./tokens.js";

export class Source {
  /** `parts` of all parts of the file are the performance; `into`: those that take new notes; `rewritten`: spans in seconds
   * whose pedals are the performance's alone. */
  constructor(file, { allParts = findParts(file), parts, into = parts, rewritten = [] }) {
    this.file = file;
    this.allParts = allParts;
    this.parts = parts;
    this.into = into;
    this.rewritten = rewritten;
  }

  get tempoMap() { return tempoMapOf(this.file); }

  /** A piece's field `source`; `openSource` is the inverse. */
  get json() {
    const [parts, into] = [this.parts, this.into].map((some) => some.map(({ place }) => place));
    return { file: toBase64(this.file.toBytes()), parts, into, rewritten: this.rewritten };
  }

  withFile(file) { return new Source(file, this); }

  /** The source with one more span, in seconds, whose pedals are the piece's alone. */
  withRewritten(start, end) { return new Source(this.file, { ...this, rewritten: [...this.rewritten, [start, end]] }); }

  /** The second of the first message of each pedal at or after a second; infinity without one. */
  firstMessages(second) {
    const from = this.tempoMap.firstTickFrom(second), first = Array(NUM_PEDALS).fill(Infinity);
    for (const { tick, pedal } of pedalsOf(this.file, this.allParts, this.parts)) {
      if (tick >= from) first[pedal] = Math.min(first[pedal], this.tempoMap.toSeconds(tick));
    }
    return first;
  }
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
  tempoMapOf(file); // refuses impossible tempi
  return new Source(file, { allParts, parts, into: taking, rewritten });
}

function toBase64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}
