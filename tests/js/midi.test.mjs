import assert from "node:assert/strict";
import { test } from "node:test";

const STATIC = "../../src/music_generator/studio/static";
const { answerRequest, cutAt } = await import(`${STATIC}/midi/answer.js`);
const { Clocks } = await import(`${STATIC}/midi/clocks.js`);
const { beginOf, endOf, noteOff, noteOn, pedalTo, readMessage } = await import(`${STATIC}/midi/messages.js`);
const { clicksOf, countIn, firstOf } = await import(`${STATIC}/midi/metronome.js`);
const { Port } = await import(`${STATIC}/midi/port.js`);
const { Rest } = await import(`${STATIC}/midi/rest.js`);
const { sizeOf, Take } = await import(`${STATIC}/midi/take.js`);
const { Beats, steadyMap } = await import(`${STATIC}/beats.js`);
const { makeEvent } = await import(`${STATIC}/piece.js`);

globalThis.document ??= { hidden: false };
const rows = (events) => events.map((e) => [e.onset, e.duration, e.key, e.velocity]);
const close = (a, b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);
const strike = (key, velocity = 64) => ({ kind: "strike", key, velocity });
const release = (key) => ({ kind: "release", key });
const pedal = (depth, number = 0) => ({ kind: "pedal", pedal: number, value: depth / 127 });

// --- messages ------------------------------------------------------------------------------------------------------

test("messages of a keyboard are read, on all channels", () => {
  assert.deepEqual(readMessage([0x90, 60, 100]), strike(60, 100));
  assert.deepEqual(readMessage([0x93, 21, 1]), strike(21, 1));
  assert.deepEqual(readMessage([0x90, 60, 0]), release(60));
  assert.deepEqual(readMessage([0x81, 108, 30]), release(108));
  assert.deepEqual([64, 66, 67].map((number) => readMessage([0xb0, number, 127])), [0, 1, 2].map((each) => pedal(127, each)));
  assert.deepEqual(readMessage([0xb0, 123, 0]), { kind: "silence" });
});

test("other messages are none", () => {
  for (const data of [[0x90, 20, 64], [0x90, 109, 64], [0xb0, 1, 64], [0xe0, 0, 64], [0xfe], [0xf8], []]) assert.equal(readMessage(data), null);
});

test("what is written is read as the same", () => {
  for (const velocity of [1, 64, 127]) assert.deepEqual(readMessage(noteOn(60, velocity)), strike(60, velocity));
  assert.deepEqual(readMessage(noteOff(60)), release(60));
  for (const depth of [0, 50, 127]) assert.deepEqual(readMessage(pedalTo(2, depth)), pedal(depth, 2));
  assert.deepEqual([beginOf(makeEvent(0, 1, 60, 70)), endOf(makeEvent(0, 1, 60, 70))], [noteOn(60, 70), noteOff(60)]);
  assert.deepEqual([beginOf(makeEvent(0, 1, 0, 70)), endOf(makeEvent(0, 1, 0, 70))], [pedalTo(0, 70), pedalTo(0, 0)]);
});

// --- clocks --------------------------------------------------------------------------------------------------------

test("times of the page and of the audio clock, there and back", () => {
  const context = { getOutputTimestamp: () => ({ contextTime: 5, performanceTime: 2000 }) }, clocks = new Clocks({ context });
  close(clocks.toAudio(2500), 5.5);
  close(clocks.toPage(clocks.toAudio(1234)), 1234);
});

test("what is played keeps its rhythm when the sound drops out, and follows it slowly", (t) => {
  let contextTime = 5, now = 0;
  t.mock.method(performance, "now", () => now);
  const clocks = new Clocks({ context: { getOutputTimestamp: () => ({ contextTime, performanceTime: 2000 }) } });
  close(clocks.toAudio(2000), 5);
  contextTime = 4.93;
  close(clocks.toAudio(2000), 5);
  now = 1000;
  close(clocks.toAudio(2000), 4.98);
  now = 9000;
  close(clocks.toAudio(2000), 4.93);
  contextTime = 9; // it was held back for long
  close(clocks.toAudio(2000), 9);
});

// --- takes ---------------------------------------------------------------------------------------------------------

test("a take has what was played: onsets, durations, velocities", () => {
  const take = new Take(2);
  take.add(strike(60, 80), 2.1);
  take.add(strike(64, 30), 2.2004);
  take.add(release(60), 2.6);
  take.add(release(64), 3);
  assert.deepEqual(rows(take.events(5)), [[2.1, 0.5, 60, 80], [2.2, 0.8, 64, 30]]);
  assert.ok(take.events(5).every((e) => e.generated === false));
});

