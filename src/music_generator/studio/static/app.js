// The page: connects the state of the studio to the roll, the player, the panels and the keyboard.
import { listenToSound } from "./audio/controls.js";
import { Player } from "./audio/player.js";
import { ChoiceBar } from "./choice_bar.js";
import { ExportDialog } from "./export_dialog.js";
import { Exporter, saveBlob } from "./export.js";
import { listenToFiles } from "./files.js";
import { Pointers } from "./gestures/pointers.js";
import { $, onClick, Panels, TASKS } from "./panels.js";
import { listenToPlaying } from "./midi/controls.js";
import { isNote, makeEvent, toTick } from "./piece.js";
import { writeProject } from "./project.js";
import { Roll } from "./roll.js";
import * as server from "./server.js";
import { listenToShortcuts } from "./shortcuts.js";
import * as store from "./store.js";
import { Studio } from "./studio.js";
import { TempoDialog } from "./tempo_dialog.js";
import { Toolbar } from "./toolbar.js";
import { Tracks } from "./tracks.js";

const SAVE_DELAY = 250, STATUS_TIME = 2600, READING_TIME = 45; // milliseconds; the last one for each letter
const SAVED = ["opened", "written", "kept", "history", "edited", "discarded", "recorded"]; // the changes after which the work is stored
const HEARD = ["history", "edited", "kept", "discarded"]; // the changes that are heard while the piece plays
const ENDS_GESTURE = ["opened", "requested", "begun", "kept", "history", "edited", "discarded", "selected"]; // by other means than the gesture
const LEAD = 2; // seconds before a variation from which it is heard
/** @type {string | null} */
let windowId = null;
let saveTimer = 0, canStore = true, isByMouse = false, looping = false, statusTimer = 0, frame = 0;
const studio = new Studio({ changed, failed, announce, streamed, leave, transcribing });
const roll = new Roll($("roll"), $("base"), $("overlay"), studio.time);
const player = new Player(playerChanged, showSounding);
player.heard = server.keepOffline;
const exporter = new Exporter(studio);
const exportDialog = new ExportDialog(studio, exporter);
const { writer, editor } = studio;
const pointers = new Pointers({ studio, roll, sound: player, seek, tool: () => toolbar.tool });
const panels = new Panels(studio, { write, rewrite });
const choiceBar = new ChoiceBar(studio, { focusRoll });
const playing = listenToPlaying({ studio, player, roll, stop, settings: (/** @type {Task} */ task) => panels.settings(task), announce });
const toolbar = new Toolbar(studio, { timeChanged });
const tracks = new Tracks(studio, { roll, player, run });
new TempoDialog(studio, { now: () => (player.playing ? player.now : null), tempoSet: () => toolbar.setUnits("beats") });

// --- changes -----------------------------------------------------------------------------------------------------

/** @param {StudioChange} what */
function changed(what) {
  if (pointers.active && ENDS_GESTURE.includes(what)) pointers.cancel();
  studio.time.setMap(studio.facts.tempo_map);
  if (SAVED.includes(what)) saveLater();
  showRoll();
  if (what === "opened") { stop(); roll.fit(null, true); player.prepare(studio.events).catch(() => {}); }
  if (what === "kept" && studio.history.lastWritten()?.task === "compose") roll.fit();
  const { choice } = studio;
  if (what === "begun" && choice) showBegun(choice);
  if (what === "variation" || what === "switched") roll.reveal(choice?.variations[choice.current]?.events ?? []);
  if (what === "switched" && choice) hearFromStart(choice);
  if (HEARD.includes(what)) player.update(...(studio.recording?.score ?? [studio.events, studio.end]));
  if (what === "span" && looping && !studio.recording) player.setLoop(studio.span);
  if (what === "edited") roll.reveal(studio.selectedEvents);
  if (what === "focused") showFocused();
  if (what === "moved") roll.follow(studio.playhead);
  showTime();
  playing.changed();
  const hadFocus = $("choice").contains(document.activeElement);
  panels.show(what);
  toolbar.show();
  choiceBar.show();
  if (what !== "preview") tracks.show();
  if (hadFocus && !choice) focusRoll(); // the bar of variations is hidden and cannot keep it
}

