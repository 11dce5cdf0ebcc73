// The writing core in a worker: what a studio's server does for `write`, `info` and `example`.
//
// In: {id, request} begins a job, `request` being a task of docs/studio.md; {id, cancel: true} ends it.
// Out: {id, messages}: some messages of a job in their order, those of `POST api/write`; the last one of a job is `done`,
// `cancelled` or `failed`. {ready: true} once the model is loaded; {failed: text} if it cannot be.
import { load } from "./load.js";
import { errorToJson } from "./schema.js";
import { write } from "./writing.js";

const TURN_MILLISECONDS = 20; // of a job, after which messages are sent and other jobs and cancelling have their turn
const running = new Set(), loading = load(new URL(".", import.meta.url));

const { port1, port2 } = new MessageChannel(), waiting = []; // a timeout would wait 4 ms each time
port1.onmessage = () => waiting.shift()();
const otherTasks = () => new Promise((resume) => { waiting.push(resume); port2.postMessage(null); });

loading.then(() => postMessage({ ready: true }), (error) => postMessage({ failed: error.message }));
addEventListener("message", ({ data: { id, request, cancel } }) => {
  if (cancel) running.delete(id);
  else run(id, request);
});

async function run(id, request) {
  running.add(id);
  for await (const messages of messagesOf(id, request)) {
    postMessage({ id, messages });
    await otherTasks();
  }
  running.delete(id);
}

/** Yield the messages of a job, those of a turn together. */
async function* messagesOf(id, request) {
  let messages = [{ type: "job", job: id }], begun = performance.now();
  try {
    const { engine, info } = await loading;
    for (const message of write(engine, request, info)) {
      messages.push(message);
      if (message.type === "events" && performance.now() - begun < TURN_MILLISECONDS) continue;
      yield messages;
      [messages, begun] = [[], performance.now()];
      if (!running.has(id)) return yield [{ type: "cancelled" }];
    }
    messages.push({ type: "done" });
  } catch (error) {
    messages.push({ type: "failed", error: errorToJson(error) });
  }
  yield messages;
}