test("what is held ends at the stop, and a key that is struck again ends its note", () => {
  const take = new Take();
  take.add(strike(60), 1);
  take.add(strike(60, 90), 1.5);
  assert.deepEqual(rows(take.events(2)), [[1, 0.5, 60, 64], [1.5, 0.5, 60, 90]]);
});

test("a pedal is pressed from 64 on, as deep as it gets", () => {
  const take = new Take();
  for (const [depth, at] of [[40, 1], [70, 1.1], [100, 1.2], [80, 1.3], [63, 1.5], [0, 1.6]]) take.add(pedal(depth), at);
  take.add(pedal(64, 2), 2);
  assert.deepEqual(rows(take.events(3)), [[1.1, 0.4, 0, 100], [2, 1, 2, 64]]);
});

test("what is played a little early belongs to the take, and earlier notes do not", () => {
  const take = new Take(10);
  take.add(strike(60), 9.5);
  take.add(release(60), 9.6);
  take.add(strike(62), 9.9);
  take.add(release(62), 9.98);
  take.add(strike(65), 9.9);
  take.add(release(65), 10.2);
  take.add(strike(64), 9.2);
  take.add(release(64), 10.5);
  assert.deepEqual(rows(take.events(12)), [[10, 0.08, 62, 64], [10, 0.5, 64, 64], [10, 0.3, 65, 64]]);
});

test("the size of a take in words", () => {
  const [note, press] = [makeEvent(0, 1, 60, 64), makeEvent(0, 1, 0, 64)];
  assert.deepEqual([[note], [note, note, press], [press], [press, press]].map(sizeOf), ["1 note", "2 notes", "1 pedal press", "2 pedal presses"]);
});

// --- metronome -----------------------------------------------------------------------------------------------------

test("clicks lie on the beats, the first of a bar accented", () => {
  const clicks = clicksOf(new Beats(steadyMap(120, [3, 4])), 10);
  assert.deepEqual(clicks.slice(0, 4), [[0, true], [0.5, false], [1, false], [1.5, true]].map(([onset, accented]) => ({ onset, accented })));
  assert.ok(clicks.at(-1).onset > 3600);
});

test("one bar is counted, on the beats of the piece", () => {
  const beats = new Beats(steadyMap(60, [3, 4]));
  assert.deepEqual(countIn(beats, 6), { seconds: 3, clicks: [3, 2, 1].map((before, i) => ({ before, accented: i === 0 })) });
  const inside = countIn(beats, 6.25);
  assert.deepEqual(inside.clicks.map(({ before }) => before), [2.25, 1.25, 0.25]);
  assert.deepEqual([firstOf(beats, "bar", 4), firstOf(beats, "beat", 4.5), firstOf(beats, "bar", 6)], [6, 5, 6]);
});

// --- phrases -------------------------------------------------------------------------------------------------------

test("a rest begins when the last key is let up", () => {
  const rest = new Rest(1);
  assert.equal(rest.due, null);
  rest.add(strike(60), 1);
  rest.add(strike(64), 1.2);
  rest.add(release(60), 1.5);
  assert.equal(rest.due, null);
  rest.add(release(64), 2);
  close(rest.due.over, 3);
  close(rest.due.prepared, 2.6);
  rest.add(strike(60), 2.5);
  assert.equal(rest.due, null);
});

test("under the pedal it begins with the last strike, but leaves time to prepare", () => {
  const rest = new Rest(1);
  rest.add(pedal(127), 0.5);
  rest.add(strike(60), 1);
  rest.add(release(60), 1.1);
  close(rest.due.over, 2);
  rest.add(strike(60), 3);
  rest.add(release(60), 5);
  close(rest.due.over, 5.4);
  close(rest.due.prepared, 5);
  rest.add(pedal(0), 5.1);
  close(rest.due.over, 6);
});

test("a phrase that is over is forgotten", () => {
  const rest = new Rest(1);
  rest.add(strike(60), 1);
  rest.add(release(60), 2);
  rest.begin();
  assert.equal(rest.due, null);
});

test("the request for an answer has the last minute, and the length of the phrase", () => {
  const old = makeEvent(5, 1, 50, 64), past = makeEvent(50, 1, 55, 64), phrase = [makeEvent(100, 0.5, 60, 64), makeEvent(104, 1.234, 62, 64)];
  const request = answerRequest([old, past, ...phrase], phrase, 106, { temperature: 0.9, variations: 4 });
  assert.deepEqual(request.piece.notes, [[0, 1, 55, 64], [50, 0.5, 60, 64], [54, 1.234, 62, 64]]);
  assert.deepEqual([request.task, request.from, request.seconds, request.open_end, request.variations, request.temperature],
    ["continue", 55.23, 5.2, true, 1, 0.9]);
  assert.equal(answerRequest(phrase, phrase.slice(0, 1), 106, {}).seconds, 3);
  const long = [makeEvent(0, 50, 60, 64)];
  assert.equal(answerRequest(long, long, 50, {}).seconds, 12);
});

