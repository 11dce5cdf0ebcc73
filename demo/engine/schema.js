// The fields of requests, each checked: studio/schema.py.
import { InputError } from "./errors.js";
import { LONGEST_SECONDS, Performance } from "./performance.js";
import { onTempoMap } from "./retiming.js";
import { openSource } from "./source.js";
import { TempoMap } from "./tempo_map.js";

const FIELD_WORDS = {
  task: "the task", from: "the start", to: "the end", seconds: "the length", temperature: "the temperature", top_p: "top-p",
  seed: "the seed", variations: "the number of variations", composer: "the style", density: "the density",
  loudness: "the loudness", returns: "how readily themes come back", recall: "the passage to come back to",
  keep: "what is kept", open_end: "the open end", track: "the track", name: "the name", second_name: "the second name",
};
const NOTE = ["onset", "duration", "pitch", "velocity"], PEDAL = ["onset", "duration", "pedal", "depth"];

const shown = (value) => JSON.stringify(value).slice(0, 40);
const typeName = (value) => {
  if (value === null || value === undefined) return "null";
  if (Array.isArray(value)) return "a list";
  return { object: "an object", string: "a text", boolean: "true or false" }[typeof value] ?? "a number";
};

/** The piece of a JSON value with at most `maxEvents` notes and pedal presses. */
export function pieceFromJson(value, name, maxEvents) {
  if (typeName(value) !== "an object") {
    throw new InputError(`\`${name}\` must be an object with \`notes\` and \`pedals\`, not ${typeName(value)}`);
  }
  const notes = events(value.notes ?? [], NOTE, `${name}.notes`, maxEvents);
  const pedals = events(value.pedals ?? [], PEDAL, `${name}.pedals`, maxEvents);
  const source = (value.source ?? null) === null ? null : openSource(value.source, name);
  let piece = new Performance(notes, pedals, source?.tempoMap, source);
  if (value.tempo_map) piece = onTempoMap(piece, tempoMapFromJson(value.tempo_map, name));
  if (piece.end > LONGEST_SECONDS) throw new InputError(`\`${name}\` must last at most ${LONGEST_SECONDS / 3600} hours`);
  return piece;
}

export const notesFromJson = (rows, name, maxEvents) => events(rows, NOTE, name, maxEvents);

function events(rows, columns, name, maxEvents) {
  if (!Array.isArray(rows)) throw new InputError(`\`${name}\` must be a list of rows, not ${typeName(rows)}`);
  if (rows.length > maxEvents) {
    const [most, found] = [maxEvents, rows.length].map((count) => count.toLocaleString("en-US"));
    throw new InputError(`\`${name}\` must have at most ${most} rows, not ${found}`);
  }
  for (const row of rows) {
    if (!Array.isArray(row) || row.length !== 4 || !row.every((each) => typeof each === "number")) {
      throw new InputError(`a row of \`${name}\` must be four numbers: ${columns.join(", ")}`);
    }
    if (!row.slice(2).every((each) => Number.isInteger(each) && Math.abs(each) < 1000)) {
      throw new InputError(`the third and fourth number of a row of \`${name}\` must be whole and in MIDI's range`);
    }
  }
  return rows;
}

function tempoMapFromJson({ ticks_per_quarter: ticks, tempos, time_signatures: signatures }, name) {
  const areWhole = (rows, length) =>
    Array.isArray(rows) && rows.every((row) => row?.length === length && row.every(Number.isSafeInteger));
  if (!Number.isSafeInteger(ticks) || !areWhole(tempos, 2) || !areWhole(signatures, 3)) {
    throw new InputError(
      `\`${name}.tempo_map\` must have \`ticks_per_quarter\`, \`tempos\` and \`time_signatures\`, all in whole numbers`,
    );
  }
  return new TempoMap(ticks, tempos, signatures);
}

/** A finite number, or null. */
export function getNumber(fields, name) {
  const value = fields[name] ?? null;
  if (value !== null && !(typeof value === "number" && Math.abs(value) < 1e15)) {
    throw new InputError(`\`${name}\` must be a number, not ${shown(value)}`);
  }
  return value;
}

/** A whole number, or null. */
export function getInteger(fields, name) {
  const value = fields[name] ?? null;
  if (value !== null && !Number.isInteger(value)) {
    throw new InputError(`\`${name}\` must be a whole number, not ${shown(value)}`);
  }
  return value;
}

export function getFlag(fields, name) {
  const value = fields[name] ?? false;
  if (typeof value !== "boolean") throw new InputError(`\`${name}\` must be true or false, not ${shown(value)}`);
  return value;
}

/** Two finite numbers, or null. */
export function getSpan(fields, name) {
  const value = fields[name] ?? null;
  if (value === null) return null;
  const seconds = Array.isArray(value) && value.length === 2 ? value.map((each) => getNumber({ [name]: each }, name)) : [null];
  if (seconds.includes(null)) throw new InputError(`\`${name}\` must be two seconds, from and to, not ${shown(value)}`);
  return seconds;
}

/** The seed of the first of `count` variations, or null; a page sends what was typed as a text. */
export function getSeed(fields, count) {
  let seed = fields.seed ?? null;
  const most = Number.MAX_SAFE_INTEGER - (count - 1);
  if (typeof seed === "string") {
    if (!seed.trim()) return null;
    if (/^\d+$/.test(seed.trim())) seed = Number(seed);
  }
  getInteger({ seed }, "seed");
  if (seed !== null && !(seed >= 0 && seed <= most)) throw new InputError(`\`seed\` must be 0 to ${most}, not ${seed}`);
  return seed;
}

/** A text, or null if it is missing or blank. */
export function getText(fields, name, maxLength = 200) {
  const value = fields[name] ?? null;
  if (value === null) return null;
  if (typeof value !== "string" || [...value].length > maxLength || !value.isWellFormed()) {
    throw new InputError(`\`${name}\` must be a text of at most ${maxLength} characters`);
  }
  return value.trim() || null;
}

/** What a refusal says of an error: its message with `FIELD_WORDS` for the names of fields, and the first field named. */
export function errorToJson(error) {
  if (!(error instanceof InputError)) {
    return { code: "unexpected", message: `unexpected ${error.name}: ${error.message}; please report it`, field: null };
  }
  const names = [...error.message.matchAll(/`([a-z_]+)`/g)].map(([, name]) => name).filter((name) => name in FIELD_WORDS);
  const message = error.message.replace(/`([a-z_]+)`/g, (found, name) => FIELD_WORDS[name] ?? found);
  return { code: error.code, message, field: names[0] ?? null };
}
