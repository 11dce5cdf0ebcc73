import assert from "node:assert/strict";
import { test } from "node:test";

import { edited } from "../../src/music_generator/studio/static/editing.js";
import { History } from "../../src/music_generator/studio/static/history.js";
import { makeEvent } from "../../src/music_generator/studio/static/piece.js";

const [a, b, c] = [0, 1, 2].map((onset) => makeEvent(onset, 1, 60 + onset, 64));
const named = (name) => ({ name, tempo_map: null, source: null });
const written = (seed) => ({ task: "infill", command: `command ${seed}`, seed, span: [0, 1] });

function threeSteps() {
  const history = new History();
  history.commit("Open", [a, b], { facts: named("piece") });
  history.commit("Infill", [a, c], { detail: written(7) });
  history.commit("Delete", [c]);
  return history;
}

test("a new history is empty", () => {
  const history = new History();
  assert.deepEqual([history.events, history.steps, history.facts], [[], [], named("")]);
  assert.equal(history.undo(), null);
  assert.equal(history.redo(), null);
  assert.equal(history.lastWritten(), null);
});

test("undo and redo go through all steps and back", () => {
  const history = threeSteps(), states = [[c], [a, c], [a, b], []];
  for (const [i, label] of ["Delete", "Infill", "Open"].entries()) {
    assert.deepEqual(history.events, states[i]);
    assert.equal(history.undo().label, label);
  }
  assert.deepEqual([history.events, history.facts, history.canUndo], [[], named(""), false]);
  for (const label of ["Open", "Infill", "Delete"]) assert.equal(history.redo().label, label);
  assert.deepEqual([history.events, history.facts, history.canRedo], [[c], named("piece"), false]);
});

test("a new step drops the steps that were undone", () => {
  const history = threeSteps();
  history.undo();
  history.undo();
  history.commit("Add", [a, b, c]);
  assert.deepEqual(history.steps.map((step) => step.label), ["Open", "Add"]);
  assert.equal(history.canRedo, false);
  history.undo();
  assert.deepEqual(history.events, [a, b]);
});

test("a step holds only what it removed and added", () => {
  const { steps } = threeSteps();
  assert.deepEqual([steps[1].removed, steps[1].added], [[b], [c]]);
});

test("any step can be reached directly", () => {
  const history = threeSteps();
  history.goTo(-1);
  assert.deepEqual(history.events, []);
  history.goTo(1);
  assert.deepEqual(history.events, [a, c]);
  history.goTo(0);
  assert.deepEqual(history.events, [a, b]);
});

test("the piece before a step is read without moving", () => {
  const history = threeSteps();
  assert.deepEqual(history.before(1), { events: [a, b], facts: named("piece") });
  assert.deepEqual(history.before(0), { events: [], facts: named("") });
  assert.deepEqual([history.at, history.events], [3, [c]]);
});

test("the newest written step that is not undone is found", () => {
  const history = threeSteps();
  assert.deepEqual(history.lastWritten(), { ...written(7), index: 1 });
  history.commit("Infill", [a, c], { detail: written(8) });
  assert.equal(history.lastWritten().seed, 8);
  history.goTo(0);
  assert.equal(history.lastWritten(), null);
});

test("stored as JSON and restored, it goes on as before", () => {
  const history = new History();
  history.restore(JSON.parse(JSON.stringify(threeSteps().plain())));
  assert.deepEqual(history.events, [c]);
  const { id } = makeEvent(0, 1, 60, 64);
  assert.ok(id > c.id);
  history.undo();
  assert.deepEqual(history.events, [a, c]);
});

test("many random edits are undone to nothing and redone to the same", () => {
  const history = new History();
  let state = 1;
  const random = (n) => (state = (state * 48271) % 2147483647) % n;
  const states = [history.events];
  for (let i = 0; i < 200; i++) {
    const { events } = history, chosen = new Set(events.filter(() => random(4) === 0).map((e) => e.id));
    const after = random(2) ? edited(events, chosen, () => (random(3) ? { key: 21 + random(88), onset: random(50) } : null)).events
      : [...events, makeEvent(60 + i, 1, 21 + random(88), 64)];
    history.commit(`step ${i}`, after);
    states.push(history.events);
  }
  for (let i = 199; i >= 0; i--) { history.undo(); assert.deepEqual(history.events, states[i]); }
  for (let i = 1; i <= 200; i++) { history.redo(); assert.deepEqual(history.events, states[i]); }
});
