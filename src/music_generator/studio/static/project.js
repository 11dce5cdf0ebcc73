// A project file: the piece, its history, and who wrote what, as one JSON file.

export const PROJECT_FORMAT = 1;
const NAME = "music-generator-studio project";

/** @param {File} file */
export const isProject = (file) => /\.json$/i.test(file.name);

/** The text of a project: `state` is what `Studio.plain` returns. @param {StoredWork} state */
export function writeProject(state) { return JSON.stringify({ file: NAME, format: PROJECT_FORMAT, ...intern(state) }); }

/** The state of a project file. Throws an Error of one line for the user if it is none, or of a later version.
 * @param {File} file @returns {Promise<StoredWork>} */
export async function readProject(file) {
  /** @param {string} why */
  const wrong = (why) => new Error(`${file.name}: ${why}`);
  let value;
  try { value = JSON.parse(await file.text()); } catch { throw wrong("this is not a project of the studio, as it is not JSON"); }
  if (value?.file !== NAME) throw wrong("this is not a project of the studio; it opens those that it has saved, and MIDI files");
  if (value.format > PROJECT_FORMAT) throw wrong("a later version of the studio has saved this project; update the studio to open it");
  const state = extern(value);
  if (!isState(state)) throw wrong("the project is damaged");
  return state;
}

/** Files are long and stand in many steps: write each one once. @param {StoredWork} state */
function intern({ history, ...rest }) {
  const files = /** @type {string[]} */ ([]), numbers = new Map();
  /** @param {string} key @param {unknown} value */
  const shorten = (key, value) => {
    if (key !== "file" || typeof value !== "string") return value;
    if (!numbers.has(value)) { numbers.set(value, files.length); files.push(value); }
    return numbers.get(value);
  };
  return { state: JSON.parse(JSON.stringify({ history, ...rest }, shorten)), files };
}

/** @param {{state?: unknown, files?: unknown}} project */
function extern({ state, files }) {
  if (!Array.isArray(files)) return null;
  return JSON.parse(JSON.stringify(state ?? null), (key, value) => (key === "file" && typeof value === "number" ? files[value] : value));
}

/** @param {any} e */
const isEvent = (e) => [e?.id, e?.onset, e?.duration, e?.key, e?.velocity].every(Number.isFinite) && typeof e.generated === "boolean";
/** @param {any} list */
const isList = (list) => Array.isArray(list) && list.every(isEvent);

/** @param {any} state @returns {state is StoredWork} */
function isState(state) {
  const history = state?.history;
  if (!history || !isList(history.events) || !Array.isArray(history.steps) || typeof history.facts?.name !== "string") return false;
  if (!history.steps.every((/** @type {any} */ step) => isList(step.removed) && isList(step.added) && step.facts?.length === 2 && typeof step.label === "string")) return false;
  if (!(Number.isInteger(history.at) && history.at >= 0 && history.at <= history.steps.length)) return false;
  return true;
}
