// What the studio's server does for its page, done by a worker: exports as those of the studio's own server.js.

/** A request that was refused: `code` says why, as in docs/studio.md. */
export class RefusedError extends Error {
  constructor({ code, message }) { super(message); this.code = code; }
}

const engine = (name) => new URL(`engine/${name}`, import.meta.url);
const worker = new Worker(engine("worker.js"), { type: "module" });
const jobs = new Map(); // by id: what takes a job's messages
let nextId = 1;

/** Fulfilled when the model is loaded; music may be asked for before. */
export const ready = new Promise((resolve, reject) => {
  worker.addEventListener("error", ({ message }) => reject(new Error(message || "the engine could not be loaded")));
  worker.addEventListener("message", ({ data: { ready: isReady, failed, id, messages } }) => {
    if (isReady) resolve();
    else if (failed) reject(new Error(failed));
    else jobs.get(id)?.(messages);
  });
});
ready.catch(() => {}); // told where it is awaited

const answer = async (name) => (await fetch(engine(name))).json();
export const info = () => answer("info.json");
export const example = () => answer("example.json");

/** The messages of a writing job, one by one as they arrive. */
export async function* write(task, signal) {
  const id = String(nextId++), arrived = [];
  let wake = () => {};
  const stop = () => { cancel(id); wake(); };
  jobs.set(id, (messages) => { arrived.push(...messages); wake(); });
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
    jobs.delete(id);
    cancel(id); // where the page has turned away
  }
}

export const cancel = async (job) => worker.postMessage({ id: job, cancel: true });
