// The page: ties the studio (what is so) to the roll, the player, the panels and the keyboard.
import { clock, isNote, toWire } from "./piece.js";
import { listen as listenToKeys } from "./keys.js";
import { $, Panels } from "./panels.js";
import { listen as listenToPointers } from "./pointer.js";
import { Player } from "./player.js";
import { Roll } from "./roll.js";
import * as server from "./server.js";
import * as store from "./store.js";
import { Studio } from "./studio.js";
import { TakeAway } from "./takeaway.js";

const roll = new Roll($("roll"), $("base"), $("over"));
const studio = new Studio({ changed, failed, said, streamed });
const player = new Player([$("audio-a"), $("audio-b")], playerChanged);
const takeAway = new TakeAway(studio);
const panels = new Panels(studio, { run, write, takeAway, again, focusRoll });
const wires = new WeakMap();
let here = null, saving = 0, looping = false, statusTimer = 0;

// --- what happened -----------------------------------------------------------------------------------------------

function changed(what) {
  const { choice } = studio, strokes = studio.strokes;
  const band = choice?.variations.length ? [choice.start, choice.end] : null;
  if (["opened", "written", "kept", "travelled", "edited", "discarded"].includes(what)) keepWork();
  roll.show(strokes, studio.chosen, band);
  const current = choice?.variations[choice.current];
  if (current && !current.done) for (const stroke of current.strokes) roll.add(stroke);
  roll.span = studio.span;
  if (what === "opened") { stop(); roll.fit(null, true); }
  if (what === "kept" && studio.history.steps.at(-1)?.label.startsWith("Compose")) roll.fit();
  if (what === "begun") begun(choice);
  if (["flicked", "travelled", "edited"].includes(what) && player.playing) play(what === "flicked" ? choice.start : player.now);
  if (what === "sought") { studio.playhead = studio.chosenStrokes[0].on; roll.follow(studio.playhead); }
  showTime();
  const within = $("choice").contains(document.activeElement);
  panels.show(what);
  if (within && !choice) focusRoll(); // the bar is gone: the focus is not to be lost with it
}

function begun(choice) {
  if (player.playing) stop();
  studio.playhead = Math.max(0, choice.start - 2);
  const inSight = roll.inSight(choice.start) && roll.inSight(choice.end);
  roll.end = Math.max(roll.end, choice.end);
  if (choice.task === "compose") roll.fit(); else if (!inSight) roll.fit([choice.start, choice.end]);
}

function streamed(strokes) {
  for (const stroke of strokes) roll.add(stroke);
  panels.writing();
}

function failed(message) {
  $("error").hidden = false;
  $("error").firstElementChild.textContent = message;
}

function said(message) {
  const status = $("status");
  status.textContent = message;
  status.classList.add("seen");
  clearTimeout(statusTimer);
  statusTimer = setTimeout(() => status.classList.remove("seen"), 2600);
}

/** Do something; what goes wrong is one line, and nothing is lost. */
async function run(action) {
  try { await action(); } catch (error) { failed(error.message); }
}

function write(task) {
  $("error").hidden = true;
  run(() => studio.write(task, panels.controls(task)));
  $("keep").focus({ preventScroll: true });
}

function again() {
  const { task } = studio.choice, { asked } = studio.choice;
  studio.discard();
  if (asked.from !== undefined) studio.setSpan(asked.from, asked.to);
  run(() => studio.write(task, { ...panels.controls(task), seed: null }));
}

// --- listening ---------------------------------------------------------------------------------------------------

function play(at = studio.playhead) {
  const { strokes, history, span, end } = studio;
  if (!strokes.some(isNote)) { said("There is nothing to play yet"); return; }
  const loop = looping ? span : null, start = at >= end - 0.05 ? 0 : at;
  player.play(played(strokes, history.facts.tempo_map), start, end, loop);
}

/** A piece as the player takes it; the same one for the same strokes, so that it knows what it has. */
function played(strokes, tempoMap) {
  if (!wires.has(strokes)) wires.set(strokes, toWire(strokes, tempoMap));
  return wires.get(strokes);
}

function stop() {
  if (!player.playing) return;
  player.stop();
  studio.playhead = player.time;
  playerChanged();
}

function toggle() { if (player.playing) stop(); else play(); }

function seek(seconds) {
  studio.playhead = Math.min(Math.max(0, seconds), Math.max(studio.end, 0));
  if (player.playing) play();
  roll.follow(studio.playhead);
  showTime();
}

function playerChanged(error) {
  if (error) failed(error);
  if (!player.playing) studio.playhead = player.time;
  $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  $("play").querySelector("use").setAttribute("href", player.playing ? "#i-pause" : "#i-play");
  $("play").ariaBusy = player.waiting;
  $("engine").textContent = player.engine;
  if (player.playing) requestAnimationFrame(tick); else { roll.down = []; showTime(); }
}

function tick() {
  if (!player.playing) return;
  const now = player.now, last = studio.playhead;
  if (now !== last) {
    studio.playhead = now;
    roll.down = studio.strokes.filter((s) => isNote(s) && s.on <= now && s.on + s.dur > now).map((s) => s.key);
    if (roll.inSight(last)) roll.follow(now); // who scrolled away is not pulled back
    showTime();
  }
  requestAnimationFrame(tick);
}

