// MIDI messages of a piano, to and from what they mean. A press of a key or a pedal is down or up; all are on channel 1.
import { HIGHEST, isNote, LOWEST } from "../piece.js";

const NOTE_OFF = 0x80, NOTE_ON = 0x90, CONTROL = 0xb0;
const PEDAL_CONTROLLERS = [64, 66, 67]; // sustain, sostenuto, una corda: MIDI 1.0, table III
const ALL_SOUND_OFF = 120, ALL_NOTES_OFF = 123;

/**
 * Return what a message means: {kind: "strike", key, velocity}, {kind: "release", key}, {kind: "pedal", pedal, value} with
 * a value of 0 to 1, {kind: "silence"}, or null for a message that is none of these. Messages of all channels count.
 * @param {Uint8Array | number[]} message @returns {PianoMessage | {kind: "silence"} | null}
 */
export function readMessage([status, first, second]) {
  const type = status & 0xf0, isKey = first >= LOWEST && first <= HIGHEST;
  if (type === NOTE_ON && isKey && second > 0) return { kind: "strike", key: first, velocity: second };
  if ((type === NOTE_OFF || type === NOTE_ON) && isKey) return { kind: "release", key: first };
  if (type !== CONTROL) return null;
  const pedal = PEDAL_CONTROLLERS.indexOf(first);
  if (pedal >= 0) return { kind: "pedal", pedal, value: second / 127 };
  return first === ALL_SOUND_OFF || first === ALL_NOTES_OFF ? { kind: "silence" } : null;
}

/** @param {number} key @param {number} velocity */
export const noteOn = (key, velocity) => [NOTE_ON, key, velocity];
/** @param {number} key */
export const noteOff = (key) => [NOTE_OFF, key, 64];
/** @param {number} pedal @param {number} depth */
export const pedalTo = (pedal, depth) => [CONTROL, PEDAL_CONTROLLERS[pedal], depth];
export const ALL_OFF = [...PEDAL_CONTROLLERS.map((number) => [CONTROL, number, 0]), [CONTROL, ALL_NOTES_OFF, 0]];

/** The messages with which an event of a piece begins and ends. @param {MusicEvent} event */
export const beginOf = ({ key, velocity }) => (isNote({ key }) ? noteOn(key, velocity) : pedalTo(key, velocity));
/** @param {MusicEvent} event */
export const endOf = ({ key }) => (isNote({ key }) ? noteOff(key) : pedalTo(key, 0));
