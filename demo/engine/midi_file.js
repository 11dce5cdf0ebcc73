// MIDI files as tracks of events with their own bytes: music/midi_file.py. Standard MIDI Files 1.0 (RP-001).
import { InputError, MidiError } from "./errors.js";

export const NOTE_OFF = 0x80, NOTE_ON = 0x90, CONTROL = 0xb0, PROGRAM = 0xc0; // status, without the channel
export const SYSEX = 0xf0, CONTINUATION = 0xf7, META = 0xff;
export const TRACK_NAME = 0x03, END_OF_TRACK = 0x2f, TEMPO = 0x51, TIME_SIGNATURE = 0x58; // types of meta events
const LARGEST_BYTES = 8_500_000, MOST_TRACKS = 1000, LONGEST_DELTA = 2 ** 28 - 1, MOST_WIDTH = 4;
const CUT_OFF = "the MIDI file is cut off or damaged; export or download it again";

/** A chunk: `kind` is its name; a chunk that is no track has no events. */
class Track {
  /** An event is {tick, status, first, second, data, start, end}: `first` and `second` are its data bytes; of a meta event
   * `first` is its type and `data` its bytes; `start` and `end` are its place in `bytes`, after its delta time. */
  constructor(kind, bytes, events) {
    this.kind = kind;
    this.bytes = bytes;
    this.events = events;
  }

  get end() { return this.events.at(-1)?.tick ?? 0; }

  /** The bytes of an event, with its status byte. */
  message({ start, end, status }) {
    const own = this.bytes.subarray(start, end);
    return own[0] & 128 ? own : Uint8Array.of(status, ...own);
  }

  get usesRunningStatus() { return this.events.some(({ start }) => !(this.bytes[start] & 128)); }
}

export class MidiFile {
  constructor(form, division, chunks, faults = []) {
    this.form = form;
    this.division = division;
    this.chunks = chunks;
    this.faults = faults;
    this.tracks = chunks.filter(({ kind }) => kind === "MTrk");
  }

  get end() { return this.tracks.reduce((end, track) => Math.max(end, track.end), 0); }

  /** The file with other tracks in the places of its own, further ones behind them; and with another division or form. */
  withTracks(tracks, { division = this.division, form = this.form } = {}) {
    const given = tracks.values(), chunks = this.chunks.map((each) => (each.kind === "MTrk" ? given.next().value : each));
    return new MidiFile(form, division, [...chunks, ...given], this.faults);
  }

  /** The bytes of the file, with other bytes of its tracks if they are given; `parseMidi` is the inverse. */
  toBytes(tracks = this.tracks.map(({ bytes }) => bytes)) {
    const given = tracks.values(), parts = [textBytes("MThd"), number(6, 4)];
    for (const value of [this.form, this.tracks.length, this.division]) parts.push(number(value, 2));
    for (const { kind, bytes } of this.chunks) {
      const data = kind === "MTrk" ? given.next().value : bytes;
      parts.push(textBytes(kind), number(data.length, 4), data);
    }
    return concatenated(parts);
  }
}

const textBytes = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const number = (value, width) => Uint8Array.from({ length: width }, (_, i) => value >>> (8 * (width - 1 - i)));

export function concatenated(parts) {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) { joined.set(part, at); at += part.length; }
  return joined;
}

/** A number as seven bits a byte. */
export function variableLength(value) {
  const bytes = [value & 127];
  for (let rest = value >>> 7; rest; rest >>>= 7) bytes.unshift((rest & 127) | 128);
  return bytes;
}

/** The bytes of a delta time. */
export function deltaTime(ticks) {
  if (ticks > LONGEST_DELTA) {
    throw new InputError("the performance lasts more ticks than MIDI can count; give it a coarser `tempo_map`");
  }
  return variableLength(ticks);
}

/** The track of events [tick, message], which are in their order and end with an end of track. */
export function makeTrack(events, runningStatus = false) {
  const parts = [];
  let now = 0, before = 0;
  for (const [tick, message] of events) {
    parts.push(deltaTime(tick - now), runningStatus && message[0] === before ? message.subarray(1) : message);
    [now, before] = [tick, message[0] < SYSEX ? message[0] : 0];
  }
  return parseTrack("MTrk", concatenated(parts))[0];
}

export const meta = (type, data) => Uint8Array.of(META, type, ...variableLength(data.length), ...data);
export const tempoEvent = (tempo) => meta(TEMPO, number(tempo, 3));
export const metreEvent = (top, bottom) => meta(TIME_SIGNATURE, [top, Math.log2(bottom), 24, 8]);