function showRoll() {
  const { choice, preview } = studio, variation = choice?.variations[choice.current];
  roll.show(studio.events, studio.shownSelection, variation ? [choice.start, choice.end] : null, preview ? studio.selectedEvents : []);
  if (variation && !variation.done && !choice.original) for (const event of variation.events) roll.add(event);
  roll.span = studio.span;
}

/** @param {Choice} choice */
function showBegun({ task, start, end }) {
  if (player.playing) stop();
  studio.playhead = Math.max(0, start - LEAD);
  const inSight = roll.inSight(start) && roll.inSight(end);
  roll.end = Math.max(roll.end, end);
  if (task === "compose") roll.fit(); else if (!inSight) roll.fit([start, end]);
}

/** A variation is heard from the start of its span, whether it is played at once or later. @param {Choice} choice */
function hearFromStart({ start }) {
  studio.playhead = Math.max(0, start - LEAD);
  if (player.playing) play();
}

function showFocused() {
  const [first] = studio.selectedEvents;
  if (!first) return;
  studio.playhead = first.onset;
  roll.follow(first.onset);
  roll.reveal(studio.selectedEvents);
}

/** @param {MusicEvent[]} events */
function streamed(events) {
  for (const event of events) roll.add(event);
  roll.reveal(events);
  choiceBar.show();
}

/** @param {string} message */
function failed(message) {
  $("error").hidden = false;
  $("error-text").textContent = message;
}

/** @param {string} message */
function announce(message) {
  const status = $("status");
  status.textContent = message;
  status.classList.add("visible");
  clearTimeout(statusTimer);
  statusTimer = setTimeout(() => status.classList.remove("visible"), Math.max(STATUS_TIME, READING_TIME * message.length));
}

/** @param {TranscribingProgress | null} progress */
function transcribing(progress) {
  $("transcribing").hidden = !progress;
  if (!progress) return;
  $("transcribing-text").textContent = progress.text;
  Object.assign($("transcribing-bar"), { value: progress.done, max: progress.of });
}

/** Run an action and show its error. @param {() => unknown} action */
async function run(action) {
  try { await action(); } catch (error) { failed(server.messageOf(error)); }
}

/** @param {Task} task @param {MusicEvent[]} kept */
function write(task, kept = []) {
  $("error").hidden = true;
  run(() => studio.write(task, panels.settings(task), kept));
  focusRoll(); // so that the space bar plays and Enter keeps
}

/** Write the span again around the selected notes; without a span, that of the selection. */
function rewrite() {
  if (!studio.span) studio.spanOfSelection();
  const kept = studio.keptNotes;
  if (kept.length) write("infill", kept);
  else announce("Select the notes that stay first, inside the span");
}

// --- listening ---------------------------------------------------------------------------------------------------

function play(at = studio.playhead) {
  studio.recording?.stop();
  const { events, span, end } = studio;
  if (!events.some(isNote)) { announce("There is nothing to play yet"); return; }
  player.play(events, at >= end - 0.05 ? 0 : at, end, looping ? span : null);
}

function stop() {
  studio.recording?.stop();
  if (!player.playing) return;
  player.stop();
  studio.playhead = player.time;
  playerChanged();
}

function togglePlay() { if (player.playing) stop(); else play(); }

/** @param {number} seconds */
function seek(seconds) {
  studio.playhead = Math.min(Math.max(0, seconds), studio.end);
  if (player.playing) play();
  roll.follow(studio.playhead);
  showTime();
}

/** @param {string} [error] */
function playerChanged(error) {
  if (error) failed(error);
  if (!player.playing && !error) studio.playhead = player.time;
  $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  $("play-icon").setAttribute("href", player.playing ? "#i-pause" : "#i-play");
  $("play").ariaBusy = String(player.waiting);
  $("engine").textContent = player.engine;
  cancelAnimationFrame(frame);
  if (player.playing) frame = requestAnimationFrame(tick); else { showSounding(); showTime(); }
}

/** Show which keys are down: of the piece, and those that are played live. */
function showSounding() {
  const now = player.playing ? player.now : Infinity;
  /** @param {MusicEvent} e */
  const down = (e) => isNote(e) && e.onset <= now && e.onset + e.duration > now;
  roll.sounding = [studio.events, roll.extra].flatMap((events) => events.filter(down).map((e) => e.key)).concat(...player.held);
  roll.redraw("overlay");
}

