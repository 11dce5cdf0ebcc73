// Recordings that the user opens: the server transcribes them, and the page shows how far it is.
import * as server from "./server.js";

// first bytes of files of sound or film, as in recording/audio.py
const HEADS = /^(fLaC|OggS|ID3|FORM|\.snd|caff|RF64|\x1aE\xdf\xa3|RIFF.{4}(WAVE|AVI )|.{4}ftyp|\xff[\xe0-\xff])/s; // eslint-disable-line no-control-regex
const HEAD_BYTES = 12;

/** Whether a file is a recording by its content, whatever its name is. @param {Blob} file */
export async function isRecording(file) {
  return HEADS.test(String.fromCharCode(...new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer())));
}

/** How far it is, in words. @param {string} name @param {number} done @param {number} of @param {number} taken all in seconds */
export function progressText(name, done, of, taken) {
  if (!done) return `Transcribing ${name}…`;
  const left = taken * (of - done) / done, minutes = Math.round(left / 60);
  return `Transcribing ${name}: ${Math.floor(done)} of ${Math.ceil(of)} s, ${left < 90 ? `${Math.ceil(left)} s` : `${minutes} min`} left`;
}

export class Recordings {
  /** @type {AbortController | null} */ #abort = null;

  /** @param {(progress: TranscribingProgress | null) => void} shown */
  constructor(shown) { this.shown = shown; }

  /** The piece of a recording, as `readMidi` gives it; null if the user cancels it. @param {File} file */
  async read(file) {
    if (this.#abort) throw new Error("a recording is being transcribed; wait for it or cancel it");
    const abort = this.#abort = new AbortController();
    this.#show(file, 0, 1, 0);
    try { return await this.#receive(file, abort.signal); } catch (error) {
      if (abort.signal.aborted) return null;
      throw error;
    } finally {
      this.#abort = null;
      this.shown(null);
    }
  }

  /** @param {File} file @param {AbortSignal} signal */
  async #receive(file, signal) {
    const begun = performance.now();
    for await (const message of server.transcribe(file, signal)) {
      if (message.type === "transcribed") this.#show(file, message.seconds, message.of, (performance.now() - begun) / 1000);
      if (message.type === "piece") return message;
    }
    return null;
  }

  /** @param {File} file @param {number} done @param {number} of @param {number} taken */
  #show({ name }, done, of, taken) { this.shown({ text: progressText(name, done, of, taken), done, of }); }

  /** Whether there was something to cancel. */
  cancel() {
    this.#abort?.abort();
    return !!this.#abort;
  }
}