test("an answer that is interrupted ends where it is", () => {
  assert.deepEqual(rows(cutAt([makeEvent(0, 1, 60, 64), makeEvent(1.5, 1, 62, 64), makeEvent(2, 1, 64, 64)], 2)), [[0, 1, 60, 64], [1.5, 0.5, 62, 64]]);
});

// --- port ----------------------------------------------------------------------------------------------------------

/** A port whose clocks agree with performance.now(), which begins at 0. */
function makePort(t) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const sent = [], output = { name: "out", send: (data, time) => sent.push([Math.round(time), ...data]) };
  const port = new Port(output, { toAudio: (ms) => ms / 1000, toPage: (seconds) => 1000 * seconds });
  const run = (seconds) => { for (const end = now + 1000 * seconds; now < end;) { now += 25; t.mock.timers.tick(25); } };
  return { port, sent, run };
}

test("a piece goes to the port in time, a key's end before its next strike", (t) => {
  const { port, sent, run } = makePort(t);
  port.schedule([makeEvent(0, 1, 0, 90), makeEvent(0.2, 0.3, 60, 70), makeEvent(0.5, 0.2, 60, 80)], 0.1);
  run(2);
  assert.deepEqual(sent, [[100, 0xb0, 64, 90], [300, 0x90, 60, 70], [600, 0x80, 60, 64], [600, 0x90, 60, 80], [800, 0x80, 60, 64], [1100, 0xb0, 64, 0]]);
});

test("at a stop everything ends, after what was sent ahead", (t) => {
  const { port, sent, run } = makePort(t);
  port.schedule([makeEvent(0.1, 5, 60, 70), makeEvent(0.16, 5, 64, 70), makeEvent(3, 1, 70, 70)], 0);
  run(0.025);
  port.silence();
  const ends = sent.filter(([, status]) => status === 0x80);
  assert.deepEqual(ends.map(([, , key]) => key), [60, 64]);
  assert.ok(ends.every(([time]) => time > 160));
  run(4);
  assert.ok(!sent.some(([, , key]) => key === 70));
  assert.deepEqual(sent.filter(([, status, number]) => status === 0xb0 && number === 123).length, 1);
});

test("a key that is down live is not let up by the piece", (t) => {
  const { port, sent, run } = makePort(t);
  port.schedule([makeEvent(0, 1, 60, 70)], 0);
  run(0.5);
  port.strike(60, 90);
  port.silence();
  run(1);
  assert.deepEqual(sent.map(([, ...data]) => data), [[0x90, 60, 70], [0x90, 60, 90]]);
  port.release(60);
  assert.deepEqual(sent.at(-1).slice(1), [0x80, 60, 64]);
});

test("with other events, what is the same goes on and what is gone ends", (t) => {
  const { port, sent, run } = makePort(t), [a, b] = [makeEvent(0, 2, 60, 70), makeEvent(0, 2, 64, 70)], press = makeEvent(0, 3, 0, 100);
  port.schedule([press, a, b, makeEvent(1, 1, 70, 70)], 0);
  run(0.5);
  const longer = [press, { ...a, duration: 2.5 }];
  port.replan(longer, 0, 0.53);
  port.enter(longer, 0.53, 0);
  run(4);
  assert.deepEqual(sent.map(([time, status, number]) => [time, status, number]).slice(3),
    [[530, 0x80, 64], [2500, 0x80, 60], [3000, 0xb0, 64]]);
});

test("what was sent ahead is neither struck twice nor left down", (t) => {
  const { port, sent, run } = makePort(t), [a, b] = [makeEvent(0.04, 1, 60, 70), makeEvent(0.045, 0.002, 64, 70)];
  port.schedule([a, b], 0);
  assert.equal(sent.length, 3); // the long one and both ends of the short one
  port.replan([a, b], 0, 0.03);
  port.schedule([a, b], 0);
  port.replan([b], 0, 0.035);
  run(2);
  assert.deepEqual(sent.map(([time, status, key]) => [time, status, key]), [[40, 0x90, 60], [45, 0x90, 64], [47, 0x80, 64], [40, 0x80, 60]]);
});

test("a pedal that is down where playback begins is pressed", (t) => {
  const { port, sent, run } = makePort(t);
  port.enter([makeEvent(0, 3, 0, 100), makeEvent(0, 3, 60, 64), makeEvent(0, 1, 2, 100)], 2, -2);
  run(2);
  assert.deepEqual(sent, [[0, 0xb0, 64, 100], [1000, 0xb0, 64, 0]]);
});
