// The answers of a demo to the requests in a file, [name, fields] each: node answer.mjs DEMO REQUESTS
//
// Bytes come and go in base64, as `bytes` of the fields and as `base64` of an answer.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, requests] = process.argv.slice(2);
const from = (name) => import(pathToFileURL(`${folder}/static/engine/${name}`));
const [{ ANSWERS }, { errorToJson }] = await Promise.all(["answers.js", "schema.js"].map(from));
const info = JSON.parse(readFileSync(`${folder}/static/engine/info.json`));

function answer([name, fields]) {
  try {
    if (fields.bytes) fields.bytes = new Uint8Array(Buffer.from(fields.bytes, "base64"));
    const found = ANSWERS[name](fields, info);
    return found instanceof Uint8Array ? { base64: Buffer.from(found).toString("base64") } : found;
  } catch (error) {
    return { error: errorToJson(error), stack: error.stack };
  }
}
console.log(JSON.stringify(JSON.parse(readFileSync(requests)).map(answer)));
