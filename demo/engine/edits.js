// Edits of a file's tracks: events taken out and messages put in; all bytes between them stay as they are: music/edits.py.
import { END_OF_TRACK, META, SYSEX, concatenated, deltaTime, isEnd } from "./midi_file.js";

export const BEFORE = -1, AFTER = 1; // the events of the file at the same tick

export class Edits {
  #removed;
  #added;

  constructor(file) {
    this.file = file;
    this.#removed = file.tracks.map(() => new Set());
    this.#added = file.tracks.map(() => []);
  }

  /** Take an event out; place -1 is none. */
  remove(track, event) { if (event >= 0) this.#removed[track].add(event); }

  /** Put a message in; those of one tick and side stand there in the order in which they are put in. */
  add(track, tick, side, ...message) { this.#added[track].push({ tick, side, message }); }

  /** Whether a message is put into a track at a tick. */
  adds(track, tick, message) { return this.#added[track].some((each) => each.tick === tick && String(each.message) === String(message)); }

  /** The tick of the last message that is put into each track, -1 where none is. */
  get last() { return this.#added.map((rows) => rows.reduce((last, { tick }) => Math.max(last, tick), -1)); }

  /** The bytes of the edited file. */
  applied() {
    return this.file.toBytes(this.file.tracks.map((track, i) => edited(track, this.#removed[i], this.#added[i])));
  }
}

function edited(track, removed, added) {
  if (!removed.size && !added.length) return track.bytes;
  const writer = new TrackWriter(track), waiting = [...added].sort((a, b) => a.tick - b.tick || a.side - b.side).values();
  const { events } = track, count = events.length - (events.length && isEnd(events.at(-1)) ? 1 : 0);
  let next = waiting.next();
  const putIn = (isDue) => {
    for (; !next.done && isDue(next.value); next = waiting.next()) writer.message(next.value.tick, next.value.message);
  };
  for (let i = 0; i < count; i++) {
    const { tick } = events[i];
    putIn((each) => each.tick < tick || (each.tick === tick && each.side === BEFORE));
    if (removed.has(i)) writer.isEdge = true; else writer.event(events[i]);
  }
  putIn(() => true);
  writer.message(added.reduce((end, { tick }) => Math.max(end, tick), track.end), [META, END_OF_TRACK, 0]);
  return concatenated(writer.parts);
}

/** The bytes of a track: its own events, and messages that are put in. */
class TrackWriter {
  parts = [];
  tick = 0;
  isEdge = true; // the next event that speaks to a channel needs its status byte: what was before it is not the file's

  constructor(track) { this.track = track; }

  message(tick, bytes) {
    this.parts.push(deltaTime(tick - this.tick), bytes);
    this.tick = tick;
    this.isEdge = true;
  }

  event(event) {
    const own = this.track.bytes.subarray(event.start, event.end), bytes = this.isEdge ? this.track.message(event) : own;
    this.parts.push(deltaTime(event.tick - this.tick), bytes);
    this.tick = event.tick;
    if (event.status < SYSEX) this.isEdge = false;
  }
}