function showTime() {
  roll.playhead = studio.playhead;
  roll.loop = looping;
  $("now").textContent = clock(studio.playhead);
  $("total").textContent = clock(studio.end);
  roll.redraw("over");
}

function toggleLoop() {
  looping = !looping;
  $("loop").setAttribute("aria-pressed", looping);
  if (looping && !studio.span) said("Select a span to loop it");
  if (player.playing) play(player.now);
  showTime();
}

// --- the keyboard ------------------------------------------------------------------------------------------------

const signOf = (event) => (["ArrowLeft", "ArrowDown"].includes(event.key) ? -1 : 1);
const ACTIONS = {
  play: toggle,
  loop: toggleLoop,
  home: () => seek(0),
  toEnd: () => seek(studio.end),
  sideways(event) {
    if (studio.choice) studio.flick(signOf(event));
    else if (studio.chosen.size) studio.move(signOf(event) * (event.shiftKey ? 0.1 : 0.01), 0);
    else seek(studio.playhead + signOf(event) * (event.shiftKey ? 5 : 1));
  },
  upDown: (event) => (studio.chosen.size ? studio.move(0, signOf(event) * (event.shiftKey ? 12 : 1)) : false),
  louder: (event) => studio.setVelocity((vel) => vel + 4 * signOf(event), signOf(event) > 0 ? "Raise velocity" : "Lower velocity"),
  keep: () => (studio.choice ? studio.keep() : false),
  escape() {
    if (studio.choice) studio.discard();
    else if (studio.chosen.size) studio.choose([]);
    else studio.setSpan(0, 0);
  },
  spanFrom: () => studio.setSpan(studio.playhead, studio.span?.[1] > studio.playhead ? studio.span[1] : studio.playhead + 4),
  spanTo: () => studio.setSpan(studio.span?.[0] < studio.playhead ? studio.span[0] : studio.playhead - 4, studio.playhead),
  step: (event) => studio.chooseNext(event.key === "." ? 1 : -1),
  all: () => studio.chooseAll(),
  erase: () => studio.erase(),
  clip: (event, combo) => ({ c: () => studio.copy(), x: () => studio.cut(), v: () => studio.paste() })[combo.at(-1)](),
  travel: (event, combo) => (combo === "Ctrl+z" ? studio.undo() : studio.redo()),
  zoom: (event) => roll.zoom(event.key === "-" ? 1 / 1.5 : 1.5),
  fit: () => roll.fit(),
  open: () => $("file").click(),
  save: () => run(() => takeAway.midi()),
  help: () => $("help-box").showModal(),
};
for (const task of ["infill", "continue", "lead-in", "bridge", "compose"]) ACTIONS[task] = () => write(task);
listenToKeys((name, event, combo) => ACTIONS[name](event, combo));

listenToPointers(roll, {
  seek,
  canEdit: () => !studio.choice,
  isChosen: (id) => studio.chosen.has(id),
  choose: (ids, add) => studio.choose(ids, add),
  clear: () => { if (studio.chosen.size) studio.choose([]); },
  setSpan: (a, b) => studio.setSpan(a, b),
  move: (seconds, semitones, final) => { if (studio.chosen.size) studio.move(seconds, semitones, final); },
});

const CLICKS = {
  play: toggle, loop: toggleLoop, "to-start": () => seek(0), fit: () => roll.fit(), undo: () => studio.undo(),
  redo: () => studio.redo(), "zoom-in": () => roll.zoom(1.5), "zoom-out": () => roll.zoom(1 / 1.5), help: ACTIONS.help,
  open: ACTIONS.open, new: () => studio.startAnew(), "empty-open": ACTIONS.open, "empty-compose": () => write("compose"),
  "empty-example": () => run(() => studio.openExample()), theme: toggleTheme,
};
for (const [id, action] of Object.entries(CLICKS)) $(id).addEventListener("click", () => action());
$("error").querySelector("button").addEventListener("click", () => { $("error").hidden = true; });
// after a click of the mouse the keys belong to the roll again
document.addEventListener("click", (event) => {
  if (event.detail && event.target.closest("button") && !event.target.closest("dialog")) focusRoll();
});

function focusRoll() { $("roll").focus({ preventScroll: true }); }

// --- light, dark, and what is kept ---------------------------------------------------------------------------------

function toggleTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(dark ? "light" : "dark");
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  store.setSetting("theme", theme);
  roll.restyle();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => roll.restyle());

function keepWork(at = 250) {
  clearTimeout(saving);
  saving = setTimeout(() => { saving = 0; storeWork(); }, at);
}

function storeWork() {
  if (!here || !(studio.history.steps.length || studio.choice)) return;
  store.save({ id: here, saved: Date.now(), ...studio.plain() }).catch(() => failed("this browser keeps no work over a reload: its storage is full or switched off"));
}
addEventListener("pagehide", () => { if (saving) storeWork(); });

async function start() {
  setTheme(store.setting("theme"));
  const asked = server.info();
  const { id, from } = await store.windowId();
  here = id;
  const work = await store.load(from).catch(() => null);
  if (work) studio.restore(work); else panels.showRecent(await store.recent().catch(() => []));
  panels.start(await asked);
  changed(work ? "restored" : "started");
  if (!work) roll.fit(null, true);
  document.documentElement.dataset.ready = "yes";
}
Object.assign(window, { studioPage: { roll, studio, player } }); // for the tests and the console
run(start);
