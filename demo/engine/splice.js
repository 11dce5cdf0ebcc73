// A performance back into the MIDI file that it was read from: what is the same keeps its events: music/splice.py.
import { Edits } from "./edits.js";
import { END_OF_TRACK, MidiFile, TRACK_NAME, makeTrack, meta, metreEvent, tempoEvent } from "./midi_file.js";
import { notesOf, pedalsOf } from "./midi_parts.js";
import { pressTable } from "./midi_tables.js";
import { Source } from "./source.js";
import { endUnendedNotes, spliceNotes } from "./splice_notes.js";
import { endUnendedPresses, splicePedals } from "./splice_pedals.js";
import { NOTE_FIELDS, PEDAL_FIELDS, checkCountable, inSeconds, onPiano, onTicks } from "./ticks.js";

/** The bytes of the file that a performance was read from, with what is new in the performance; else of a new file. */
export function splice(performance) {
  const source = performance.source ?? newSource(performance), { file, tempoMap } = source, edits = new Edits(file);
  const notes = notesOf(file, source.parts), messages = pedalsOf(file, source.allParts, source.parts);
  const ofFile = (table, fields) => onTicks(inSeconds(table, fields, tempoMap), tempoMap), after = onTicks(performance.pedals, tempoMap);
  splicePedals(edits, source, messages, ofFile(pressTable(messages, file), PEDAL_FIELDS), after);
  const kept = spliceNotes(edits, source, notes, ofFile(onPiano(notes), NOTE_FIELDS), onTicks(performance.notes, tempoMap));
  endUnendedPresses(edits, source, messages, after);
  endUnendedNotes(edits, source, kept);
  return edits.applied();
}

export const NEW_PART = { track: 0, channel: 0, place: 0, name: "Piano", program: 0, notes: 0 };

/** A file of one track without notes, on ticks of at most 1 ms, with the tempo map of a performance. */
function newSource({ tempoMap }) {
  const refined = tempoMap.refined(), events = [[0, meta(TRACK_NAME, new TextEncoder().encode("Piano"))], ...tempoEvents(refined)];
  events.push([events.at(-1)[0], meta(END_OF_TRACK, [])]);
  checkCountable(events.map(([tick]) => tick));
  return new Source(new MidiFile(0, refined.ticksPerQuarter, [makeTrack(events)]), { allParts: [NEW_PART], parts: [NEW_PART] });
}

/** The tempi and time signatures of a tempo map by tick: [tick, message]. */
export function tempoEvents({ tempos, timeSignatures }) {
  const events = tempos.map(([tick, tempo]) => [tick, tempoEvent(tempo)]);
  events.push(...timeSignatures.map(([tick, top, bottom]) => [tick, metreEvent(top, bottom)]));
  return events.sort((a, b) => a[0] - b[0]);
}
