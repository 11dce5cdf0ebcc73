// The page: connects the state of the studio to the roll, the player, the panels and the keyboard.
import { listenToSound } from "./audio/controls.js";
import { Player } from "./audio/player.js";
import { ExportDialog } from "./export_dialog.js";
import { Exporter } from "./export.js";
import { listenToFiles } from "./files.js";
import { $, onClick, Panels, TASKS } from "./panels.js";
import { clock, isNote } from "./piece.js";
import { Pointers } from "./pointer.js";
import { Roll } from "./roll.js";
import * as server from "./server.js";
import { listenToShortcuts } from "./shortcuts.js";
import * as store from "./store.js";
import { Studio } from "./studio.js";

const SAVE_DELAY = 250, STATUS_TIME = 2600; // milliseconds
const SAVED = ["opened", "written", "kept", "history", "edited", "discarded"]; // the changes after which the work is stored
const roll = new Roll($("roll"), $("base"), $("overlay"));
const studio = new Studio({ changed, failed, announce, streamed });
const player = new Player(playerChanged, showSounding);
const exporter = new Exporter(studio);
const exportDialog = new ExportDialog(studio, exporter);
const panels = new Panels(studio, { write, tryAgain, focusRoll });
let windowId = null, saveTimer = 0, looping = false, statusTimer = 0, frame = 0;

// --- changes -----------------------------------------------------------------------------------------------------

function changed(what) {
  if (SAVED.includes(what)) saveLater();
  showRoll();
  if (what === "opened") { stop(); roll.fit(null, true); player.prepare(studio.events).catch(() => {}); }
  if (what === "kept" && studio.history.lastWritten().task === "compose") roll.fit();
  if (what === "begun") showBegun(studio.choice);
  if (what === "switched" && player.playing) play(studio.choice.start);
  if (["history", "edited", "discarded", "kept"].includes(what)) player.update(studio.events, studio.end);
  if (what === "span" && looping) player.setLoop(studio.span);
  if (what === "focused") { studio.playhead = studio.selectedEvents[0].onset; roll.follow(studio.playhead); }
  showTime();
  const hadFocus = $("choice").contains(document.activeElement);
  panels.show(what);
  if (hadFocus && !studio.choice) focusRoll(); // the bar of variations is hidden and cannot keep it
}

function showRoll() {
  const { choice } = studio, variation = choice?.variations[choice.current];
  roll.show(studio.events, studio.selected, variation ? [choice.start, choice.end] : null);
  if (variation && !variation.done) for (const event of variation.events) roll.add(event);
  roll.span = studio.span;
}

function showBegun({ task, start, end }) {
  if (player.playing) stop();
  studio.playhead = Math.max(0, start - 2);
  const inSight = roll.inSight(start) && roll.inSight(end);
  roll.end = Math.max(roll.end, end);
  if (task === "compose") roll.fit(); else if (!inSight) roll.fit([start, end]);
}

function streamed(events) {
  for (const event of events) roll.add(event);
  panels.showVariations();
}

function failed(message) {
  $("error").hidden = false;
  $("error").firstElementChild.textContent = message;
}

function announce(message) {
  const status = $("status");
  status.textContent = message;
  status.classList.add("visible");
  clearTimeout(statusTimer);
  statusTimer = setTimeout(() => status.classList.remove("visible"), STATUS_TIME);
}

/** Run an action and show its error. */
async function run(action) {
  try { await action(); } catch (error) { failed(error.message); }
}

function write(task, settings = panels.settings(task)) {
  $("error").hidden = true;
  run(() => studio.write(task, settings));
  $("keep").focus({ preventScroll: true });
}

/** Discard the variations and write others with new seeds. */
function tryAgain() {
  const { task, request } = studio.choice;
  studio.discard();
  if (task === "infill") studio.setSpan(request.from, request.to);
  write(task, { ...panels.settings(task), seed: null });
}

// --- listening ---------------------------------------------------------------------------------------------------

function play(at = studio.playhead) {
  const { events, history, span, end } = studio;
  if (!events.some(isNote)) { announce("There is nothing to play yet"); return; }
  player.play(events, at >= end - 0.05 ? 0 : at, end, looping ? span : null);
}

function stop() {
  if (!player.playing) return;
  player.stop();
  studio.playhead = player.time;
  playerChanged();
}

function togglePlay() { if (player.playing) stop(); else play(); }

function seek(seconds) {
  studio.playhead = Math.min(Math.max(0, seconds), studio.end);
  if (player.playing) play();
  roll.follow(studio.playhead);
  showTime();
}

function playerChanged(error) {
  if (error) failed(error);
  if (!player.playing && !error) studio.playhead = player.time;
  $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  $("play").querySelector("use").setAttribute("href", player.playing ? "#i-pause" : "#i-play");
  $("play").ariaBusy = player.waiting;
  $("engine").textContent = player.engine;
  cancelAnimationFrame(frame);
  if (player.playing) frame = requestAnimationFrame(tick); else { showSounding(); showTime(); }
}

