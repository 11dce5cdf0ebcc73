// Writing for the page: a request as a span, whose events are sent as they are drawn: studio/writing.py.
import { InputError, float, general, quote } from "./errors.js";
import { NAMES, readKeep, strike, those } from "./keep.js";
import { tracksOfChoice } from "./midi_parts.js";
import { LOWEST_PITCH, Performance, firstOnset } from "./performance.js";
import { getFlag, getInteger, getNumber, getSeed, getSpan, getText, notesFromJson, pieceFromJson } from "./schema.js";
import { SamplingOptions, variations, withoutNotes } from "./span.js";
import { toBridge, toCompose, toContinue, toInfill, toLeadIn } from "./tasks.js";
import { KEYS, NUM_KEYS, TICKS_PER_SECOND } from "./tokens.js";
import { BatchWriter, checkRequest, writersOf } from "./writer.js";

const TASKS = ["compose", "continue", "lead-in", "infill", "bridge"];
const BEFORE_A_FUTURE = ["lead-in", "bridge"], AFTER_A_PAST = ["continue", "infill", "bridge"], AT_AN_END = ["compose", "continue"];
const SAMPLING = ["temperature", "top_p", "density", "loudness", "returns"];

/** The request of a JSON object, see docs/studio.md; `info` is that of `api/info`. */
export function readWriteRequest(json, { defaults, limits }) {
  const piece = (name) => ((json[name] ?? null) === null ? new Performance() : pieceFromJson(json[name], name, limits.events));
  const count = getInteger(json, "variations") ?? defaults.variations;
  if (!(count >= 1 && count <= limits.variations)) {
    throw new InputError(`\`variations\` must be 1 to ${limits.variations}, not ${count}`);
  }
  const request = {
    task: getText(json, "task") ?? "", piece: piece("piece"), second: piece("second"), count, options: samplingOptions(json, count),
    start: getNumber(json, "from"), end: getNumber(json, "to"), seconds: lengthOf(json, limits), keep: keepOf(json, limits),
    recall: getSpan(json, "recall"), openEnd: getFlag(json, "open_end"), name: getText(json, "name") ?? "piece",
    secondName: getText(json, "second_name") ?? "second",
  };
  checkFields(request);
  request.length = request.seconds ?? defaults[BEFORE_A_FUTURE.includes(request.task) ? "join_seconds" : "piece_seconds"];
  return request;
}

function samplingOptions(json, count) {
  const given = Object.fromEntries(SAMPLING.map((name) => [name, getNumber(json, name)]));
  return new SamplingOptions({ ...given, seed: getSeed(json, count), composer: getText(json, "composer") });
}

function lengthOf(json, { written_seconds: most }) {
  const seconds = getNumber(json, "seconds");
  if (seconds !== null && !(seconds > 0 && seconds <= most)) {
    const [limit, found] = [most, seconds].map((each) => each.toLocaleString("en-US"));
    throw new InputError(`\`seconds\` must be above 0 and at most ${limit} seconds, not ${found}; the command line writes more`);
  }
  return seconds;
}

function keepOf(json, limits) {
  const { keep = null } = json;
  if (keep === null || typeof keep === "string") return getText(json, "keep");
  if (Array.isArray(keep)) return notesFromJson(keep, "keep", limits.events);
  throw new InputError(`\`keep\` must be one of ${NAMES.join(", ")}, or a list of notes of the piece`);
}

function checkFields({ task, piece, second, start, end, keep, recall, openEnd }) {
  const check = (holds, message) => { if (!holds) throw new InputError(message); };
  check(TASKS.includes(task), `\`task\` must be one of ${TASKS.join(", ")}, not '${task}'`);
  check(task === "compose" || piece.notes.length, `to ${task}, the piece must have notes`);
  check(task !== "bridge" || second.notes.length, "to bridge, a second piece must have notes");
  const hasSpan = start !== null && end !== null;
  check(task !== "infill" || hasSpan, "to infill, select a span: `from` and `to` are missing");
  check(keep === null || task === "infill", `\`keep\` goes with infill alone, not with ${task}`);
  const follows = AFTER_A_PAST.includes(task);
  check(recall === null || follows, `to ${task}, nothing comes before the new music: leave \`recall\` out`);
  const ends = AT_AN_END.includes(task);
  check(!openEnd || ends, `\`open_end\` goes with ${AT_AN_END.join(" and ")} alone, not with ${task}`);
}

/** The span to write. */
export function plan(request, { written_seconds: most }) {
  const span = SPANS[request.task](request).with({ recall: request.recall }), seconds = span.end - span.start;
  if (!(span.start >= 0 && span.start < span.end)) {
    throw new InputError(
      "the span to write must begin at 0 or later and end after it begins: " +
      `${general(span.start)} to ${general(span.end)} s`,
    );
  }
  if (seconds > most) {
    throw new InputError(
      `the studio writes up to ${general(most)} s at a time, not ${general(seconds)} s; the command line writes more`,
    );
  }
  return span;
}

const SPANS = {
  compose: ({ length, openEnd }) => toCompose(length, { openEnd }),
  continue: ({ piece, length, start, openEnd }) => toContinue(piece, length, { start, openEnd }),
  "lead-in": ({ piece, length }) => toLeadIn(piece, length),
  infill: ({ piece, start, end, keep }) => toInfill(piece, start, end, { keep: keep === null ? null : keepFunction(keep, piece) }),
  bridge: ({ piece, second, length }) => toBridge(piece, second, length),
};

