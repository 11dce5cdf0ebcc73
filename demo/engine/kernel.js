// The compiled engine as WebAssembly, with a model in it: engine/kernel.py. `kernel.h` is the contract.

const ALIGNMENT = 64, PAGE = 65536;
export const FIELDS = 4, TOKEN_COLUMNS = 6; // classes of the fields, then onset and release, or shift and duration
const TYPES = { int8: Int8Array, float16: Uint16Array, float32: Float32Array };
const STORED = { int8: Int8Array, float16: Float32Array, float32: Float32Array }; // in the kernel's memory

/** All numbers of 16 bits as floats. */
function floatsOf16Bits() {
  const floats = new Float32Array(PAGE);
  for (let bits = 0; bits < PAGE; bits++) {
    const exponent = (bits >> 10) & 31, mantissa = bits & 1023, sign = bits >> 15 ? -1 : 1;
    floats[bits] = sign * (exponent ? (1 + mantissa / 1024) * 2 ** (exponent - 15) : mantissa * 2 ** -24);
  }
  return floats;
}

/** Bytes that are used again and again; they grow with what is asked for. */
export class Scratch {
  #kernel;
  #address = 0;
  #bytes = 0;

  constructor(kernel) { this.#kernel = kernel; }

  /** Addresses of some blocks of bytes, up to the next call. */
  take(...sizes) {
    const rounded = sizes.map((size) => Math.ceil(size / ALIGNMENT) * ALIGNMENT);
    const bytes = rounded.reduce((sum, size) => sum + size, 0);
    if (bytes > this.#bytes) {
      this.#bytes = 2 * bytes;
      this.#address = this.#kernel.allocate(this.#bytes);
    }
    let at = this.#address;
    return rounded.map((size) => (at += size) - size);
  }
}

export class Kernel {
  #exports;
  #heap;
  #scratch = new Scratch(this);

  /** Lay out a model: `model` and `weights` are those of `tools/make_demo.py`. */
  static async load(wasm, model, weights) {
    const { instance } = await WebAssembly.instantiate(wasm);
    return new Kernel(instance.exports, model, weights);
  }

  constructor(exports, model, weights) {
    this.#exports = exports;
    this.#heap = exports.__heap_base.value;
    this.config = model.config;
    const [version, , , , spanBytes, slotsBytes] = this.view(Int32Array, exports.contract(), 6);
    this.spanBytes = spanBytes;
    this.slotsBytes = slotsBytes;
    if (version !== model.contract_version) throw new Error("the kernel and the model are of different versions");
    this.#build(model, weights);
  }

  #build(model, weights) {
    const config = this.put(Int32Array, model.kernel_config), floats = floatsOf16Bits();
    const tensors = model.constants.map((each) => this.put(Int32Array, each));
    let at = 0;
    const stored = model.tensors.map(([type, bytes]) => {
      const values = new TYPES[type](weights.buffer.slice(weights.byteOffset + at, weights.byteOffset + at + bytes));
      at += bytes;
      const address = this.allocate(values.length * STORED[type].BYTES_PER_ELEMENT);
      const to = this.view(STORED[type], address, values.length);
      if (type === "float16") for (let i = 0; i < values.length; i++) to[i] = floats[values[i]];
      else to.set(values);
      return address;
    });
    if (at !== weights.length) throw new Error("the weights are not those of the model");
    const addresses = this.put(Int32Array, [...stored, ...tensors]);
    this.model = this.allocate(Number(this.#call("build", config, addresses, 0)));
    this.#call("build", config, addresses, this.model);
  }

  #call(name, ...values) { return this.#exports[`${name}_simd128`](...values); }

  /** Take bytes for good. */
  allocate(bytes) {
    const address = Math.ceil(this.#heap / ALIGNMENT) * ALIGNMENT;
    this.#heap = address + bytes;
    const missing = this.#heap - this.#exports.memory.buffer.byteLength;
    if (missing > 0) this.#exports.memory.grow(Math.ceil(missing / PAGE));
    return address;
  }

  /** An array in the kernel's memory, up to the next `allocate`, which may move all. */
  view(Type, address, length) { return new Type(this.#exports.memory.buffer, address, length); }

  put(Type, values) {
    const address = this.allocate(values.length * Type.BYTES_PER_ELEMENT);
    this.view(Type, address, values.length).set(values);
    return address;
  }

  get stateRows() { return { lstm: 2 }[this.config.cell] ?? 1; }

  get contextSize() { return this.config.head_size * (this.config.direction === "both" ? 2 : 1); }

  /** Read tokens (Int32Array); the states after the last and the context after it, or after `every` one. */
  encode(tokens, composer, { backward, every = false }) {
    const { config } = this, stack = backward ? "backward" : "forward", count = tokens.length / TOKEN_COLUMNS;
    const ofStates = config[`${stack}_layers`] * this.stateRows * config[`${stack}_size`];
    const ofContexts = (every ? count : 1) * this.contextSize;
    const bytes = Number(this.#call("encode_bytes", this.model, count));
    const [at, states, contexts, scratch] = this.#scratch.take(4 * tokens.length, 4 * ofStates, 4 * ofContexts, bytes);
    this.view(Int32Array, at, tokens.length).set(tokens);
    this.#call("encode", this.model, +backward, at, count, composer, +every, states, contexts, scratch);
    return {
      states: this.view(Float32Array, states, ofStates).slice(),
      contexts: this.view(Float32Array, contexts, ofContexts).slice(),
    };
  }

  /** Take tokens (Int32Array) into the first of some memories. */
  remember(tokens, memories) {
    const [at] = this.#scratch.take(4 * tokens.length);
    this.view(Int32Array, at, tokens.length).set(tokens);
    this.#call("remember", this.model, at, tokens.length / TOKEN_COLUMNS, memories.address, 0);
  }

  #stepBytes(slots) { return Number(this.#call("step_bytes", this.model, slots.size, slots.memory.entries)); }

  /** Take a token (six numbers) into a slot. */
  force(slots, slot, token) {
    const [forced, scratch] = this.#scratch.take(4 * TOKEN_COLUMNS * slots.size, this.#stepBytes(slots));
    this.view(Int32Array, forced + 4 * TOKEN_COLUMNS * slot, TOKEN_COLUMNS).set(token);
    this.#call("step", this.model, slots.withForced(forced), slot, 1, 1, scratch);
    slots.withForced(0);
  }

  /** Write up to `most` tokens of the first slots: rows [shift, key, velocity, duration] of each, up to its last. */
  write(slots, count, most) {
    const [at, scratch] = this.#scratch.take(4 * FIELDS * most * count, this.#stepBytes(slots));
    const tokens = this.#call("write", this.model, slots.address, 0, count, most, at, scratch);
    const rows = this.view(Int32Array, at, tokens * count * FIELDS), written = Array.from({ length: count }, () => []);
    for (let i = 0; i < tokens * count; i++) {
      const row = [...rows.subarray(FIELDS * i, FIELDS * (i + 1))];
      if (row[1] >= 0) written[i % count].push(row);
    }
    return written;
  }

  /** Draw the random numbers of some tokens, see noise.c; `generator` (BigUint64Array) goes on. */
  fillNoise(generator, quantiles, temperature, classes, tokens, noise, uniforms) {
    const [state] = this.#scratch.take(generator.byteLength);
    this.view(BigUint64Array, state, generator.length).set(generator);
    this.#call("fill_noise", state, quantiles, temperature, classes, tokens, noise, uniforms);
    generator.set(this.view(BigUint64Array, state, generator.length));
  }
}