/** Show which keys are down: of the piece, and those that are played live. */
function showSounding() {
  const now = player.playing ? player.now : Infinity, down = (e) => isNote(e) && e.onset <= now && e.onset + e.duration > now;
  roll.sounding = [...studio.events.filter(down).map((e) => e.key), ...player.held];
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
  $("now").textContent = clock(studio.playhead);
  $("total").textContent = clock(studio.end);
  roll.redraw("overlay");
}

function toggleLoop() {
  looping = !looping;
  $("loop").setAttribute("aria-pressed", looping);
  if (looping && !studio.span) announce("Select a span to loop it");
  player.setLoop(looping ? studio.span : null);
  showTime();
}

// --- keyboard, pointers and buttons ------------------------------------------------------------------------------

const signOf = (event) => (["ArrowLeft", "ArrowDown"].includes(event.key) ? -1 : 1);
const ACTIONS = {
  play: togglePlay,
  loop: toggleLoop,
  start: () => seek(0),
  end: () => seek(studio.end),
  horizontal(event) {
    if (studio.choice) studio.nextVariation(signOf(event));
    else if (studio.selected.size) studio.move(signOf(event) * (event.shiftKey ? 0.1 : 0.01), 0);
    else seek(studio.playhead + signOf(event) * (event.shiftKey ? 5 : 1));
  },
  vertical: (event) => (studio.selected.size ? studio.move(0, signOf(event) * (event.shiftKey ? 12 : 1)) : false),
  velocity(event) {
    const sign = signOf(event);
    studio.setVelocity((velocity) => velocity + 4 * sign, sign > 0 ? "Raise velocity" : "Lower velocity");
  },
  keep: () => (studio.choice ? studio.keep() : false),
  escape() {
    if (studio.choice) studio.discard();
    else if (studio.selected.size) studio.select([]);
    else studio.setSpan(0, 0);
  },
  spanStart: () => studio.setSpan(studio.playhead, studio.span?.[1] > studio.playhead ? studio.span[1] : studio.playhead + 4),
  spanEnd: () => studio.setSpan(studio.span?.[0] < studio.playhead ? studio.span[0] : studio.playhead - 4, studio.playhead),
  nextNote: (event) => studio.selectNext(event.key === "." ? 1 : -1),
  selectAll: () => studio.selectAll(),
  erase: () => studio.erase(),
  clipboard: (event, combo) => ({ c: () => studio.copy(), x: () => studio.cut(), v: () => studio.paste() })[combo.at(-1)](),
  history: (event, combo) => (combo === "Ctrl+z" ? studio.undo() : studio.redo()),
  zoom: (event) => roll.zoom(event.key === "-" ? 1 / 1.5 : 1.5),
  fit: () => roll.fit(),
  open: () => $("file").click(),
  save: () => run(() => exporter.midi()),
  help: () => $("help-box").showModal(),
};
for (const task of TASKS) ACTIONS[task] = () => write(task);
listenToShortcuts((name, event, combo) => ACTIONS[name](event, combo));
listenToFiles(studio, run);

listenToSound(player, roll, announce);
new Pointers(roll, {
  seek,
  sound: ({ key, velocity }) => player.preview(key, velocity),
  canEdit: () => !studio.choice,
  isSelected: (id) => studio.selected.has(id),
  select: (ids, add) => studio.select(ids, add),
  clear: () => { if (studio.selected.size) studio.select([]); },
  setSpan: (a, b) => studio.setSpan(a, b),
  move: (seconds, semitones, final) => { if (studio.selected.size) studio.move(seconds, semitones, final); },
});

const CLICKS = {
  play: togglePlay, loop: toggleLoop, "to-start": ACTIONS.start, fit: ACTIONS.fit, help: ACTIONS.help, theme: toggleTheme,
  undo: () => studio.undo(), redo: () => studio.redo(), "zoom-in": () => roll.zoom(1.5), "zoom-out": () => roll.zoom(1 / 1.5),
  open: ACTIONS.open, new: () => studio.newPiece(), "empty-open": ACTIONS.open, "empty-compose": ACTIONS.compose,
  "empty-example": () => run(() => studio.openExample()), dismiss: () => { $("error").hidden = true; },
};
for (const [id, action] of Object.entries(CLICKS)) onClick(id, () => action());
for (const box of document.querySelectorAll("dialog")) {
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); }); // a click outside of it
}
document.addEventListener("click", (event) => { // after a click of the mouse the shortcuts work again
  if (event.detail && event.target.closest("button") && !event.target.closest("dialog")) focusRoll();
});

function focusRoll() { $("roll").focus({ preventScroll: true }); }

// --- theme and stored work ---------------------------------------------------------------------------------------

const systemTheme = matchMedia("(prefers-color-scheme: dark)");

function toggleTheme() {
  const theme = document.documentElement.dataset.theme ?? (systemTheme.matches ? "dark" : "light");
  setTheme(theme === "dark" ? "light" : "dark");
}

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
  store.save({ id: windowId, saved: Date.now(), ...studio.plain() })
    .catch(() => failed("this browser cannot store your work over a reload: its storage is full or switched off"));
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
Object.assign(window, { studioPage: { roll, studio, player } }); // for the tests and the console
run(start);
