// Sounds that are no piano's: the click of a metronome, other tracks, and what keeps the sum within full scale.

const CLICK_HZ = 1_000, ACCENT_HZ = 1_500, CLICK_SECONDS = 0.05, CLICK_LEVEL = 0.12;
const OTHER_LEVEL = 0.03, OTHER_ATTACK = 0.01, OTHER_RELEASE = 0.08, DRUM_SECONDS = 0.12;
const KNEE = 0.8, HEADROOM = 4; // up to the knee the sound stays as it is; up to this many times full scale it is bent

/** A node that bends what lies above the knee towards full scale. @param {BaseAudioContext} context */
export function limiter(context) {
  const size = 8192, curve = Float32Array.from({ length: 2 * size + 1 }, (_, i) => {
    const x = (HEADROOM * (i - size)) / size, over = Math.abs(x) - KNEE;
    return over <= 0 ? x : Math.sign(x) * (KNEE + (1 - KNEE) * Math.tanh(over / (1 - KNEE)));
  });
  const before = new GainNode(context, { gain: 1 / HEADROOM }), shaper = new WaveShaperNode(context, { curve });
  before.connect(shaper);
  return { input: before, output: shaper };
}

/** Sound a click at a time of the audio clock; return its source.
 * @param {BaseAudioContext} context @param {AudioNode} output @param {number} t @param {boolean} accented */
export function click(context, output, t, accented) {
  const source = new OscillatorNode(context, { frequency: accented ? ACCENT_HZ : CLICK_HZ }), envelope = new GainNode(context, { gain: 0 });
  envelope.gain.setValueAtTime(CLICK_LEVEL * (accented ? 1.5 : 1), t);
  envelope.gain.exponentialRampToValueAtTime(1e-4, t + CLICK_SECONDS);
  source.connect(envelope).connect(output);
  source.start(t);
  source.stop(t + CLICK_SECONDS);
  return source;
}

/** The notes of other tracks, faintly: a plain tone, or a burst of noise for drums. */
export class OtherVoices {
  /** @param {BaseAudioContext} context @param {AudioNode} output */
  constructor(context, output) {
    this.context = context;
    this.output = output;
    this.noise = new AudioBuffer({ length: context.sampleRate / 4, sampleRate: context.sampleRate });
    const samples = this.noise.getChannelData(0);
    for (let i = 0; i < samples.length; i++) samples[i] = 2 * Math.random() - 1;
  }

  /** Sound a note at a time of the audio clock for some seconds; return its source.
   * @param {OtherNote} note @param {number} t @param {number} seconds */
  play({ key, velocity, isDrum }, t, seconds) {
    const { context } = this, end = t + (isDrum ? DRUM_SECONDS : Math.max(seconds, 2 * OTHER_ATTACK));
    const source = isDrum
      ? new AudioBufferSourceNode(context, { buffer: this.noise, playbackRate: 0.4 + key / 100 })
      : new OscillatorNode(context, { type: "triangle", frequency: 440 * 2 ** ((key - 69) / 12) });
    const envelope = new GainNode(context, { gain: 0 }), { gain } = envelope;
    gain.setValueAtTime(0, t);
    gain.linearRampToValueAtTime((OTHER_LEVEL * velocity) / 64, t + OTHER_ATTACK);
    gain.setTargetAtTime(0, isDrum ? t + OTHER_ATTACK : end, OTHER_RELEASE / 4);
    source.connect(envelope).connect(this.output);
    source.start(t);
    source.stop(end + OTHER_RELEASE);
    return source;
  }
}
