// A piano performance: notes and pedal presses in seconds: music/performance.py.
//
// An event is a row [onset, duration, pitch, velocity] or [onset, duration, pedal, depth]; rows are never changed.
import { InputError } from "./errors.js";
import { TempoMap } from "./tempo_map.js";

export const LOWEST_PITCH = 21, HIGHEST_PITCH = 108, LONGEST_SECONDS = 24 * 3600;

const byOnset = (a, b) => a[0] - b[0] || a[2] - b[2] || b[1] - a[1];

/** The events by onset, then key, each ended where its key is struck again; of two at one onset the longer stays. */
function withoutOverlaps(events) {
  const found = [], last = new Map();
  for (const event of events.toSorted ? events.toSorted(byOnset) : [...events].sort(byOnset)) {
    const before = last.get(event[2]);
    if (before !== undefined) {
      const [onset, duration, ...rest] = found[before], room = event[0] - onset;
      if (room === 0) continue;
      if (duration > room) found[before] = [onset, room, ...rest];
    }
    last.set(event[2], found.length);
    found.push(event);
  }
  return found;
}

function checked(events, key, [low, high], force) {
  for (const [onset, duration, ...numbers] of events) {
    if (!Number.isFinite(onset) || !Number.isFinite(duration)) {
      throw new InputError("onsets and durations must be finite numbers of seconds");
    }
    if (onset < 0 || duration <= 0) throw new InputError("onsets must be at least 0 and durations above 0 seconds");
    if (numbers[0] < low || numbers[0] > high) throw new InputError(`\`${key}\` must be ${low} to ${high}`);
    if (numbers[1] < 1 || numbers[1] > 127) throw new InputError(`\`${force}\` must be 1 to 127`);
  }
  return withoutOverlaps(events);
}

export class Performance {
  /** `source`: of a piece that is from a file, see source.js; else null. */
  constructor(notes = [], pedals = [], tempoMap = new TempoMap(), source = null) {
    this.notes = checked(notes, "pitch", [LOWEST_PITCH, HIGHEST_PITCH], "velocity");
    this.pedals = checked(pedals, "pedal", [0, 2], "depth");
    this.tempoMap = tempoMap;
    this.source = source;
  }

  /** A copy with other notes, pedals, tempoMap or source. */
  with({ notes = this.notes, pedals = this.pedals, tempoMap = this.tempoMap, source = this.source }) {
    return new Performance(notes, pedals, tempoMap, source);
  }

  get hasEvents() { return this.notes.length + this.pedals.length > 0; }

  get end() { return [...this.notes, ...this.pedals].reduce((end, [onset, duration]) => Math.max(end, onset + duration), 0); }

  /** The events whose onset lies in [start, end) seconds. */
  between(start, end = Infinity) {
    const within = ([onset]) => onset >= start && onset < end;
    return this.with({ notes: this.notes.filter(within), pedals: this.pedals.filter(within) });
  }
}

/** The first onset of all events, in seconds; infinity without one. */
export const firstOnset = ({ notes, pedals }) => Math.min(notes[0]?.[0] ?? Infinity, pedals[0]?.[0] ?? Infinity);

/** All events of some parts, with the first part's tempo map and source. */
export function join(parts) {
  return parts[0].with({ notes: parts.flatMap((part) => part.notes), pedals: parts.flatMap((part) => part.pedals) });
}
