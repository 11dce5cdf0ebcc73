// The random numbers of generation: engine/noise.py, and numpy's SeedSequence.

export const NOISE_BLOCK_TOKENS = 32, UNIFORMS = 3;
const QUANTILES = 1 << 16;

const bits = new DataView(new ArrayBuffer(8)); // of a number

/** Mantissa in [√½, √2) and exponent of a number above 0. */
function split(x) {
  bits.setFloat64(0, x);
  let exponent = ((bits.getUint32(0) >> 20) & 2047) - 1022;
  bits.setUint32(0, (bits.getUint32(0) & 0x800fffff) | (1022 << 20));
  let mantissa = bits.getFloat64(0);
  if (mantissa < Math.SQRT1_2) [mantissa, exponent] = [mantissa * 2, exponent - 1];
  return [mantissa, exponent];
}

/** ln x by sums and products alone, as noise.py. */
function logarithm(x) {
  const [mantissa, exponent] = split(x), t = (mantissa - 1) / (mantissa + 1);
  let series = 0;
  for (let power = 25; power > 0; power -= 2) series = series * (t * t) + 1 / power;
  return 2 * t * series + exponent * 0.6931471805599453;
}

/** Quantiles of Gumbel noise, looked up by 16 random bits. */
export const gumbelQuantiles = () =>
  Float32Array.from({ length: QUANTILES }, (_, i) => -logarithm(-logarithm((i + 0.5) / QUANTILES)));

/** The first four words of 64 bits of numpy's SeedSequence: M. E. O'Neill's seed_seq_fe, 2015. */
function seedWords(seed) {
  const words = [Number(seed & 0xffffffffn), Number((seed >> 32n) & 0xffffffffn)];
  let hash = 0x43b0d7e5;
  const hashed = (value) => {
    value ^= hash;
    hash = Math.imul(hash, 0x931e8875);
    value = Math.imul(value, hash);
    return value ^ (value >>> 16);
  };
  const mix = (x, y) => {
    const mixed = (Math.imul(x, 0xca01f9dd) - Math.imul(y, 0x4973f715)) | 0;
    return mixed ^ (mixed >>> 16);
  };
  const pool = [0, 1, 2, 3].map((i) => hashed(words[i] ?? 0));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], hashed(pool[from]));
  }
  hash = 0x8b51f9dd;
  const state = Array.from({ length: 8 }, (_, i) => {
    let value = pool[i % 4] ^ hash;
    hash = Math.imul(hash, 0x58f38ded);
    value = Math.imul(value, hash);
    return BigInt((value ^ (value >>> 16)) >>> 0);
  });
  return [0, 1, 2, 3].map((i) => state[2 * i] | (state[2 * i + 1] << 32n));
}

/** The state of numpy's PCG64 with a seed, and its step: high and low halves. */
function generatorOf(seed) {
  const of128 = (value) => BigInt.asUintN(128, value), factor = (2549297995355413924n << 64n) | 4865540595714422341n;
  const [a, b, c, d] = seedWords(seed), step = of128((((c << 64n) | d) << 1n) | 1n);
  const state = of128((step + ((a << 64n) | b)) * factor + step);
  return BigUint64Array.of(state >> 64n, BigInt.asUintN(64, state), step >> 64n, BigInt.asUintN(64, step));
}

/** A source of the random numbers of one piece. */
export class NoiseSource {
  #engine;
  #generator;
  #temperature;

  constructor(engine, seed, temperature) {
    this.#engine = engine;
    this.#generator = generatorOf(BigInt(seed));
    this.#temperature = temperature;
  }

  /** Draw the random numbers of a slot's next tokens. */
  fill(slots, slot) {
    const { kernel, quantiles, allClasses } = this.#engine;
    const [noise, uniforms] = [slots.addressOf("noise", slot), slots.addressOf("uniforms", slot)];
    kernel.fillNoise(this.#generator, quantiles, this.#temperature, allClasses, NOISE_BLOCK_TOKENS, noise, uniforms);
  }
}
