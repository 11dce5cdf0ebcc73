// The studio without a server: the same exports as those of the studio's own server.js, whose place it takes beside the
// page's modules. A worker writes music, and reads and writes MIDI files; the page itself makes sound files and pictures.

/** A request that was refused: `code` says why, as in docs/studio.md. */
export class RefusedError extends Error {
  constructor({ code, message }) { super(message); this.code = code; }
}

/** The line of an error for the user. */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/** What is said where the page's files cannot be loaded. */
export const NO_ANSWER = "the web server of this page does not answer: look at the connection and try again";

const engine = (name) => new URL(`engine/${name}`, import.meta.url);
const worker = new Worker(engine("worker.js"), { type: "module" });
const waiting = new Map(); // by id: what takes the worker's messages
let nextId = 1;

/** Fulfilled when the model is loaded; music may be asked for before. */
export const ready = new Promise((resolve, reject) => {
  worker.addEventListener("error", ({ message }) => reject(new Error(message || "the engine could not be loaded")));
  worker.addEventListener("message", ({ data }) => {
    if (data.ready) resolve();
    else if (data.failed) reject(new Error(data.failed));
    else waiting.get(data.id)?.(data);
  });
});
ready.catch(() => {}); // told where it is awaited

const file = async (name) => (await fetch(engine(name))).json();
export const info = () => file("info.json");
export const example = () => file("example.json");

/** The worker's answer to one of `ANSWERS` (engine/answers.js). */
function ask(name, fields) {
  const id = String(nextId++);
  return new Promise((resolve, reject) => {
    waiting.set(id, ({ answer, error }) => {
      waiting.delete(id);
      if (error) reject(new RefusedError(error)); else resolve(answer);
    });
    ready.catch(reject);
    worker.postMessage({ id, ask: name, fields });
  });
}

/** The piece of a MIDI file, remarks about it, and its parts; `track` chooses which of them are the piece. */
export async function readMidi(file, track = null) {
  try { return await ask("read", { bytes: new Uint8Array(await file.arrayBuffer()), track }); } catch (error) {
    if (error.code === "midi") error.message = `${file.name}: ${error.message}`;
    throw error;
  }
}

/** The page alone has no network that hears. */
export async function* transcribe(file) { // eslint-disable-line require-yield
  throw new RefusedError({ code: "recording", message: `${file.name} is a recording: the studio on your own computer transcribes it (music-generator studio)` });
}

/** The parts of the file that a piece is from; the notes of the others up to second `cut`. */
export const parts = (piece) => ask("parts", { piece });
export const midi = async (piece) => new Blob([await ask("midi", { piece })], { type: "audio/midi" });
export const picture = async (piece, title, span) => (await import("./picture.js")).drawPicture(piece, title, span);

/** A sound file of the piece from second `from` to `to`. */
export const sound = async (piece, { from, to }) => (await import("./sound.js")).renderSound(piece, from, to);

/** Let the browser keep the page's files. Until something sounds they would load beside what is needed for it. */
export async function keepOffline() {
  const workers = navigator.serviceWorker;
  if (!workers) return; // then the page needs its server
  await workers.register(new URL("../service_worker.js", import.meta.url)).catch(() => {});
  (await workers.ready).active?.postMessage("keep the rest");
}

/** The messages of a writing job, one by one as they arrive. */
export async function* write(task, signal) {
  const id = String(nextId++), arrived = [];
  /** @type {(value?: unknown) => void} */ let wake = () => {};
  const stop = () => { cancel(id); wake(); };
  waiting.set(id, ({ messages }) => { arrived.push(...messages); wake(); });
  signal?.addEventListener("abort", stop);
  worker.postMessage({ id, request: task });
  try {
    while (true) {
      signal?.throwIfAborted();
      for (const message of arrived.splice(0)) {
        if (message.type === "failed") throw new RefusedError(message.error);
        yield message;
        if (message.type === "done" || message.type === "cancelled") return;
      }
      if (!arrived.length) await new Promise((resolve) => { wake = resolve; });
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    waiting.delete(id);
    cancel(id); // where the page has turned away
  }
}

export const cancel = async (job) => worker.postMessage({ id: job, cancel: true });
