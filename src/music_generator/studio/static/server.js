// What is asked of the server. Every failure becomes an Error whose message is one line for the musician.

const GONE = "the studio's server does not answer: start `music-generator studio` again; your work is kept here";

async function ask(path, body, options = {}) {
  let response;
  try {
    response = await fetch(`api/${path}`, body === undefined ? options : { method: "POST", body, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(GONE);
  }
  if (response.ok) return response;
  let text = "";
  try { text = (await response.json()).error; } catch { /* not of our server's making */ }
  throw new Error(text || `the server answered ${response.status} ${response.statusText}`);
}

const json = (value) => JSON.stringify(value);
const received = async (taking) => { // the body of an answer may break off too
  try { return await taking; } catch (error) { throw error.name === "AbortError" ? error : new Error(GONE); }
};

export const info = async () => received((await ask("info")).json());
export const example = async () => received((await ask("example")).json());
export async function readMidi(file) {
  try { return await received((await ask("read", file)).json()); } catch (error) {
    throw new Error(error.message.replace(/^these bytes/, file.name)); // the server sees no name
  }
}
export const midi = async (piece) => received((await ask("midi", json({ piece }))).blob());
export const picture = async (piece, title, span) =>
  received((await ask("picture", json({ piece, title, from: span?.[0], to: span?.[1] }))).blob());

/** A sound file of the piece's seconds `from` to `to`; `gain` as an earlier one was scaled. */
export async function sound(piece, { from, to, format = "wav", gain = null }, signal) {
  const response = await ask("sound", json({ piece, from, to, format, gain }), { signal });
  const { headers } = response;
  return {
    blob: await received(response.blob()),
    seconds: Number(headers.get("x-sound-seconds")),
    gain: Number(headers.get("x-sound-gain")),
    engine: headers.get("x-sound-engine"),
  };
}

/** The events of a task, one by one as they happen. */
export async function* write(asked, signal) {
  const response = await ask("write", json(asked), { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", ended = false;
  while (true) {
    const { value, done } = await received(reader.read());
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.event === "failed") throw new Error(event.error);
      ended ||= event.event === "done" || event.event === "cancelled";
      yield event;
    }
    await new Promise((resume) => setTimeout(resume)); // clicks and keys in between
  }
  if (!ended) throw new Error(GONE);
}

export const cancel = (job) => fetch(`api/jobs/${job}`, { method: "DELETE" }).catch(() => {});
