// MIDI files as the studio's server reads and writes them: music/midi.py, studio/parts.py.
import { InputError, MidiError } from "./errors.js";
import { parseMidi } from "./midi_file.js";
import { chooseParts, findParts, isDrums, notesOf, partText, pedalsOf, placeOf, selector } from "./midi_parts.js";
import { noteTable, pressTable, tempoMapOf } from "./midi_tables.js";
import { HIGHEST_PITCH, LONGEST_SECONDS, LOWEST_PITCH, Performance } from "./performance.js";
import { Source } from "./source.js";
import { splice } from "./splice.js";
import { rint } from "./tempo_map.js";
import { NOTE_FIELDS, PEDAL_FIELDS, inSeconds, onPiano } from "./ticks.js";

const DECIMALS = 1e4; // of a second, in rows that are shown and played only
const MOST_NAMED = 3;

/** The piece of a file's bytes, remarks about it, and its parts; `track` chooses which of them are the piece. */
export function readPiece(bytes, track, maxOtherNotes) {
  const file = parseMidi(bytes);
  if (file.form > 1 && file.tracks.length > 1) throw new MidiError(`MIDI type ${file.form} is not supported; export it as type 0 or 1`);
  const allParts = findParts(file), parts = chooseParts(allParts, track), tempoMap = tempoMapOf(file);
  const all = notesOf(file, parts), notes = onPiano(all), offPiano = all.length - notes.length;
  if (!notes.length) throw new MidiError(`it has no notes of a piano${textOfLeftOut(allParts, parts, offPiano)}`);
  const source = new Source(file, { allParts, parts }), presses = pressTable(pedalsOf(file, allParts, parts), file);
  const made = new Performance(inSeconds(notes, NOTE_FIELDS, tempoMap), inSeconds(presses, PEDAL_FIELDS, tempoMap), tempoMap, source);
  const remarks = [...file.faults, ...(offPiano ? [`left out ${textOfOffPiano(offPiano)}`] : [])];
  const piece = { notes: made.notes, pedals: made.pedals, tempo_map: tempoMap.toJson(), source: source.json };
  return { piece, remarks, ...partsToJson(source, maxOtherNotes) };
}

const counted = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
const listed = (items) => (items.length > 1 ? `${items.slice(0, -1).join(", ")} and ${items.at(-1)}` : items.join());
const sumOfNotes = (parts) => parts.reduce((sum, { notes }) => sum + notes, 0);

const textOfOffPiano = (number) => `${counted(number, "note")} outside the piano's keys ${LOWEST_PITCH}-${HIGHEST_PITCH}`;

/** What of a file is not in the piece, after a colon; empty if everything is. */
function textOfLeftOut(allParts, parts, offPiano) {
  const others = allParts.filter((part) => !parts.includes(part) && !isDrums(part)), rest = others.slice(MOST_NAMED);
  const counts = others.slice(0, MOST_NAMED).map((part) => `${counted(part.notes, "note")} of ${partText(part)}`);
  if (rest.length) counts.push(`${counted(sumOfNotes(rest), "note")} of ${rest.length} other parts`);
  const drums = sumOfNotes(allParts.filter(isDrums));
  if (drums) counts.push(counted(drums, "drum note"));
  if (offPiano) counts.push(textOfOffPiano(offPiano));
  return counts.length ? `: left out ${listed(counts)}` : "";
}

/** The parts of a file with the notes of those that are not the piece; of over `most` the first ones, up to second `cut`. */
export function partsToJson(source, most) {
  if (!source) return { parts: [], cut: null };
  const { file, allParts, parts, tempoMap } = source, chosen = parts.map(({ place }) => place);
  const others = noteTable(file).filter((note) => !chosen.includes(placeOf(note))).sort((a, b) => a.start - b.start);
  const cut = others.length > most ? tempoMap.toSeconds(others[most].start) : null, rows = new Map();
  for (const note of others.slice(0, most)) {
    const [onset, end] = [tempoMap.toSeconds(note.start), tempoMap.toSeconds(note.end)];
    if (!rows.has(placeOf(note))) rows.set(placeOf(note), []);
    rows.get(placeOf(note)).push([rounded(onset), rounded(end - onset), note.pitch, note.velocity]);
  }
  return { parts: allParts.map((part) => partToJson(part, rows.get(part.place) ?? [], parts.includes(part))), cut };
}

const rounded = (seconds) => rint(seconds * DECIMALS) / DECIMALS;

function partToJson(part, notes, chosen) {
  const { name, channel, program, notes: count } = part;
  return { track: selector(part), name, channel: channel + 1, program, drums: isDrums(part), count, chosen, notes };
}

/** The bytes of the MIDI file of a performance. */
export function writeMidi(performance) {
  if (performance.end >= LONGEST_SECONDS) {
    throw new InputError(`the performance lasts ${(performance.end / 3600).toFixed(1)} hours; MIDI is written up to 24 hours`);
  }
  return splice(performance);
}
