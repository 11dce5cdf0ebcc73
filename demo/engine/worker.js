// What a studio's server does for its page, in a worker.
//
// In: {id, request} begins a job, `request` being a task of docs/studio.md; {id, cancel: true} ends it. {id, ask, fields}
// asks for one of `ANSWERS`.
// Out: {id, messages}: some messages of a job in their order, those of `POST api/write`; the last one of a job is `done`,
// `cancelled` or `failed`. {id, answer} or {id, error} of what was asked. {ready: true} once the model is loaded;
// {failed: text} if it cannot be.
import { ANSWERS } from "./answers.js";
import { loadEngine, loadInfo } from "./load.js";
import { errorToJson } from "./schema.js";
import { write } from "./writing.js";

const TURN_MILLISECONDS = 20; // of a job, after which messages are sent and other jobs and cancelling have their turn
const running = new Set(), folder = new URL(".", import.meta.url), loadingInfo = loadInfo(folder), loadingEngine = loadEngine(folder);

const { port1, port2 } = new MessageChannel(), waiting = []; // a timeout would wait 4 ms each time
port1.onmessage = () => waiting.shift()();
const otherTasks = () => new Promise((resume) => { waiting.push(resume); port2.postMessage(null); });

loadingInfo.catch(() => {}); // told to those who wait for it
loadingEngine.then(() => postMessage({ ready: true }), (error) => postMessage({ failed: error.message }));
addEventListener("message", ({ data: { id, request, cancel, ask, fields } }) => {
  if (cancel) running.delete(id);
  else if (ask) answer(id, ask, fields);
  else run(id, request);
});

async function answer(id, ask, fields) {
  try {
    postMessage({ id, answer: ANSWERS[ask](fields, await loadingInfo) });
  } catch (error) {
    postMessage({ id, error: errorToJson(error) });
  }
}

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
  /** @type {{type: string, job?: string, error?: unknown}[]} */ let messages = [{ type: "job", job: id }];
  let begun = performance.now();
  try {
    const [engine, info] = await Promise.all([loadingEngine, loadingInfo]);
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
