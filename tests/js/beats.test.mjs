import assert from "node:assert/strict";
import { test } from "node:test";

import { Beats, steadyMap, tappedTempo } from "../../src/music_generator/studio/static/beats.js";
import { Time } from "../../src/music_generator/studio/static/time.js";

const map = { ticks_per_quarter: 480, tempos: [[0, 500_000], [1920, 1_000_000]], time_signatures: [[0, 4, 4], [3840, 3, 8]] };
const close = (a, b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);

test("ticks and seconds, there and back over a change of the tempo", () => {
  const beats = new Beats(map);
  close(beats.toSeconds(1920), 2);
  close(beats.toSeconds(2400), 3);
  for (const seconds of [0, 0.3, 2, 2.7, 40]) close(beats.toSeconds(beats.toTicks(seconds)), seconds);
  assert.equal(beats.tempoAt(1.9), 120);
  assert.equal(beats.tempoAt(2), 60);
});

test("bars and beats, counted from 1, over a change of the metre", () => {
  const beats = new Beats(map);
  assert.equal(beats.place(0), "1.1");
  assert.equal(beats.place(1.5), "1.4");
  assert.equal(beats.place(2), "2.1");
  assert.equal(beats.place(6), "3.1"); // 3/8 from here: an eighth lasts half a second
  assert.equal(beats.place(7), "3.3");
  assert.equal(beats.place(7.5), "4.1");
  assert.deepEqual(beats.metreAt(5.9), [4, 4]);
  assert.deepEqual(beats.metreAt(6), [3, 8]);
});

test("a change of the metre inside a bar begins a bar", () => {
  const beats = new Beats({ ticks_per_quarter: 480, tempos: [[0, 500_000]], time_signatures: [[0, 4, 4], [960, 3, 4]] });
  assert.equal(beats.place(1), "2.1");
  assert.deepEqual([...beats.lines(0, 2.5, "bar")].map((line) => line.seconds), [0, 1, 2.5]);
});

test("the lines of the grid say which are bars and beats", () => {
  const lines = [...new Beats(map).lines(0.9, 2.6, 1 / 8)];
  assert.deepEqual(lines.map((line) => line.seconds), [1, 1.25, 1.5, 1.75, 2, 2.5]);
  assert.deepEqual(lines.map((line) => line.isBar), [false, false, false, false, true, false]);
  assert.deepEqual(lines.map((line) => line.isBeat), [true, false, true, false, true, false]);
  assert.deepEqual(lines.map((line) => line.bar), [1, 1, 1, 1, 2, 2]);
});

test("a piece without a tempo map has 120 quarters a minute in bars of four", () => {
  const beats = new Beats(null);
  assert.equal(beats.tempoAt(3), 120);
  assert.equal(beats.place(2), "2.1");
});

/** The time of a piece, with a grid in beats. */
function timeOf(map, grid) {
  const time = new Time();
  time.setMap(map);
  return Object.assign(time, { units: "beats", grid });
}

test("snapping goes to the nearest place, and never over a bar line", () => {
  const beats = new Beats(map);
  close(timeOf(map, "1/8").snap(0.3), 0.25);
  close(timeOf(map, "bar").snap(0.9), 0);
  close(timeOf(map, "bar").snap(1.1), 2);
  close(timeOf(map, "1/4").snap(7.4), 7.5); // a bar of 3/8 has no whole number of quarters
  assert.equal(timeOf(map, "off").snap(0.3), 0.3);
  close(beats.stepSeconds(0, 1 / 16), 0.125);
  close(beats.stepSeconds(4, "bar"), 4);
});

test("a steady map puts a bar line on the downbeat", () => {
  for (const downbeat of [0, 0.37, 1.9, 12.34]) {
    const made = steadyMap(90, [3, 4], downbeat), beats = new Beats(made);
    const [bar] = [...beats.lines(downbeat - 0.01, downbeat + 1, "bar")];
    assert.ok(Math.abs(bar.seconds - downbeat) < 1e-3, `${bar.seconds}`);
    assert.ok(Math.abs(beats.tempoAt(downbeat + 0.01) - 90) < 1e-3);
    const [next] = [...beats.lines(downbeat + 0.01, downbeat + 3, "bar")];
    assert.ok(Math.abs(next.seconds - bar.seconds - 2) < 1e-5);
  }
});

test("the beats of a metronome", () => {
  assert.deepEqual([...new Beats(map).beats(0, 3)].map((beat) => [beat.seconds, beat.isBar]),
    [[0, true], [0.5, false], [1, false], [1.5, false], [2, true]]);
});

test("a tempo is tapped", () => {
  assert.equal(tappedTempo([1]), null);
  close(tappedTempo([0, 0.5, 1, 1.5]), 120);
  close(tappedTempo([0, 0.5, 1, 1.5], 1 / 8), 60);
  close(tappedTempo([0, 0.45, 1.05, 1.5]), 60 / 0.51);
});

test("the grid of triplets in 7/8 begins again with each bar and at a change of the metre", () => {
  const uneven = { ticks_per_quarter: 480, tempos: [[0, 600_000]], time_signatures: [[0, 7, 8], [2400, 3, 4]] }; // the second bar is cut
  const places = [0, 0.4, 0.8, 1.2, 1.6, 2, 2.1, 2.5, 2.9, 3, 3.4];
  const lines = [...new Beats(uneven).lines(0, 3.5, 1 / 6)];
  lines.forEach((line, i) => close(line.seconds, places[i]));
  assert.deepEqual(lines.filter((line) => line.isBar).map((line) => line.bar), [1, 2, 3]);
  const time = timeOf(uneven, "1/4t");
  for (const seconds of places) close(time.snap(seconds + 0.04), seconds);
  close(time.floor(2.045), 2);
  close(time.floor(2.96), 2.9);
  close(time.ceil(2.94), 3);
});

test("a note that is drawn before a faster tempo begins at the beat before it", () => {
  const faster = { ticks_per_quarter: 480, tempos: [[0, 1_000_000], [480, 250_000]], time_signatures: [] };
  const time = timeOf(faster, "beat");
  close(time.floor(0.7), 0);
  close(time.ceil(0.3), 1);
  close(time.floor(1.2), 1);
});
