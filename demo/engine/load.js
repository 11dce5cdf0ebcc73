// Loading the engine's files, which `tools/make_demo.py` writes beside the modules.
import { Engine } from "./engine.js";

async function get(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} could not be loaded: ${response.status} ${response.statusText}`);
  return response;
}

const unpacked = async (response) =>
  new Uint8Array(await new Response(response.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());

/** The engine of the files in a folder (a URL). */
export async function loadEngine(folder) {
  const from = (name) => get(new URL(name, folder));
  const [wasm, model, weights] = await Promise.all([
    from("kernel.wasm").then((response) => response.arrayBuffer()), from("model.json").then((response) => response.json()),
    from("weights.bin.gz").then(unpacked),
  ]);
  return Engine.load({ wasm, model, weights });
}

/** The object of `api/info`. */
export const loadInfo = async (folder) => (await get(new URL("info.json", folder))).json();
