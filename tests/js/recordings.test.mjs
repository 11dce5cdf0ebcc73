import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { isRecording, progressText, Recordings } from "../../src/music_generator/studio/static/recordings.js";

const { fetch } = globalThis;
const lines = (...messages) => messages.map((message) => `${JSON.stringify(message)}\n`).join("");
const info = JSON.stringify({ no_recordings: null, limits: { recording_bytes: 2 ** 20 } });
const file = new File(["RIFF"], "take.wav");

afterEach(() => { globalThis.fetch = fetch; });

test("a recording is known by its first bytes", async () => {
  const bytes = (text) => new Blob([Uint8Array.from(text, (c) => c.charCodeAt(0))]);
  for (const head of ["fLaC", "OggS", "ID3", "FORM", "caff", "RF64", "RIFF\x10\0\0\0WAVE", "RIFF\n\0\0\0AVI ", "\0\0\0\x20ftypisom", "\x1aE\xdf\xa3", "\xff\xfb\x90"]) {
    assert.ok(await isRecording(bytes(`${head}more and more`)), head);
  }
  for (const head of ["", "M", "MThd\0\0\0\x06", "RIFF\x10\0\0\0RMIDdata", '{"piece": 1}', "\xff\0\0", "RIFF"]) assert.ok(!await isRecording(bytes(head)), head);
});

test("the time that is left is told", () => {
  assert.equal(progressText("take.wav", 0, 60, 0), "Transcribing take.wav…");
  assert.equal(progressText("take.wav", 8, 24.2, 16), "Transcribing take.wav: 8 of 25 s, 33 s left");
  assert.equal(progressText("take.wav", 16, 600, 16), "Transcribing take.wav: 16 of 600 s, 10 min left");
});

test("the piece of a recording comes with progress, and then none is shown", async () => {
  const shown = [], piece = { type: "piece", piece: {}, remarks: [], parts: [] };
  globalThis.fetch = async (url) => new Response(url === "api/info" ? info : lines({ type: "job", job: "j" }, { type: "transcribed", seconds: 8, of: 12 }, piece, { type: "done" }));
  const recordings = new Recordings((progress) => shown.push(progress?.done ?? null));
  const reading = recordings.read(file);
  await assert.rejects(recordings.read(file), { message: "a recording is being transcribed; wait for it or cancel it" });
  assert.deepEqual(await reading, piece);
  assert.deepEqual(shown, [0, 8, null]);
  assert.equal(recordings.cancel(), false);
});

test("a cancelled recording gives no piece and no error", async () => {
  globalThis.fetch = (url, { signal }) => (url === "api/info" ? Promise.resolve(new Response(info)) : new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
    setTimeout(() => recordings.cancel());
  }));
  const shown = [], recordings = new Recordings((progress) => shown.push(progress));
  assert.equal(await recordings.read(file), null);
  assert.equal(shown.at(-1), null);
});
