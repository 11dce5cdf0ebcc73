import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ComputerKeyboard } from "../../src/music_generator/studio/static/audio/computer_keyboard.js";
import { encoderDelay, Samples } from "../../src/music_generator/studio/static/audio/samples.js";
import * as voices from "../../src/music_generator/studio/static/audio/voices.js";
import { makeEvent, sorted } from "../../src/music_generator/studio/static/piece.js";

const SAMPLES = "../../src/music_generator/sound/salamander/";
const index = new voices.Index(JSON.parse(readFileSync(new URL(`${SAMPLES}index.json`, import.meta.url))));
const score = (...rows) => new voices.Score(sorted(rows.map((row) => makeEvent(...row))), index);
const near = (actual, expected, tolerance = 1e-9) => assert.ok(Math.abs(actual - expected) <= tolerance, `${actual} is not ${expected}`);

test("a layer sounds alone at its velocity, and two between them with the level of one", () => {
  const velocities = [26, 45, 63, 89, 116], overlaps = [0.9, 0.9, 0.9, 0.9, 0];
  assert.deepEqual(voices.layerWeights(overlaps, velocities, 63).map(([layer]) => layer), [2]);
  assert.deepEqual(voices.layerWeights(overlaps, velocities, 1), [[0, 1]]);
  assert.deepEqual(voices.layerWeights(overlaps, velocities, 127), [[4, 1]]);
  const [[lower, a], [upper, b]] = voices.layerWeights(overlaps, velocities, 54);
  assert.deepEqual([lower, upper], [1, 2]);
  near(a * a + b * b + 2 * a * b * 0.9, 1);
});

test("velocities 20 and 115 are 33 dB apart", () => {
  near(20 * Math.log10(voices.loudness(115) / voices.loudness(20)), 33);
  near(voices.loudness(64), 1);
});

test("each key is played by a recording of a semitone away at most", () => {
  for (let key = 21; key <= 108; key++) {
    const { recordings, ratio } = index.keys[key];
    assert.ok(Math.abs(recordings[0].key - key) <= 1);
    near(Math.log2(ratio) * 12, key - recordings[0].key, 0.05);
  }
});

test("notes are found by the time at which they begin", () => {
  const { notes } = score([0, 1, 60, 64], [1, 1, 62, 64], [1, 1, 60, 64], [2, 1, 60, 64]);
  assert.equal(notes.length, 4);
  const made = score([0, 1, 60, 64], [1, 1, 62, 64], [1, 1, 60, 64], [2, 1, 60, 64]);
  assert.deepEqual(made.range(1, 2), [1, 3]);
  assert.deepEqual(made.voices(0.5, 2).map(({ note }) => note.key), [60, 62]);
  assert.deepEqual(made.range(5, 9), [4, 4]);
});

test("a damper falls with its key, or with the pedal, and silence ends the tone", () => {
  const [free] = score([0, 0.5, 60, 64]).voices(0, 1);
  near(free.times.at(-1), 0.5 + voices.SILENCE * 0.045);
  assert.ok(free.isDamped);
  const [held] = score([0, 0.5, 60, 64], [0.2, 1.8, 0, 127]).voices(0, 1);
  near(voices.fallenAt(held, 2), 0);
  near(held.times.at(-1), 2 + voices.SILENCE * 0.045);
  assert.ok(!held.isDamped);
  const [half] = score([0, 0.5, 60, 64], [0.2, 1.8, 0, 64]).voices(0, 1);
  assert.ok(half.times.at(-1) > 0.6 + voices.SILENCE * 0.045);
  const [treble] = score([0, 0.5, 96, 64]).voices(0, 1);
  assert.equal(treble.up, Infinity);
});

test("sostenuto holds what is down, una corda makes it softer", () => {
  const [caught, later] = score([0, 0.5, 60, 64], [0.7, 0.1, 62, 64], [0.3, 2, 1, 127]).voices(0, 1);
  near(caught.up, 2.3);
  near(later.up, 0.8);
  const [soft] = score([0.5, 0.5, 60, 64], [0.3, 2, 2, 127]).voices(0, 1);
  assert.ok(soft.isDark);
  near(20 * Math.log10(soft.level / voices.MIDDLE_LEVEL), -3);
});

test("what sounds at a second is what began before it and is not silent", () => {
  const made = score([0, 0.2, 60, 64], [0, 3, 48, 64], [1, 3, 50, 64]);
  assert.deepEqual(made.sounding(1).map(({ note }) => note.key), [48]);
  assert.deepEqual(made.sounding(1.5).map(({ note }) => note.key), [48, 50]);
  assert.equal(made.find({ onset: 1, key: 50, velocity: 64 }).note.duration, 3);
  assert.equal(made.find({ onset: 1, key: 50, velocity: 65 }), null);
});

test("a fall goes on from any time, and the end of a loop damps it", () => {
  const fall = { times: [0, 1, 2], fallen: [0, 0, 4] };
  near(voices.fallenAt(fall, 1.5), 2);
  assert.deepEqual(voices.fallAfter(fall, 1.5), { times: [1.5, 2], fallen: [2, 4] });
  assert.deepEqual(voices.dampedFrom(fall, 1, 7.5), { times: [0, 1, 2], fallen: [0, 0, 7.5] });
  assert.equal(voices.dampedFrom(fall, 2, 7.5), fall);
});

