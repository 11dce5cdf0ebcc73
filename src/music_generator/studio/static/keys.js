// Every shortcut, once: for the keyboard and for the help.
export const SHORTCUTS = [
  ["Listen", [
    [[" "], "play", "play or pause"],
    [["l"], "loop", "loop the span"],
    [["Home"], "home", "to the start"],
    [["End"], "toEnd", "to the end"],
    [["ArrowLeft", "ArrowRight"], "sideways", "playhead by 1 s (Shift: 5 s)"],
  ]],
  ["Write", [
    [["i"], "infill", "infill the span"],
    [["t"], "continue", "continue"],
    [["d"], "lead-in", "lead in"],
    [["b"], "bridge", "bridge to the second piece"],
    [["g"], "compose", "compose"],
    [["ArrowLeft", "ArrowRight"], "sideways", "flick through variations"],
    [["Enter"], "keep", "keep the variation"],
    [["Escape"], "escape", "discard, cancel, deselect"],
  ]],
  ["Select", [
    [["["], "spanFrom", "span begins at the playhead"],
    [["]"], "spanTo", "span ends at the playhead"],
    [[",", "."], "step", "note before, note after"],
    [["Ctrl+a"], "all", "everything"],
  ]],
  ["Edit", [
    [["Delete", "Backspace"], "erase", "delete"],
    [["ArrowLeft", "ArrowRight"], "sideways", "move by 0.01 s (Shift: 0.1 s)"],
    [["ArrowUp", "ArrowDown"], "upDown", "transpose (Shift: an octave)"],
    [["Alt+ArrowUp", "Alt+ArrowDown"], "louder", "velocity"],
    [["Ctrl+c", "Ctrl+x", "Ctrl+v"], "clip", "copy, cut, paste at the playhead"],
    [["Ctrl+z", "Ctrl+Shift+z"], "travel", "undo, redo"],
  ]],
  ["Look and file", [
    [["+", "-"], "zoom", "zoom in, out"],
    [["0"], "fit", "the whole piece"],
    [["Ctrl+o"], "open", "open a MIDI file"],
    [["Ctrl+s"], "save", "save as MIDI"],
    [["?"], "help", "this help"],
  ]],
];

const SIGNS = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", "-": "−" };
const mac = navigator.platform.startsWith("Mac");
const signOf = (part) => SIGNS[part] ?? (part === "Ctrl" && mac ? "⌘" : part.length === 1 ? part.toUpperCase() : part);
const sign = (combo) => (combo === "+" ? combo : combo.split("+").map(signOf).join(" "));

function comboOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const letter = key.length === 1 && key >= "a" && key <= "z";
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${event.shiftKey && letter ? "Shift+" : ""}${key}`;
}

const FIELDS = "input:not([type=checkbox]):not([type=range]), select, textarea, dialog";
const PRESSED = "button, a, summary, input, [role=option]";

/** Call `act(name, event, combo)` for every shortcut; what a field or button needs for itself is left to it. */
export function listen(act) {
  const known = new Map(SHORTCUTS.flatMap(([, rows]) => rows.flatMap(([combos, name]) => combos.map((c) => [c, name]))));
  known.set("Ctrl+y", "travel").set("=", "zoom").set("Ctrl+Shift+a", "escape");
  document.addEventListener("keydown", (event) => {
    const combo = comboOf(event), name = known.get(combo);
    if (!name || event.defaultPrevented || event.isComposing) return;
    const at = event.target instanceof Element ? event.target : document.body;
    if (at.closest(FIELDS) && !(combo === "Ctrl+s" || combo === "Ctrl+o")) return;
    if (at.closest(PRESSED) && [" ", "Enter"].includes(combo)) return;
    if (at.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    if (act(name, event, combo) !== false) event.preventDefault();
  });
}

/** The help's tables, from the same list. */
export function helpTables() {
  return SHORTCUTS.map(([title, rows]) => {
    const section = document.createElement("section"), list = document.createElement("dl");
    section.append(Object.assign(document.createElement("h3"), { textContent: title }), list);
    for (const [combos, , text] of rows) {
      const keys = document.createElement("dt");
      for (const combo of combos) keys.append(Object.assign(document.createElement("kbd"), { textContent: sign(combo) }), " ");
      list.append(keys, Object.assign(document.createElement("dd"), { textContent: text }));
    }
    return section;
  });
}