/** The file of some bytes. What leaves no doubt about the events is mended and named in `faults`. */
export function parseMidi(bytes) {
  if (!bytes.length) throw new MidiError("the file is empty");
  if (bytes.length > LARGEST_BYTES) throw new MidiError(`it is larger than ${LARGEST_BYTES / 1e6} MB, which no performance is; split it`);
  const faults = [], inRiff = textAt(bytes, 0) === "RIFF" ? textAt(bytes, 0, 64).indexOf("MThd") : -1;
  if (inRiff >= 0) {
    bytes = bytes.subarray(inRiff);
    faults.push("it is a MIDI file within a RIFF file");
  }
  if (textAt(bytes, 0) !== "MThd") throw new MidiError("not a MIDI file (it does not begin with MThd)");
  if (bytes.length < 14) throw new MidiError("the MIDI file is cut off in its header; export or download it again");
  const [form, announced, division] = [8, 10, 12].map((at) => numberAt(bytes, at, 2)), { found, isComplete } = chunksOf(bytes, faults);
  const chunks = found.map(([kind, data]) => {
    const [track, fault] = parseTrack(kind, data);
    faults.push(...fault);
    return track;
  });
  const file = new MidiFile(form, division, chunks, faults), { length } = file.tracks, last = file.tracks.at(-1);
  if ((announced && !last) || !(isComplete || (length >= announced && isEnded(last)))) throw new MidiError(CUT_OFF);
  if (length !== announced) faults.push(`its header announces ${announced} tracks, not the ${length} that it has`);
  return file;
}

const textAt = (bytes, at, length = 4) => String.fromCharCode(...bytes.subarray(at, at + length));
const numberAt = (bytes, at, width) => bytes.subarray(at, at + width).reduce((value, byte) => value * 256 + byte, 0);
export const isEnd = ({ status, first }) => status === META && first === END_OF_TRACK;
const isEnded = (track) => Boolean(track?.events.length && isEnd(track.events.at(-1)));

/** The name and the bytes of each chunk after the header, and whether all bytes are there. */
function chunksOf(bytes, faults) {
  const found = [], { length } = bytes;
  let at = 8 + numberAt(bytes, 4, 4);
  while (at + 8 <= length) {
    const kind = textAt(bytes, at), begin = at + 8;
    at = begin + numberAt(bytes, at + 4, 4);
    if (kind === "MTrk" && at !== length && !mayBeChunk(bytes, at)) {
      const following = findTrack(bytes, begin);
      if (following >= 0 || at < length) {
        at = following < 0 ? length : following;
        faults.push(`the length of track ${found.length + 1} is wrong`);
      }
    }
    found.push([kind, bytes.subarray(begin, at)]);
    if (found.length > MOST_TRACKS) throw new MidiError(`it has over ${MOST_TRACKS} tracks; export it with fewer`);
  }
  return { found, isComplete: at === length };
}

/** Whether a chunk begins here, or did before the file was cut off. */
function mayBeChunk(bytes, at) {
  const kind = textAt(bytes, at);
  return at + 8 <= bytes.length ? /^[0-9A-Za-z]{4}$/.test(kind) : "MTrk".startsWith(kind);
}

function findTrack(bytes, from) {
  for (let at = from; at + 4 <= bytes.length; at++) if (textAt(bytes, at) === "MTrk") return at;
  return -1;
}

/** The track of a chunk's bytes, and what was wrong with it. @returns {[Track, string[]]} */
function parseTrack(kind, bytes) {
  const events = [];
  let at = 0, tick = 0, running = 0;
  while (kind === "MTrk" && at < bytes.length) {
    const event = eventAt(bytes, at, running);
    if (event.end > bytes.length || !event.status) return endedTrack(kind, bytes, events);
    tick += event.delta;
    events.push({ ...event, tick });
    if (event.status < SYSEX) running = event.status;
    at = event.end;
  }
  return [new Track(kind, bytes, events), []];
}

/** A track that is broken after some events: what follows its end is left out. @returns {[Track, string[]]} */
function endedTrack(kind, bytes, events) {
  const last = events.findIndex(isEnd);
  if (last < 0) throw new MidiError(CUT_OFF);
  const { end } = events[last];
  return [new Track(kind, bytes.subarray(0, end), events.slice(0, last + 1)), [
    `${bytes.length - end} bytes after the end of a track are left out`,
  ]];
}

function eventAt(bytes, at, running) {
  const [delta, width] = lengthAt(bytes, at), start = at + width, byte = bytes[start] ?? 0, own = byte & 128 ? 1 : 0;
  const status = own ? byte : running, event = { delta, status, first: bytes[start + own] ?? 0, second: bytes[start + own + 1] ?? 0, start };
  if (status === META || status === SYSEX || status === CONTINUATION) {
    const from = start + 1 + (status === META ? 1 : 0), [size, sizeWidth] = lengthAt(bytes, from), end = from + sizeWidth + size;
    return { ...event, end, data: bytes.subarray(from + sizeWidth, end) };
  }
  return { ...event, end: start + own + dataBytes(status) };
}

function dataBytes(status) {
  if (status < SYSEX) return (status & 0xe0) === PROGRAM ? 1 : 2;
  return { 0xf1: 1, 0xf2: 2, 0xf3: 1 }[status] ?? 0;
}

/** The number of variable length at a place, and its width in bytes. */
function lengthAt(bytes, at) {
  let value = 0, width = 0, byte = 128;
  while (byte & 128 && width < MOST_WIDTH) {
    byte = bytes[at + width++] ?? 0;
    value = value * 128 + (byte & 127);
  }
  return [value, width];
}

/** The meta events of a type of all tracks by tick, those of one tick in the order of their tracks: [tick, data]. */
export function metas({ tracks }, type) {
  const found = tracks.flatMap(({ events }) => events.filter(({ status, first }) => status === META && first === type));
  return found.map(({ tick, data }) => [tick, data]).sort((a, b) => a[0] - b[0]);
}
