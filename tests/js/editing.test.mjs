import assert from "node:assert/strict";
import { test } from "node:test";

import {
  clampMove, copies, edited, extent, moved, quantised, resized, splitAt, withVelocity,
} from "../../src/music_generator/studio/static/editing.js";
import { History } from "../../src/music_generator/studio/static/history.js";
import { fromJson, makeEvent } from "../../src/music_generator/studio/static/piece.js";

const plain = (events) => events.map((e) => [e.onset, e.duration, e.key, e.velocity]);
const all = (events) => new Set(events.map((e) => e.id));
const piece = () => [makeEvent(0, 1, 60, 64, true), makeEvent(0.5, 2, 0, 127), makeEvent(1, 1, 64, 100)];

const json = { notes: [[1, 0.5, 60, 64], [0, 2, 64, 80]], pedals: [[0.5, 1, 0, 100]] };

test("edits change the selected events alone, under new ids", () => {
  const events = fromJson(json), [first, pedal, last] = events;
  const { events: after, made } = edited(events, new Set([first.id]), (e) => ({ key: e.key + 1 }));
  assert.deepEqual(plain(made), [[0, 2, 65, 80]]);
  assert.notEqual(made[0].id, first.id);
  assert.deepEqual(after.slice(1), [pedal, last]);
  assert.equal(first.key, 64, "the argument is not changed");
});

test("an edit to null deletes", () => {
  const events = fromJson(json);
  const { events: after, made } = edited(events, new Set(events.map((e) => e.id)), () => null);
  assert.deepEqual([after, made], [[], []]);
});

test("an edit onto another event of the same key shortens the earlier one", () => {
  const events = [makeEvent(0, 4, 60, 64), makeEvent(1, 1, 62, 64)];
  const { events: after } = edited(events, new Set([events[1].id]), () => ({ key: 60 }));
  assert.deepEqual(plain(after), [[0, 1, 60, 64], [1, 1, 60, 64]]);
});

test("moves stay on the piano and after 0", () => {
  const low = makeEvent(0.5, 1, 22, 64), high = makeEvent(2, 1, 107, 64), pedal = makeEvent(0.25, 1, 0, 64);
  assert.deepEqual(clampMove([low, high], -3, -12), [-0.5, -1]);
  assert.deepEqual(clampMove([low, high], 3, 12), [3, 1]);
  assert.deepEqual(clampMove([low, pedal], -3, 5), [-0.25, 5]);
  assert.deepEqual(clampMove([pedal], 1, 5), [1, 0], "a pedal has no pitch");
});

test("moved, resized, split: what is made has ids of its own and keeps who wrote it", () => {
  const events = piece(), { events: after, made } = edited(events, all(events.slice(0, 1)), moved(0.25, 3));
  assert.deepEqual(plain(made), [[0.25, 1, 63, 64]]);
  assert.equal(made[0].generated, true);
  assert.notEqual(made[0].id, events[0].id);
  assert.equal(after.length, 3);
  assert.deepEqual(plain(edited(events, all(events), resized(-0.5)).events), [[0, 0.5, 60, 64], [0.5, 1.5, 0, 127], [1, 0.5, 64, 100]]);
  assert.deepEqual(plain(edited(events, all(events), resized(0.25, "start")).made), [[0.25, 0.75, 60, 64], [0.75, 1.75, 0, 127], [1.25, 0.75, 64, 100]]);
  assert.deepEqual(plain(edited(events, all(events), splitAt(0.5)).made),
    [[0, 0.5, 60, 64], [0.5, 0.5, 60, 64], [0.5, 2, 0, 127], [1, 1, 64, 100]]);
  assert.deepEqual(plain(edited(events, all(events), resized(-9)).made).map((row) => row[1]), [0.02, 0.02, 0.02]);
});

test("velocities have limits, and pedals keep their depth", () => {
  const events = piece();
  assert.deepEqual(plain(edited(events, all(events), withVelocity((v) => v + 40)).made).map((row) => row[3]), [104, 127, 127]);
  assert.deepEqual(plain(edited(events, all(events), withVelocity((v) => v - 90)).made).map((row) => row[3]), [1, 127, 10]);
});

test("a move stays on the piano and does not begin before 0", () => {
  assert.deepEqual(clampMove(piece(), -3, 100), [-0, 44]);
  assert.deepEqual(clampMove([makeEvent(2, 1, 0, 127)], -3, 5), [-2, 0]);
});

test("quantised in full and by half", () => {
  const snap = (seconds) => Math.round(seconds * 2) / 2, events = [makeEvent(0.4, 1, 60, 64)];
  assert.deepEqual(plain(edited(events, all(events), quantised(snap)).made), [[0.5, 1, 60, 64]]);
  assert.deepEqual(plain(edited(events, all(events), quantised(snap, 0.5)).made), [[0.45, 1, 60, 64]]);
});

test("copies and the extent of events", () => {
  const events = piece();
  assert.deepEqual(extent(events), [0, 2.5]);
  assert.deepEqual(plain(copies(events, 3, 12)), [[3, 1, 72, 64], [3.5, 2, 0, 127], [4, 1, 76, 100]]);
});

test("a step that is done again is one step of the history", () => {
  const history = new History(), first = makeEvent(0, 1, 60, 64);
  history.commit("open", [first]);
  let selected = all([first]);
  for (let i = 1; i <= 12; i++) {
    const { events, made } = edited(history.events, selected, moved(0.01, 0));
    history.commit(`move by ${i}`, events, { again: i > 1 });
    selected = all(made);
  }
  assert.deepEqual(history.steps.map((step) => step.label), ["open", "move by 12"]);
  assert.ok(Math.abs(history.events[0].onset - 0.12) < 1e-9);
  history.undo();
  assert.deepEqual(plain(history.events), [[0, 1, 60, 64]]);
  history.redo();
  assert.ok(Math.abs(history.events[0].onset - 0.12) < 1e-9);
});
