// The notes of a performance, put into the file that it was read from: music/splice_notes.py.
import { AFTER, BEFORE } from "./edits.js";
import { NOTE_OFF, NOTE_ON } from "./midi_file.js";
import { endsAll } from "./midi_tables.js";
import { searchSorted } from "./tempo_map.js";
import { onPiano, place, placeOf } from "./ticks.js";

const RELEASE_VELOCITY = 64; // of keyboards that do not measure it: MIDI 1.0
const NEIGHBOURS = 8; // notes before and after a new one that say which hand plays it

/** Take notes out that are no longer there, end those that end elsewhere, and put new ones in. Return those that keep
 * their events. `notes` are those of the file, `before` the same in ticks, `after` those that shall be there. */
export function spliceNotes(edits, source, notes, before, after) {
  const raw = onPiano(notes), { ends, isNew } = endsOfKept(before, after), fresh = after.filter((_, i) => isNew[i]);
  const rawPlace = (note) => place(note.start, note.pitch), ofPlace = new Map(before.map((note, i) => [placeOf(note), i]));
  const known = raw.map((note) => ofPlace.get(rawPlace(note))), was = known.map((i) => before[i].end), now = known.map((i) => ends[i]);
  const gonePlaces = new Set(raw.filter((_, i) => now[i] < 0).map(rawPlace)), strikes = fresh.map(placeOf);
  const isCut = (note, end) => (note.off < 0 || end < note.end) && gonePlaces.has(place(end, note.pitch));
  const isMoved = (note, i) => now[i] !== was[i] || isStruckWithin(strikes, note, was[i]) || isCut(note, was[i]);
  const moved = raw.map((note, i) => now[i] >= 0 && isMoved(note, i));
  raw.forEach((note, i) => {
    if (now[i] < 0) edits.remove(note.track, note.on);
    if (now[i] < 0 || moved[i]) edits.remove(note.track, note.off);
  });
  raw.forEach((note, i) => { if (moved[i]) end(edits, note, now[i]); });
  add(edits, fresh, source, raw);
  const same = raw.filter((_, i) => !moved[i] && now[i] >= 0), movedPlaces = new Set(raw.filter((_, i) => moved[i]).map(rawPlace));
  removeStrayOffs(edits, source, raw, same, after.filter((note, i) => isNew[i] || movedPlaces.has(placeOf(note))));
  return same;
}

/** The end of each note of `before` that is in `after` too, else -1, and which notes of `after` are new. */
function endsOfKept(before, after) {
  const ofPlace = new Map(after.map((note, i) => [placeOf(note), i])), isNew = after.map(() => true);
  const ends = before.map((note) => {
    const i = ofPlace.get(placeOf(note));
    if (after[i]?.force !== note.force) return -1;
    isNew[i] = false;
    return after[i].end;
  });
  return { ends, isNew };
}

/** Whether a note, cut at `end` by a note of another part, would be released after a new note of its key. */
function isStruckWithin(strikes, note, end) {
  return searchSorted(strikes, place(end, note.pitch)) < searchSorted(strikes, place(note.end, note.pitch));
}

function end(edits, { track, channel, pitch }, tick) { edits.add(track, tick, BEFORE, NOTE_OFF | channel, pitch, RELEASE_VELOCITY); }

function add(edits, fresh, source, raw) {
  const players = playersOf(fresh, source, raw);
  fresh.forEach(({ start, end: until, key, force }, i) => {
    const { track, channel } = players[i];
    edits.add(track, start, AFTER, NOTE_ON | channel, key, force);
    edits.add(track, until, BEFORE, NOTE_OFF | channel, key, RELEASE_VELOCITY);
  });
}

/** The part that takes each new note: of several, such as two hands, the one that plays nearest in pitch. */
function playersOf(fresh, { into }, raw) {
  if (into.length < 2) return fresh.map(() => into[0]);
  const parts = into.map((part) => {
    const own = ofPart(raw, part).sort((a, b) => a.start - b.start), sums = [0];
    for (const { pitch } of own) sums.push(sums.at(-1) + pitch);
    return { part, starts: own.map(({ start }) => start), sums };
  }).filter(({ starts }) => starts.length);
  return fresh.map(({ start, key }) => {
    let [player, nearest] = [into[0], Infinity];
    for (const { part, starts, sums } of parts) {
      const at = searchSorted(starts, start), low = Math.max(at - NEIGHBOURS, 0), high = Math.min(at + NEIGHBOURS, starts.length);
      const distance = Math.abs((sums[high] - sums[low]) / (high - low) - key);
      if (distance < nearest) [player, nearest] = [part, distance];
    }
    return player;
  });
}

const ofPart = (notes, part) => notes.filter(({ track, channel }) => track === part.track && channel === part.channel);

/** End notes that keep their events and were never released where their track ended, if it will be longer. */
export function endUnendedNotes(edits, { file }, notes) {
  const { last } = edits;
  for (const note of notes) {
    if (note.off < 0 && note.end >= file.tracks[note.track].end && note.end < last[note.track]) end(edits, note, note.end);
  }
}

/** Remove note-offs that ended nothing and would end one of `notes`, and messages that end all notes and would. What such a
 * message ended of the `kept` notes has a note-off instead. */
function removeStrayOffs(edits, { file, parts, into }, raw, kept, notes) {
  if (!notes.length) return;
  const [starts, stops] = [notes.map((note) => note.start), notes.map((note) => note.end)].map((ticks) => ticks.sort((a, b) => a - b));
  const places = notes.map(placeOf), isAnySounding = (tick) => searchSorted(starts, tick) > searchSorted(stops, tick, "right");
  const isSounding = (tick, key) => {
    const note = notes[searchSorted(places, place(tick, key)) - 1];
    return note?.key === key && note.end > tick;
  };
  for (const part of parts.length ? parts : into) {
    const offs = new Set(raw.filter(({ track, off }) => track === part.track && off >= 0).map(({ off }) => off));
    const { events } = file.tracks[part.track], endAll = [], gone = new Set();
    events.forEach((event, i) => {
      if (isNoteOff(event, part) && !offs.has(i) && isSounding(event.tick, event.first)) edits.remove(part.track, i);
      if (!endsAll(event) || (event.status & 15) !== part.channel) return;
      endAll.push(i);
      if (isAnySounding(event.tick)) { gone.add(i); edits.remove(part.track, i); }
    });
    for (const note of ofPart(kept, part)) {
      const by = note.off < 0 ? endAll[searchSorted(endAll, note.on)] : undefined;
      if (gone.has(by) && note.end === Math.max(events[by].tick, note.start + 1)) end(edits, note, note.end);
    }
  }
}

const isNoteOff = ({ status, second }, { channel }) => status === (NOTE_OFF | channel) || (status === (NOTE_ON | channel) && second === 0);