function tick() {
  if (!player.playing) return;
  const now = player.now, last = studio.playhead;
  if (now !== last) {
    studio.playhead = now;
    showSounding();
    if (roll.inSight(last)) roll.follow(now); // only if the user has not scrolled away
    showTime();
  }
  frame = requestAnimationFrame(tick);
}

function showTime() {
  roll.playhead = studio.playhead;
  roll.loop = looping;
  $("now").textContent = studio.time.text(studio.playhead);
  $("total").textContent = studio.time.text(studio.end);
  roll.redraw("overlay");
}

function toggleLoop() {
  looping = !looping;
  $("loop").setAttribute("aria-pressed", String(looping));
  if (looping && !studio.span) announce("Select a span to loop it");
  player.setLoop(looping && !studio.recording ? studio.span : null);
  showTime();
}

// --- keyboard, pointers and buttons ------------------------------------------------------------------------------

/** @param {KeyboardEvent} event */
const signOf = (event) => (["ArrowLeft", "ArrowDown"].includes(event.key) ? -1 : 1);
/** The actions of the shortcuts. @type {Record<string, (event: KeyboardEvent, combo: string) => unknown>} */
const ACTIONS = {
  play: togglePlay,
  loop: toggleLoop,
  record: () => playing.record(),
  trade: () => playing.trade(),
  start: () => seek(0),
  end: () => seek(studio.end),
  horizontal(event) {
    if (studio.choice) writer.next(signOf(event));
    else if (studio.selected.size) editor.move(signOf(event) * nudgeSeconds(event), 0, "move");
    else seek(studio.playhead + signOf(event) * (event.shiftKey ? 5 : 1));
  },
  vertical(event) {
    if (studio.selected.size) editor.move(0, signOf(event) * (event.shiftKey ? 12 : 1), "transpose");
    else roll.scroll(0, signOf(event) * 2);
    const [first] = studio.selectedEvents;
    if (first && isNote(first)) player.preview(first.key, first.velocity);
  },
  velocity: (event) => editor.addVelocity(4 * signOf(event)),
  resize: (event) => editor.resize(signOf(event) * nudgeSeconds(event), "end", "resize"),
  draw() {
    const at = toTick(studio.time.snap(studio.playhead)), key = studio.selectedEvents.find(isNote)?.key ?? 60;
    editor.draw(makeEvent(at, editor.lastLength, key, editor.lastVelocity));
  },
  duplicate: () => editor.duplicate(),
  splitOrQuantise: (event, combo) => (combo === "s" ? editor.split() : editor.quantise()),
  tool: (event, combo) => toolbar.setTool(combo === "v" ? "select" : combo === "p" ? "draw" : "hand"),
  rewrite,
  compare: () => writer.compare(),
  more: () => writer.more(),
  keep: () => (studio.choice ? writer.keep() : false),
  escape() {
    if (pointers.active) pointers.cancel();
    else if (studio.recording) studio.recording.stop();
    else if (studio.choice) writer.discard();
    else if (!studio.recordings.cancel()) studio.deselect();
  },
  spanStart() {
    const { playhead: at, span } = studio;
    announceSpan(at, span && span[1] > at ? span[1] : at + 4);
  },
  spanEnd() {
    const { playhead: at, span } = studio;
    announceSpan(span && span[0] < at ? span[0] : at - 4, at);
  },
  nextNote(event) {
    const note = studio.selectNext(event.key === "." ? 1 : -1);
    if (note) player.preview(note.key, note.velocity);
  },
  selectAll: () => studio.selectAll(),
  erase: () => editor.erase(),
  clipboard: (event, combo) => (combo === "Ctrl+c" ? editor.copy() : combo === "Ctrl+x" ? editor.cut() : editor.paste()),
  history(event, combo) {
    if (pointers.active) pointers.cancel(); // the drag is what is undone
    else if (combo === "Ctrl+z") studio.undo();
    else studio.redo();
  },
  zoom: (event) => roll.zoom(event.key === "-" ? 1 / 1.5 : 1.5),
  zoomRows: (event) => roll.zoomRows(event.key === "-" ? 1 / 1.25 : 1.25),
  page: (event) => roll.scroll(0, event.key === "PageUp" ? 12 : -12),
  fit: () => roll.fit(),
  open: chooseFile,
  save: () => run(() => exporter.midi()),
  help: showHelp,
};
for (const task of TASKS) ACTIONS[task] = () => write(task);
listenToShortcuts((name, event, combo) => ACTIONS[name](event, combo));
listenToFiles(studio, run);

