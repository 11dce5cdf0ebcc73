// Writes the spans of a case (see case.py) by the kernel as WebAssembly and prints how many tokens each has and their sum:
// node driver.mjs libkernel.wasm CASE
import { readFileSync } from "node:fs";

const [wasmFile, caseFile] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(wasmFile));
const kernel = Object.fromEntries(Object.entries(instance.exports).map(([name, value]) => [name.replace("_simd128", ""), value]));
const bytes = readFileSync(caseFile);
const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
let at = 0;
let heap = kernel.__heap_base.value;

function allocate(size) {
  heap = Math.ceil(heap / 64) * 64;
  const address = heap;
  heap += size;
  const missing = heap - kernel.memory.buffer.byteLength;
  if (missing > 0) kernel.memory.grow(Math.ceil(missing / 65536));
  return address;
}
const takeInt = () => data.getInt32((at += 4) - 4, true);
function take(size) {
  const address = allocate(size);
  new Uint8Array(kernel.memory.buffer).set(bytes.subarray(at, at + size), address);
  at += size;
  return address;
}
const takeSized = () => take(Math.ceil(takeInt() / 4) * 4);
function putInts(values) {
  const address = allocate(4 * values.length);
  new Int32Array(kernel.memory.buffer, address, values.length).set(values);
  return address;
}

// sizes of the structs, and places in them, of kernel.h
const [, CONFIG, TOKEN, DRAWN, SPAN, SLOTS] = new Int32Array(kernel.memory.buffer, kernel.contract(), 6);
const SPAN_DONE = 14, SPAN_PLACE = 15, FIELDS = 4, BLOCK = 32;
const MEMORY_FIELDS = ["fingerprints", "sums", "events", "bonus", "pending", "state", "fixed", "ring"];
const SLOT_FIELDS = ["span", "composer", "has_future", "resume_tick", "last_onset", "last_release", "next_onset", "states",
  "context", "future_context", "inverse_temperature", "top_p", "null_factor", "density", "loudness", "recent_keys",
  "lag_counts", "match_lengths", "habituation", "match_nats", "noise", "uniforms", "forced", "drawn", "logits", "block",
  ...MEMORY_FIELDS];
if (SLOTS !== 4 * SLOT_FIELDS.length) throw new Error("Slots of another version");

const config = take(CONFIG);
const facts = new Int32Array(kernel.memory.buffer, config, CONFIG / 4).slice();
const [, cell, hasBackward, layers, units, backwardLayers, backwardUnits, headUnits, , keys] = facts;
const allClasses = facts.slice(11, 11 + FIELDS).reduce((a, b) => a + b);
const hasMemory = facts[20];
const contextBytes = 4 * headUnits * (hasBackward ? 2 : 1);
const tensors = [];
for (let left = takeInt(); left; left--) tensors.push(takeSized());
const addresses = putInts(tensors);
const model = allocate(Number(kernel.build(config, addresses, 0)));
kernel.build(config, addresses, model);

function encode(backward, tokens, count, composer) {
  const rows = (backward ? backwardLayers * backwardUnits : layers * units) * (cell === 0 ? 2 : 1);
  const [states, context] = [allocate(4 * rows), allocate(contextBytes)];
  const scratch = allocate(Number(kernel.encode_bytes(model, count)));
  kernel.encode(model, backward, tokens, count, composer, 0, states, context, scratch);
  return [states, context];
}

function writeSpan(blocks) {
  const composer = takeInt();
  const [past, future, remembered] = [0, 1, 2].map(() => {
    const count = takeInt();
    return { count, tokens: take(count * TOKEN) };
  });
  const [states, context] = encode(0, past.tokens, past.count, composer);
  const slots = { composer: putInts([composer]), states, context, forced: 0, logits: 0, block: BLOCK };
  slots.future_context = future.count ? encode(1, future.tokens, future.count, composer)[1] : 0;
  for (const name of ["span", "has_future", "resume_tick", "last_onset", "last_release", "next_onset",
    "inverse_temperature", "top_p", "null_factor", "density", "loudness", "recent_keys", "lag_counts", "match_lengths",
    "habituation", "match_nats", ...MEMORY_FIELDS.slice(0, -2)]) slots[name] = takeSized();
  [slots.fixed, slots.ring] = [takeInt(), takeInt()];
  const memory = putInts(MEMORY_FIELDS.map((name) => slots[name]));
  if (hasMemory) kernel.remember(model, remembered.tokens, remembered.count, memory, 0);
  slots.drawn = allocate(DRAWN);
  const rows = allocate(16 * BLOCK);
  const scratch = allocate(Number(kernel.step_bytes(model, 1, slots.fixed + slots.ring)));
  let sum = 14695981039346656037n, total = 0;
  for (let i = 0; i < blocks; i++) {
    slots.noise = take(4 * BLOCK * allClasses);
    slots.uniforms = take(4 * BLOCK * 3);
    const described = putInts(SLOT_FIELDS.map((name) => slots[name]));
    const span = new Int32Array(kernel.memory.buffer, slots.span, SPAN / 4);
    span[SPAN_PLACE] = 0;
    const count = span[SPAN_DONE] ? 0 : kernel.write(model, described, 0, 1, BLOCK, rows, scratch);
    for (const byte of new Uint8Array(kernel.memory.buffer, rows, 16 * count)) {
      sum = BigInt.asUintN(64, (sum ^ BigInt(byte)) * 1099511628211n);
    }
    total += count;
  }
  console.log(total, sum.toString(16).padStart(16, "0"));
}

const [spans, blocks] = [takeInt(), takeInt()];
if (4 * takeInt() !== SPAN) throw new Error("SpanState of another version");
for (let i = 0; i < spans; i++) writeSpan(blocks);