test("the encoder's delay is read from a file's tag", () => {
  assert.equal(encoderDelay(readFileSync(new URL(`${SAMPLES}60-2.mp3`, import.meta.url))), 529 + 0x240);
  assert.equal(encoderDelay(new Uint8Array(300)), 0);
});

/** Samples of one second each, whose files are fetched one by one when `open` is called. */
function library(budget) {
  const fetched = [], opens = [];
  globalThis.fetch = async (path) => {
    fetched.push(path.split("/").at(-1));
    await new Promise((resolve) => opens.push(resolve));
    return path.includes("lost") ? new Response("", { status: 404 }) : new Response(new ArrayBuffer(8));
  };
  globalThis.OfflineAudioContext = class { async decodeAudioData() { return { length: 1, duration: 1, numberOfChannels: 2 }; } };
  return { samples: new Samples("samples", budget), fetched, open: () => opens.shift()() };
}
const row = (file, layer = 0) => ({ file, layer, key: 60, seconds: 1, gain: 1 });
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

test("three files are loaded at once, those that are needed first, and each once", async () => {
  const { samples, fetched, open } = library(10);
  for (const name of ["1", "2", "3", "4", "5"]) samples.load(row(name), false);
  const needed = samples.load(row("5"));
  assert.equal(samples.load(row("5")), needed);
  assert.deepEqual(fetched, ["1", "2", "3"]);
  open();
  await settled();
  assert.deepEqual(fetched, ["1", "2", "3", "5"]);
  for (let i = 0; i < 3; i++) open();
  await needed;
  assert.ok(samples.get(row("5")));
});

test("beyond the budget the tones that were used longest ago are dropped, never the middle layer and noises", async () => {
  const { samples, open } = library(4);
  const load = async (name) => { const done = samples.load(row(name)); await settled(); open(); await done; };
  for (const name of ["60-2.mp3", "release-60.mp3", "60-0.mp3", "60-1.mp3"]) await load(name);
  samples.get(row("60-0.mp3"));
  await load("60-3.mp3");
  const kept = ["60-2.mp3", "release-60.mp3", "60-0.mp3", "60-1.mp3", "60-3.mp3"].map((name) => Boolean(samples.get(row(name))));
  assert.deepEqual(kept, [true, true, true, false, true]);
  const near = samples.nearest([row("60-1.mp3", 1), row("60-2.mp3", 2), row("60-3.mp3", 3)], 1);
  assert.equal(near.row.file, "60-2.mp3");
});

test("what is in use is not dropped for another layer of a key that sounds, but for a key that would be silent", async () => {
  const { samples, fetched, open } = library(2);
  samples.index = { tones: new Map([[60, [row("60-0.mp3"), row("60-1.mp3"), row("60-3.mp3")]]]) };
  for (const name of ["60-0.mp3", "60-1.mp3"]) {
    const loading = samples.load(row(name));
    open();
    await loading;
    samples.get(row(name)); // is played
  }
  await samples.load(row("60-3.mp3"));
  assert.deepEqual(fetched, ["60-0.mp3", "60-1.mp3"]);
  assert.equal(samples.get(row("60-3.mp3")), null);
  assert.ok(samples.nearest(samples.index.tones.get(60), 3));
  const silent = samples.load({ ...row("64-0.mp3"), key: 64 });
  open();
  await silent;
  assert.ok(samples.get({ ...row("64-0.mp3"), key: 64 }));
});

test("a file that is missing is an error, and is tried again", async () => {
  const { samples, fetched, open } = library(4);
  for (let i = 0; i < 2; i++) {
    const lost = samples.load(row("lost"));
    await settled();
    open();
    await assert.rejects(lost, /lost cannot be loaded: the server answered 404/);
  }
  assert.equal(fetched.length, 2);
});

function keyboard() {
  const target = new EventTarget(), played = [];
  const player = { strike: (key) => played.push(key), release: (key) => played.push(-key) };
  const made = new ComputerKeyboard(player, () => {}, target);
  const send = (type, code, fields = {}) => {
    const event = Object.assign(new Event(type, { cancelable: true }), { code, ...fields });
    target.dispatchEvent(event);
    return event.defaultPrevented;
  };
  return { made, played, send };
}

test("the computer's keyboard plays if it is on, each key once", () => {
  const { made, played, send } = keyboard();
  assert.ok(!send("keydown", "KeyA"));
  made.turn(true);
  assert.ok(send("keydown", "KeyA"));
  assert.ok(send("keydown", "KeyA", { repeat: true }));
  assert.ok(send("keydown", "KeyW"));
  assert.ok(!send("keydown", "KeyS", { ctrlKey: true }));
  assert.ok(!send("keydown", "KeyQ"));
  send("keyup", "KeyA");
  assert.deepEqual(played, [60, 61, -60]);
  made.turn(false);
  assert.deepEqual(played, [60, 61, -60, -61]);
});

test("an octave is changed while a key is down, which then ends as it began", () => {
  const { made, played, send } = keyboard();
  made.turn(true);
  send("keydown", "KeyK");
  send("keydown", "KeyX");
  send("keyup", "KeyK");
  send("keydown", "KeyA");
  for (let i = 0; i < 9; i++) send("keydown", "KeyZ");
  send("keydown", "KeyA", { code: "KeyD" });
  assert.deepEqual(played, [72, -72, 72, 28]);
});