/** The seconds by which an arrow key moves or resizes: a step of the grid, or 0.01 s; with Shift 0.1 s. @param {KeyboardEvent} event */
function nudgeSeconds(event) {
  if (event.shiftKey) return 0.1;
  return studio.time.step ? studio.time.stepSeconds(studio.selectedEvents[0]?.onset ?? studio.playhead) : 0.01;
}

/** @param {number} from @param {number} to */
function announceSpan(from, to) {
  studio.setSpan(from, to);
  announce(studio.spanText);
}

listenToSound(player, announce);

const CLICKS = {
  play: togglePlay, loop: toggleLoop, "to-start": () => seek(0), fit: () => roll.fit(), help: showHelp, theme: toggleTheme,
  "save-project": saveProject, undo: () => studio.undo(), redo: () => studio.redo(), "zoom-in": () => roll.zoom(1.5), "zoom-out": () => roll.zoom(1 / 1.5),
  open: chooseFile, new: () => studio.newPiece(), "empty-open": chooseFile, "empty-compose": () => write("compose"),
  "stop-transcribing": () => studio.recordings.cancel(),
  "empty-example": () => run(() => studio.openExample()), dismiss: () => { $("error").hidden = true; },
};
for (const [id, action] of Object.entries(CLICKS)) onClick(id, () => action());
for (const box of document.querySelectorAll("dialog")) {
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); }); // a click outside of it
}
document.addEventListener("click", (event) => { // after a click of the mouse the shortcuts work again
  const { target } = event;
  if (event.detail && target instanceof Element && target.closest("button") && !target.closest("dialog")) focusRoll();
});

document.addEventListener("pointerdown", () => { isByMouse = true; }, { capture: true });
document.addEventListener("keydown", () => { isByMouse = false; }, { capture: true });
document.addEventListener("change", ({ target }) => { // and after a choice of the mouse
  if (isByMouse && target instanceof HTMLSelectElement && !target.closest("dialog")) focusRoll();
});

function timeChanged() { roll.redraw(); showTime(); }

function saveProject() { saveBlob(new Blob([writeProject(studio.plain())], { type: "application/json" }), `${exporter.fileName}.json`); }

function chooseFile() { $("file").click(); }

function showHelp() { $("help-box").showModal(); }

function focusRoll() { $("roll").focus({ preventScroll: true }); }

// --- theme and stored work ---------------------------------------------------------------------------------------

const systemTheme = matchMedia("(prefers-color-scheme: dark)");

function toggleTheme() {
  const theme = document.documentElement.dataset.theme ?? (systemTheme.matches ? "dark" : "light");
  setTheme(theme === "dark" ? "light" : "dark");
}

/** @param {string | null} theme */
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  store.setSetting("theme", theme);
  roll.restyle();
}
systemTheme.addEventListener("change", () => roll.restyle());

function saveLater() {
  clearTimeout(saveTimer);
  saveTimer = setTimeout(() => { saveTimer = 0; save(); }, SAVE_DELAY);
}

function save() {
  if (!windowId || !(studio.history.steps.length || studio.choice)) return;
  store.save({ id: windowId, saved: Date.now(), ...studio.plain() }).then(() => { canStore = true; }, () => {
    if (canStore) failed("this browser cannot store your work over a reload: its storage is full or switched off");
    canStore = false; // it is said once
  });
}

/** Before another work takes the place of this one, which stays among the recent ones; `id` is that of a stored one.
 * @param {string} [id] */
async function leave(id) {
  save();
  windowId = await store.workOn(id);
}
addEventListener("pagehide", () => { if (saveTimer) save(); });

async function start() {
  setTheme(store.setting("theme"));
  const answer = server.info(), { id, from } = await store.windowId();
  windowId = id;
  const work = await store.load(from).catch(() => null);
  if (work) studio.restore(work); else panels.showRecent(await store.recent().catch(() => []));
  const info = await answer;
  panels.start(info);
  exportDialog.start(info);
  changed(work ? "restored" : "started");
  if (!work) roll.fit(null, true);
  document.documentElement.dataset.ready = "yes";
  player.prepare(studio.events, studio.playhead).catch(() => {}); // who needs a recording reports it
}
Object.assign(window, { studioPage: { roll, studio, player, playing } }); // for the tests and the console
run(start);
