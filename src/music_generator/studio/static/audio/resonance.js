// The ring of the open strings under the sustain pedal, an audio worklet: sound/resonance.py, hop by hop.
const HOPS = 4, HOP = 1024, SIZE = HOPS * HOP;
const HIGHEST_HZ = 6_000, RING_SECONDS = 1.4, DAMPED_SECONDS = 0.08, COUPLING = 0.007;

/** For each frequency the nearest of the first sixteen partials of the damped strings. @param {number[]} frequencies */
function nearestPartials(frequencies) {
  /** @type {number[]} */
  const partials = [];
  for (let key = 21; key < 90; key++) for (let n = 1; n <= 16; n++) partials.push(440 * 2 ** ((key - 69) / 12) * n);
  partials.sort((a, b) => a - b);
  return frequencies.map((hertz) => {
    const above = partials.findIndex((each) => each >= hertz), i = above < 0 ? partials.length - 1 : Math.max(above, 1);
    return hertz - partials[i - 1] < partials[i] - hertz ? partials[i - 1] : partials[i];
  });
}

/** A Fourier transform in place of SIZE complex numbers. */
class Fourier {
  constructor() {
    this.cos = Float64Array.from({ length: SIZE / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / SIZE));
    this.sin = Float64Array.from({ length: SIZE / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / SIZE));
    const bits = Math.log2(SIZE);
    this.order = Uint16Array.from({ length: SIZE }, (_, i) => {
      let reversed = 0;
      for (let bit = 0; bit < bits; bit++) if (i & (1 << bit)) reversed |= 1 << (bits - 1 - bit);
      return reversed;
    });
  }

  /** `sign` is -1 forwards, 1 backwards (not divided by SIZE).
   * @param {Float64Array} re @param {Float64Array} im @param {1 | -1} sign */
  transform(re, im, sign) {
    const { cos, sin, order } = this;
    for (let i = 0; i < SIZE; i++) {
      const j = order[i];
      if (j > i) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
    }
    for (let half = 1; half < SIZE; half *= 2) {
      const step = SIZE / (2 * half);
      for (let k = 0; k < half; k++) {
        const c = cos[k * step], s = sign * sin[k * step];
        for (let i = k; i < SIZE; i += 2 * half) {
          const j = i + half, x = re[j] * c - im[j] * s, y = re[j] * s + im[j] * c;
          re[j] = re[i] - x; im[j] = im[i] - y; re[i] += x; im[i] += y;
        }
      }
    }
  }
}

class Resonance extends AudioWorkletProcessor {
  /** The contact of the dampers, 0 to 1, of the piece and of the pedal that is played live: the higher lifts them. */
  static parameterDescriptors = ["contact", "live"].map((name) => ({ name, defaultValue: 1, minValue: 0, maxValue: 1, automationRate: "k-rate" }));

  constructor() {
    super();
    const bins = Math.min(Math.floor((HIGHEST_HZ * SIZE) / sampleRate), SIZE / 2) - 1;
    const hertz = nearestPartials(Array.from({ length: bins }, (_, i) => ((i + 1) * sampleRate) / SIZE));
    const hopSeconds = HOP / sampleRate, floats = () => new Float64Array(bins);
    this.bins = bins;
    this.fourier = new Fourier();
    this.stateRe = floats();
    this.stateIm = floats();
    this.turnRe = floats();
    this.turnIm = floats();
    hertz.forEach((each, i) => {
      const size = Math.exp(-hopSeconds / (RING_SECONDS * Math.min(1, (200 / each) ** 0.35)));
      this.turnRe[i] = size * Math.cos(2 * Math.PI * each * hopSeconds);
      this.turnIm[i] = size * Math.sin(2 * Math.PI * each * hopSeconds);
    });
    this.damping = Math.exp(-hopSeconds / DAMPED_SECONDS);
    this.sides = [0, 1].map((side) => Array.from({ length: bins }, (_, i) => {
      const phase = 2 * Math.PI * ((Math.sin((i + 1) * (12.9898 + 65.2 * side)) * 43758.5453) % 1);
      return [COUPLING * Math.cos(phase), COUPLING * Math.sin(phase)];
    }));
    this.window = Float64Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
    this.heard = new Float64Array(SIZE);
    this.tail = [new Float64Array(SIZE), new Float64Array(SIZE)];
    this.re = new Float64Array(SIZE);
    this.im = new Float64Array(SIZE);
    this.at = 0;
    this.ringing = false;
  }

  /** @param {Float32Array[][]} inputs @param {Float32Array[][]} outputs @param {Record<string, Float32Array>} parameters */
  process([input], [output], { contact, live }) {
    const frames = output[0].length, { at, heard, tail } = this, [left, right = left] = input;
    for (let i = 0; i < frames; i++) {
      heard[SIZE - HOP + at + i] = left ? (left[i] + right[i]) / 2 : 0;
      output[0][i] = tail[0][at + i];
      output[1][i] = tail[1][at + i];
    }
    this.at += frames;
    if (this.at < HOP) return true;
    this.at = 0;
    for (const each of tail) { each.copyWithin(0, HOP); each.fill(0, SIZE - HOP); }
    const touch = contact[0] * live[0];
    if (this.ringing || touch < 1) this.#ring(touch);
    heard.copyWithin(0, HOP);
    return true;
  }

  /** Add a window of the ring to the tail. @param {number} touch */
  #ring(touch) {
    const { re, im, bins, stateRe, stateIm, turnRe, turnIm } = this, fall = this.damping ** touch;
    for (let i = 0; i < SIZE; i++) { re[i] = this.heard[i] * this.window[i]; im[i] = 0; }
    this.fourier.transform(re, im, -1);
    let power = 0;
    for (let i = 0; i < bins; i++) {
      const x = (stateRe[i] * turnRe[i] - stateIm[i] * turnIm[i]) * fall, y = (stateRe[i] * turnIm[i] + stateIm[i] * turnRe[i]) * fall;
      stateRe[i] = x + re[i + 1] * (1 - touch);
      stateIm[i] = y + im[i + 1] * (1 - touch);
      power += stateRe[i] ** 2 + stateIm[i] ** 2;
    }
    this.ringing = power > 1e-6;
    if (!this.ringing) { stateRe.fill(0); stateIm.fill(0); return; }
    this.#sound();
  }

  /** Both sides in one transform: the left one is its real part, the right one its imaginary part. */
  #sound() {
    const { re, im, bins, stateRe, stateIm, sides, tail, window } = this;
    re.fill(0);
    im.fill(0);
    for (let i = 0; i < bins; i++) {
      const [[a, b], [c, d]] = [sides[0][i], sides[1][i]];
      const leftRe = stateRe[i] * a - stateIm[i] * b, leftIm = stateRe[i] * b + stateIm[i] * a;
      const rightRe = stateRe[i] * c - stateIm[i] * d, rightIm = stateRe[i] * d + stateIm[i] * c;
      re[i + 1] = leftRe - rightIm;
      im[i + 1] = leftIm + rightRe;
      re[SIZE - 1 - i] = leftRe + rightIm;
      im[SIZE - 1 - i] = rightRe - leftIm;
    }
    this.fourier.transform(re, im, 1);
    for (let i = 0; i < SIZE; i++) {
      tail[0][i] += (re[i] / SIZE) * window[i];
      tail[1][i] += (im[i] / SIZE) * window[i];
    }
  }
}

registerProcessor("resonance", Resonance);
