// Requests to the server. Each failure is an Error whose message is one line for the user.

/** A request that the server refused: `code` says why, as in docs/studio.md. */
export class RefusedError extends Error {
  /** @param {Refusal} refusal */
  constructor({ code, message }) { super(message); this.code = code; }
}

/** The line of an error for the user. @param {unknown} error */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/** What is said where the page's files cannot be loaded. */
export const NO_ANSWER = "the studio's server does not answer: start `music-generator studio` again";

const noAnswer = () => new Error(`${NO_ANSWER}; your work is kept here`);

/** @param {string} path @param {BodyInit} [body] @param {RequestInit} options */
async function request(path, body, options = {}) {
  const response = await reply(fetch(`api/${path}`, body === undefined ? options : { method: "POST", body, ...options }));
  if (response.ok) return response;
  const answer = await response.json().catch(() => null); // not every answer is from our own code
  throw new RefusedError(answer?.error ?? { code: "http", message: `the server answered ${response.status} ${response.statusText}` });
}

/** Wait for a part of an answer; any part may break off. @template Part @param {Promise<Part>} promise */
async function reply(promise) {
  try { return await promise; } catch (error) { throw error instanceof Error && error.name === "AbortError" ? error : noAnswer(); }
}

/** @param {object} value */
const json = (value) => JSON.stringify(value);

/** @returns {Promise<Info>} */
export const info = async () => reply((await request("info")).json());
/** @returns {Promise<{piece: PieceJson}>} */
export const example = async () => reply((await request("example")).json());
/** The piece of a MIDI file, remarks about it, and its parts; `track` chooses which of them are the piece.
 * @param {File} file @param {number | null} track @returns {Promise<Reading>} */
export async function readMidi(file, track = null) {
  const query = track === null ? "" : `?track=${encodeURIComponent(track)}`;
  try { return await reply((await request(`read${query}`, file)).json()); } catch (error) { throw named(error, file); }
}

/** An error with the name of the file that it is about, which the server does not know. @param {unknown} error @param {File} file */
function named(error, file) {
  if (error instanceof RefusedError && ["midi", "recording"].includes(error.code)) error.message = `${file.name}: ${error.message}`;
  return error;
}

/** The messages of transcribing a recording; the last one but `done` has the piece as `readMidi` gives it.
 * @param {File} file @param {AbortSignal} [signal] @returns {AsyncGenerator<Transcribed>} */
export async function* transcribe(file, signal) {
  const { no_recordings: refusal, limits: { recording_bytes: most } } = await info();
  if (refusal) throw new RefusedError({ code: "recording", message: `${file.name}: ${refusal}` });
  if (file.size > most) throw new RefusedError({ code: "limit", message: `${file.name}: a recording may have at most ${Math.floor(most / 2 ** 20)} MB; cut it, or use music-generator transcribe` });
  try { yield* messages("transcribe", file, signal); } catch (error) { throw named(error, file); }
}

/** The parts of the file that a piece is from; the notes of the others up to second `cut`.
 * @param {PieceJson} piece @returns {Promise<{parts: Part[], cut: number | null}>} */
export const parts = async (piece) => reply((await request("parts", json({ piece }))).json());
/** @param {PieceJson} piece */
export const midi = async (piece) => reply((await request("midi", json({ piece }))).blob());
/** @param {PieceJson} piece @param {string} title @param {Span} [span] */
export const picture = async (piece, title, span) =>
  reply((await request("picture", json({ piece, title, from: span?.[0], to: span?.[1] }))).blob());

/** A sound file of the piece from second `from` to `to`.
 * @param {PieceJson} piece @param {{from?: number, to?: number, format: string}} options */
export async function sound(piece, { from, to, format }) {
  const response = await request("sound", json({ piece, from, to, format }));
  return { blob: await reply(response.blob()), engine: response.headers.get("x-sound-engine") };
}

/** The messages of a writing job, one by one as they arrive.
 * @param {object} task @param {AbortSignal} [signal] @returns {AsyncGenerator<Message>} */
export const write = (task, signal) => messages("write", json(task), signal);

/** The messages of a job. @param {string} path @param {BodyInit} body @param {AbortSignal} [signal] @returns {AsyncGenerator<any>} */
async function* messages(path, body, signal) {
  const response = await request(path, body, { signal });
  const reader = /** @type {ReadableStream<BufferSource>} */ (response.body).pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", ended = false;
  while (true) {
    const { value, done } = await reply(reader.read());
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const message of lines.map((line) => JSON.parse(line))) {
      if (message.type === "failed") throw new RefusedError(message.error);
      ended ||= message.type === "done" || message.type === "cancelled";
      yield message;
    }
    await new Promise((resume) => setTimeout(resume)); // lets clicks and keys through
  }
  if (!ended) throw noAnswer();
}

/** @param {string} job */
export const cancel = (job) => fetch(`api/jobs/${job}`, { method: "DELETE" }).catch(() => {});

/** Keep the page's files in the browser, where they work without a server: here nothing does. */
export const keepOffline = () => {};
