// MIDI files as tracks of events: music/midi_file.py. Standard MIDI Files 1.0 (RP-001).

export const NOTE_OFF = 0x80, NOTE_ON = 0x90, CONTROL = 0xb0, PROGRAM = 0xc0, META = 0xff; // status, without the channel
export const TRACK_NAME = 0x03, TEMPO = 0x51, TIME_SIGNATURE = 0x58; // types of meta events
const SYSEX = 0xf0, CONTINUATION = 0xf7;
const ONE_DATA_BYTE = [PROGRAM, 0xd0];

/** The division of a file's header and the events of its tracks; throws a RangeError if the bytes are no MIDI file. */
export function parseMidi(bytes) {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), tracks = [];
  const nameAt = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (nameAt(0) !== "MThd") throw new RangeError("not a MIDI file");
  for (let at = 8 + data.getUint32(4); at + 8 <= bytes.length; at += 8 + data.getUint32(at + 4)) {
    const end = at + 8 + data.getUint32(at + 4);
    if (nameAt(at) === "MTrk") tracks.push(eventsOf(bytes.subarray(at + 8, end)));
  }
  return { division: data.getUint16(12), tracks };
}

/** Events {tick, status, first, second, data}; of a meta event `first` is its type and `data` its bytes. */
function eventsOf(bytes) {
  const events = [];
  let at = 0, tick = 0, running = 0;
  const next = () => {
    if (at >= bytes.length) throw new RangeError("the MIDI file is cut off");
    return bytes[at++];
  };
  const number = () => {
    let value = 0, byte;
    do value = value * 128 + ((byte = next()) & 127); while (byte & 128);
    return value;
  };
  const block = (length) => bytes.subarray(at, (at += length));
  while (at < bytes.length) {
    tick += number();
    const status = bytes[at] & 128 ? next() : running, kind = status & 0xf0;
    running = status < SYSEX ? status : 0;
    if (status === META) events.push({ tick, status, first: next(), data: block(number()) });
    else if (status === SYSEX || status === CONTINUATION) events.push({ tick, status, data: block(number()) });
    else if (kind < 0x80 || kind === SYSEX) throw new RangeError("the MIDI file is damaged");
    else events.push({ tick, status, first: next(), second: ONE_DATA_BYTE.includes(kind) ? 0 : next() });
  }
  return events;
}

/** The meta events of a type of all tracks by tick, those of one tick in the order of their tracks: [tick, data]. */
export function metas({ tracks }, type) {
  const found = tracks.flat().filter(({ status, first }) => status === META && first === type);
  return found.map(({ tick, data }) => [tick, data]).sort((a, b) => a[0] - b[0]);
}