function keepFunction(keep, piece) {
  if (typeof keep === "string") return readKeep(keep);
  const there = new Set(piece.notes.map(strike)), missing = keep.find((note) => !there.has(strike(note)));
  if (!missing) return those(keep);
  throw new InputError(`\`keep\` has a note that is not in the piece: pitch ${missing[2]} at ${general(missing[0])} s`);
}

/** By how many seconds the future is shifted. */
function futureShift({ task, piece, second }, span) {
  if (!BEFORE_A_FUTURE.includes(task)) return 0;
  return firstOnset(span.future) - firstOnset(task === "lead-in" ? piece : second);
}

/** The messages of a writing job: `begin`, then `events` of all variations, and a `variation` as each ends. */
export function* write(engine, json, info) {
  const request = readWriteRequest(json, info);
  engine.composer(request.options.composer);
  const span = plan(request, info.limits);
  checkRequest(engine.config, span, request.options);
  const each = variations(request.options, request.count);
  yield beginMessage(request, span, each);
  const writers = writersOf(engine, span, each);
  const batch = new BatchWriter(engine, writers), written = new Map(writers.map((writer) => [writer, []]));
  const add = new Map(writers.map((writer, i) => [writer, eventMessages(i, span, writer, written.get(writer))]));
  try {
    while (batch.length) {
      for (const [writer, rows] of batch.step()) {
        yield* rows.map(add.get(writer)).filter(Boolean);
        if (writer.done) yield variationMessage(writers.indexOf(writer), span, writer, written.get(writer));
      }
    }
  } finally {
    batch.close();
  }
}

function beginMessage(request, span, options) {
  const whole = span.filled([], 0), unsaid = noCommand(request);
  return {
    type: "begin", start: span.start, end: span.end, future_shift: futureShift(request, span),
    tempo_map: whole.tempoMap.toJson(), source: whole.source?.json ?? null, seeds: options.map(({ seed }) => seed),
    commands: options.map((each) => (unsaid ? null : command(request, each))), no_command: unsaid, kept: span.kept.notes,
  };
}

/** The function that adds a token row to those of a variation and returns its message, null for a kept note. */
function eventMessages(variation, span, { firstTick }, rows) {
  const kept = span.keptPlaces;
  let tick = firstTick;
  return (row) => {
    const [shift, key, velocity, duration] = row;
    rows.push(row);
    tick += shift;
    if (kept.has(tick * NUM_KEYS + key)) return null;
    const seconds = [tick / TICKS_PER_SECOND, duration / TICKS_PER_SECOND], isNote = key < KEYS;
    const event = [...seconds, isNote ? key + LOWEST_PITCH : key - KEYS, velocity];
    return { type: "events", variation, notes: isNote ? [event] : [], pedals: isNote ? [] : [event] };
  };
}

function variationMessage(variation, span, { firstTick, options }, rows) {
  const events = span.filled(rows, firstTick).between(span.start, span.end);
  const { notes, pedals } = withoutNotes(events, span.kept.notes);
  return { type: "variation", variation, seed: options.seed, notes, pedals };
}

/** Why no command line writes the same, or null if one does. */
function noCommand(request) {
  if (Array.isArray(request.keep)) return "the command line keeps notes by a rule such as `melody`, not single ones";
  if (request.recall && request.task === "infill") {
    return "the command line comes back to a passage when it continues or bridges, not when it infills";
  }
  return tracks(request).length ? null : "no track of the command line names the parts that are read";
}

/** Each track of the command line that is the parts that are read of all files; null is its default. */
function tracks({ task, piece, second }) {
  const pieces = { compose: [], bridge: [piece, second] }[task] ?? [piece];
  const sources = pieces.map(({ source }) => source).filter(Boolean);
  const [first = [null], ...others] = sources.map(({ allParts, parts }) => tracksOfChoice(allParts, parts));
  return first.filter((track) => others.every((each) => each.includes(track)));
}

/** The command line that writes the same from the same piece, saved as a MIDI file of its name. */
export function command(request, options) {
  const { task, start, end, keep, recall, openEnd } = request;
  const [piece, second] = [request.name, request.secondName].map((name) => quote(`${name}.mid`));
  const length = `--seconds ${general(request.length)}`, [track] = tracks(request);
  let words = {
    compose: `generate ${length}`,
    continue: `generate --primer ${piece} ${length}`,
    "lead-in": `generate --future ${piece} ${length}`,
    bridge: `generate --primer ${piece} --future ${second} ${length}`,
    infill: task === "infill" && `infill ${piece} --from ${float(start)} --to ${float(end)}`,
  }[task];
  if (task === "continue" && start !== null) words += ` --from ${float(start)}`;
  if (typeof keep === "string") words += ` --keep ${quote(keep)}`;
  if (recall) words += ` --recall ${recall.join("-")}`;
  if (openEnd) words += " --open-end";
  if (track) words += ` --track ${quote(track)}`;
  const standard = new SamplingOptions();
  for (const [name, value] of Object.entries(options)) {
    if (value === standard[name]) continue;
    const said = name === "seed" || name === "composer" ? String(value) : float(value);
    words += ` --${name.replaceAll("_", "-")} ${quote(said)}`;
  }
  return `music-generator ${words}`;
}
