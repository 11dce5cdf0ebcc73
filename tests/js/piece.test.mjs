import assert from "node:assert/strict";
import { test } from "node:test";

import {
  before, clock, countNotes, endOf, from, fromJson, isNote, keyName, makeEvent, reserveIds, shifted, sorted,
  tidy, toJson, toTick,
} from "../../src/music_generator/studio/static/piece.js";

const rows = (events) => events.map((e) => [e.onset, e.duration, e.key, e.velocity]);
const piece = { notes: [[1, 0.5, 60, 64], [0, 2, 64, 80]], pedals: [[0.5, 1, 0, 100]] };

test("a piece comes back from JSON unchanged, sorted by onset", () => {
  const facts = { tempo_map: { ticks_per_quarter: 480 }, source: { file: "TVRoZA==" } };
  assert.deepEqual(toJson(fromJson(piece), { name: "mine", ...facts }),
    { notes: [[0, 2, 64, 80], [1, 0.5, 60, 64]], pedals: piece.pedals, ...facts });
  assert.equal(toJson([]).tempo_map, null);
});

test("events know whether the model wrote them, and have ids of their own", () => {
  assert.deepEqual(fromJson(piece, true).map((e) => e.generated), [true, true, true]);
  assert.deepEqual(fromJson(piece).map((e) => e.generated), [false, false, false]);
  const ids = [...fromJson(piece), ...fromJson(piece)].map((e) => e.id);
  assert.equal(new Set(ids).size, 6);
});

test("new ids come after reserved ones", () => {
  const { id } = makeEvent(0, 1, 60, 64);
  reserveIds([{ id: id + 500 }, { id: 1 }]);
  assert.equal(makeEvent(0, 1, 60, 64).id, id + 501);
  reserveIds([]);
  assert.equal(makeEvent(0, 1, 60, 64).id, id + 502);
});

test("events are sorted by onset, then key, then the longer first", () => {
  const events = [[1, 1, 60, 1], [0, 1, 62, 1], [0, 1, 61, 1], [0, 2, 61, 1]].map((row) => makeEvent(...row));
  assert.deepEqual(rows(sorted(events)), [[0, 2, 61, 1], [0, 1, 61, 1], [0, 1, 62, 1], [1, 1, 60, 1]]);
});

test("an event ends where its key is struck again", () => {
  const events = [makeEvent(0, 5, 60, 64), makeEvent(2, 1, 60, 65), makeEvent(1, 5, 61, 66)];
  const tidied = tidy(events);
  assert.deepEqual(rows(tidied), [[0, 2, 60, 64], [1, 5, 61, 66], [2, 1, 60, 65]]);
  assert.deepEqual(tidied.map((e) => e.id), [events[0].id, events[2].id, events[1].id]);
  assert.equal(events[0].duration, 5, "the argument is not changed");
});

test("of two events of a key at one onset the longer stays", () => {
  assert.deepEqual(rows(tidy([makeEvent(1, 1, 60, 10), makeEvent(1, 3, 60, 20)])), [[1, 3, 60, 20]]);
});

test("a tidy piece stays as it is", () => {
  const once = tidy(fromJson({ notes: Array.from({ length: 200 }, (_, i) => [(i * 7) % 40, 1 + (i % 5), 60 + (i % 6), 64]), pedals: [] }));
  assert.deepEqual(tidy(once), once);
});

test("a piece is split at a time and shifted", () => {
  const events = fromJson(piece);
  assert.deepEqual(rows(before(events, 1)), [[0, 2, 64, 80], [0.5, 1, 0, 100]]);
  assert.deepEqual(rows(from(events, 1)), [[1, 0.5, 60, 64]]);
  const moved = shifted(events, 3);
  assert.deepEqual(moved.map((e) => e.onset), [3, 3.5, 4]);
  assert.ok(moved.every((e, i) => e.id !== events[i].id));
});

test("the end is that of the longest event", () => {
  assert.equal(endOf(fromJson(piece)), 2);
  assert.equal(endOf([]), 0);
});

test("keys have names", () => {
  assert.deepEqual([21, 60, 61, 108].map(keyName), ["A0", "C4", "C♯4", "C8"]);
  assert.equal(keyName(2), "una corda pedal");
  assert.deepEqual([0, 2, 21].map((key) => isNote({ key })), [false, false, true]);
  assert.equal(countNotes(fromJson(piece)), 2);
});

test("seconds are rounded to ticks and shown as a clock", () => {
  assert.equal(toTick(1.2345), 1.23);
  assert.deepEqual([0, 59.96, 61.25, 3600].map((s) => clock(s)), ["0:00.0", "1:00.0", "1:01.3", "60:00.0"]);
  assert.deepEqual([clock(65, 0), clock(-1.5), clock(1.234, 2)], ["1:05", "−0:01.5", "0:01.23"]);
});
