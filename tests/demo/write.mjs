// The messages of the requests in a file, written by a demo: node write.mjs DEMO REQUESTS
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";

const [folder, requests] = process.argv.slice(2);
const read = (name) => readFileSync(`${folder}/static/engine/${name}`);
const from = (name) => import(pathToFileURL(`${folder}/static/engine/${name}`));
const [{ Engine }, { write }, { errorToJson }] = await Promise.all(["engine.js", "writing.js", "schema.js"].map(from));

const files = { wasm: read("kernel.wasm"), model: JSON.parse(read("model.json")), weights: gunzipSync(read("weights.bin.gz")) };
const engine = await Engine.load(files), info = JSON.parse(read("info.json"));

function messages(request) {
  const found = [];
  try {
    for (const message of write(engine, request, info)) found.push(message);
  } catch (error) {
    found.push({ type: "failed", error: errorToJson(error) });
  }
  return found;
}
console.log(JSON.stringify(JSON.parse(readFileSync(requests)).map(messages)));
