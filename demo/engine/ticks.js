// Events on ticks: the notes and presses of a file in seconds, and those of a performance on the file's ticks: music/ticks.py.
//
// An event in ticks is {start, end, key, force}: pitch and velocity, or pedal and depth.
import { InputError, MidiError } from "./errors.js";
import { HIGHEST_PITCH, LONGEST_SECONDS, LOWEST_PITCH } from "./performance.js";

const LAST_TICK = 2 ** 31 - 1; // programs count in int32

export const onPiano = (notes) => notes.filter(({ pitch }) => pitch >= LOWEST_PITCH && pitch <= HIGHEST_PITCH);

/** Notes or presses of a file as events of a performance, by onset and key; `fields` name their key and force. */
export function inSeconds(table, fields, tempoMap) {
  const [key, force] = fields;
  const rows = [...table].sort((a, b) => a.start - b.start || a[key] - b[key]);
  return rows.map((row) => {
    const [onset, end] = [tempoMap.toSeconds(row.start), tempoMap.toSeconds(row.end)];
    if (!(end < LONGEST_SECONDS)) throw new MidiError("it lasts longer than 24 hours, which no performance does");
    return [onset, end - onset, row[key], row[force]];
  });
}
export const NOTE_FIELDS = ["pitch", "velocity"], PEDAL_FIELDS = ["pedal", "depth"];

/** Events of a performance in ticks, by key and start; of events of one key that fall on one tick the longest stays. */
export function onTicks(events, tempoMap) {
  const rows = events.map(([onset, duration, key, force]) => {
    const start = tempoMap.toTicks(onset);
    return { start, end: Math.max(tempoMap.toTicks(onset + duration), start + 1), key, force };
  });
  rows.sort((a, b) => a.key - b.key || a.start - b.start || b.end - a.end);
  const isAgain = (a, b) => a?.key === b?.key;
  const found = rows.filter((row, i) => !(isAgain(rows[i - 1], row) && rows[i - 1].start === row.start));
  found.forEach((row, i) => { if (isAgain(row, found[i + 1])) row.end = Math.min(row.end, found[i + 1].start); });
  checkCountable(found.map(({ end }) => end));
  return found;
}

export function checkCountable(ticks) {
  if (ticks.some((tick) => tick > LAST_TICK)) {
    throw new InputError("the performance lasts more ticks than MIDI can count; give it a coarser `tempo_map`");
  }
}

/** A number for a key and a tick; those of events in their order rise. */
export const place = (tick, key) => key * 2 ** 32 + tick;
export const placeOf = ({ start, key }) => place(start, key);
