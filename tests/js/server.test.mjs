import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import * as server from "../../src/music_generator/studio/static/server.js";

const { fetch } = globalThis;
const answering = (body, init) => { globalThis.fetch = async () => new Response(body, init); };
const refusing = (status, error) => answering(JSON.stringify({ error }), { status });
const collect = async (messages) => { const all = []; for await (const each of messages) all.push(each); return all; };
const lines = (...messages) => messages.map((message) => `${JSON.stringify(message)}\n`).join("");

afterEach(() => { globalThis.fetch = fetch; });

test("a refusal has its code and its message", async () => {
  refusing(429, { code: "busy", message: "16 jobs are already running; wait or cancel one" });
  await assert.rejects(server.midi({}), { code: "busy", message: "16 jobs are already running; wait or cancel one" });
});

test("what is wrong with a MIDI file is told with its name, other refusals are not", async () => {
  refusing(422, { code: "midi", message: "not a MIDI file" });
  await assert.rejects(server.readMidi({ name: "song.wav" }), { message: "song.wav: not a MIDI file" });
  refusing(413, { code: "limit", message: "the request is too large" });
  await assert.rejects(server.readMidi({ name: "song.wav" }), { message: "the request is too large" });
});

test("an answer that is not the studio's is told by its status", async () => {
  answering("<h1>no</h1>", { status: 502, statusText: "Bad Gateway" });
  await assert.rejects(server.info(), { code: "http", message: "the server answered 502 Bad Gateway" });
});

test("a server that is gone is told in one line", async () => {
  globalThis.fetch = async () => { throw new TypeError("Failed to fetch"); };
  await assert.rejects(server.info(), /does not answer/);
});

test("messages are read line by line", async () => {
  const sent = [{ type: "job", job: "j" }, { type: "events", variation: 0, notes: [], pedals: [] }, { type: "done" }];
  answering(lines(...sent));
  assert.deepEqual(await collect(server.write({})), sent);
});

test("a job that failed and a stream that breaks off are errors", async () => {
  answering(lines({ type: "job", job: "j" }, { type: "failed", error: { code: "input", message: "so" } }));
  await assert.rejects(collect(server.write({})), { code: "input", message: "so" });
  answering(lines({ type: "job", job: "j" }));
  await assert.rejects(collect(server.write({})), /does not answer/);
});

test("a recording is transcribed where the server can and it is not too large", async () => {
  const limits = { recording_bytes: 2 ** 21 }, progress = { type: "transcribed", seconds: 8, of: 12 }, piece = { type: "piece", piece: {}, remarks: [] };
  const asked = [], file = new File(["RIFF"], "take.wav");
  const serving = (info, ...messages) => {
    globalThis.fetch = async (url) => { asked.push(url); return new Response(url === "api/info" ? JSON.stringify(info) : lines(...messages)); };
  };
  serving({ no_recordings: null, limits }, progress, piece, { type: "done" });
  assert.deepEqual(await collect(server.transcribe(file)), [progress, piece, { type: "done" }]);
  assert.deepEqual(asked.splice(0), ["api/info", "api/transcribe"]);
  serving({ no_recordings: null, limits }, { type: "failed", error: { code: "recording", message: "it is silent" } });
  await assert.rejects(collect(server.transcribe(file)), { message: "take.wav: it is silent" });
  serving({ no_recordings: "this is a recording: install the extra", limits });
  await assert.rejects(collect(server.transcribe(file)), { message: "take.wav: this is a recording: install the extra" });
  serving({ no_recordings: null, limits: { recording_bytes: 3 } });
  await assert.rejects(collect(server.transcribe(file)), { code: "limit" });
  assert.deepEqual(asked.slice(2), ["api/info", "api/info"]);
});
