// Sound files of a piece, rendered by the page's own piano as a WAV file of 16 bits.
import { SAMPLE_RATE, Samples } from "./audio/samples.js";
import { Sampler } from "./audio/sampler.js";
import { Score, within } from "./audio/voices.js";
import { fromJson } from "./piece.js";

const ENGINE = "Salamander grand piano";
const PEAK = 0.89; // of full scale: 1 dB of headroom
const LONGEST_SECONDS = 600; // a stereo minute takes 21 MB of memory
const RING_SECONDS = 3; // after the last key and pedal
const CHANNELS = 2, BYTES = 2, HEADER_BYTES = 44;

/** A sound file of a piece from one second to another: {blob, engine}. */
export async function renderSound(piece, from = 0, to = Infinity) {
  const events = fromJson(piece), last = events.reduce((end, { onset, duration }) => Math.max(end, onset + duration), 0);
  const end = Math.min(to, last), seconds = end - from;
  if (!(seconds > 0)) throw new Error("there is nothing to hear in this span: select another one");
  if (seconds > LONGEST_SECONDS) {
    throw new Error(`this page makes sound files of up to ${LONGEST_SECONDS / 60} minutes: select a span, or use \`music-generator render\``);
  }
  const samples = new Samples(), score = new Score(events, await samples.open());
  const voices = [...score.sounding(from), ...score.voices(from, end)];
  await Promise.all(recordings(voices, score.index).map((row) => samples.load(row)));
  const context = new OfflineAudioContext(CHANNELS, Math.ceil((seconds + RING_SECONDS) * SAMPLE_RATE), SAMPLE_RATE);
  await schedule(context, samples, score, voices, from, end);
  return { blob: new Blob([wavOf(await context.startRendering())], { type: "audio/wav" }), engine: ENGINE };
}

/** The recordings that voices need, with the noises of dampers and pedals. */
function recordings(voices, index) {
  const tones = voices.flatMap(({ note: { key, velocity } }) => index.layers(key, velocity).map(([row]) => row));
  return [...new Set([...tones, ...index.noises])];
}

async function schedule(context, samples, score, voices, from, end) {
  const sampler = new Sampler(context, samples, score.index);
  sampler.output.connect(context.destination);
  await sampler.addResonance();
  const take = sampler.makeTake();
  sampler.setContact(score.dampers.at(from), 0);
  for (const voice of voices) sampler.play(take, voice, -from, from);
  for (const [onset, kind, level] of within(score.pedalNoises, from, end, ([onset]) => onset)) {
    sampler.pedalNoise(take, kind, level, onset - from);
  }
  for (const t of score.dampers.moves(from, end + RING_SECONDS)) sampler.setContact(score.dampers.at(t), t - from);
}

/** The bytes of a WAV file, whose peak is `PEAK`. */
function wavOf(buffer) {
  const sides = [0, 1].map((side) => buffer.getChannelData(side)), frames = buffer.length;
  let peak = 0;
  for (const side of sides) for (const value of side) peak = Math.max(peak, Math.abs(value));
  const data = new DataView(new ArrayBuffer(HEADER_BYTES + frames * CHANNELS * BYTES)), scale = peak ? (PEAK * 32767) / peak : 0;
  writeHeader(data, frames);
  for (let i = 0, at = HEADER_BYTES; i < frames; i++) {
    for (const side of sides) { data.setInt16(at, Math.round(side[i] * scale), true); at += BYTES; }
  }
  return data.buffer;
}

function writeHeader(data, frames) {
  const frameBytes = CHANNELS * BYTES, size = frames * frameBytes;
  const text = (at, letters) => [...letters].forEach((letter, i) => data.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  data.setUint32(4, HEADER_BYTES - 8 + size, true);
  text(8, "WAVEfmt ");
  data.setUint32(16, 16, true); // the bytes of the format
  data.setUint16(20, 1, true); // whole numbers
  data.setUint16(22, CHANNELS, true);
  data.setUint32(24, SAMPLE_RATE, true);
  data.setUint32(28, SAMPLE_RATE * frameBytes, true);
  data.setUint16(32, frameBytes, true);
  data.setUint16(34, 8 * BYTES, true);
  text(36, "data");
  data.setUint32(40, size, true);
}
