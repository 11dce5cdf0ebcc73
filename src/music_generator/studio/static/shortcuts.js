// The keyboard shortcuts: one table for the keyboard and for the help.
/** Each section with its rows: the keys, the name of the action, and what it does. @type {[string, [string[], string, string][]][]} */
const SHORTCUTS = [
  ["Listen", [
    [[" "], "play", "play or pause"],
    [["l"], "loop", "loop the span"],
    [["r"], "record", "record what is played"],
    [["Shift+t"], "trade", "trade phrases with the model"],
    [["Home"], "start", "to the start"],
    [["End"], "end", "to the end"],
    [["ArrowLeft", "ArrowRight"], "horizontal", "playhead by 1 s (Shift: 5 s)"],
  ]],
  ["Write", [
    [["i"], "infill", "infill the span"],
    [["t"], "continue", "continue"],
    [["d"], "lead-in", "lead in"],
    [["b"], "bridge", "bridge to the second piece"],
    [["g"], "compose", "compose"],
    [["ArrowLeft", "ArrowRight"], "horizontal", "previous, next variation"],
    [["k"], "rewrite", "rewrite around the selected notes"],
    [["o"], "compare", "variation or original"],
    [["m"], "more", "more variations"],
    [["Enter"], "keep", "keep the variation"],
    [["Escape"], "escape", "discard, cancel, deselect"],
  ]],
  ["Select", [
    [["["], "spanStart", "span begins at the playhead"],
    [["]"], "spanEnd", "span ends at the playhead"],
    [[",", "."], "nextNote", "previous note, next note"],
    [["Ctrl+a"], "selectAll", "everything"],
    [["v", "p", "h"], "tool", "select, draw, scroll"],
  ]],
  ["Edit", [
    [["Delete", "Backspace"], "erase", "delete"],
    [["ArrowLeft", "ArrowRight"], "horizontal", "move by the grid or 0.01 s (Shift: 0.1 s)"],
    [["ArrowUp", "ArrowDown"], "vertical", "transpose (Shift: an octave)"],
    [["Alt+ArrowLeft", "Alt+ArrowRight"], "resize", "shorter, longer"],
    [["Alt+ArrowUp", "Alt+ArrowDown"], "velocity", "velocity"],
    [["n"], "draw", "draw a note at the playhead"],
    [["Ctrl+d"], "duplicate", "duplicate"],
    [["s", "q"], "splitOrQuantise", "split, quantise"],
    [["Ctrl+c", "Ctrl+x", "Ctrl+v"], "clipboard", "copy, cut, paste at the playhead"],
    [["Ctrl+z", "Ctrl+Shift+z"], "history", "undo, redo"],
  ]],
  ["View and file", [
    [["+", "-"], "zoom", "zoom in, out"],
    [["Alt++", "Alt+-"], "zoomRows", "higher, lower keys"],
    [["PageUp", "PageDown"], "page", "scroll up, down"],
    [["0"], "fit", "the whole piece"],
    [["Ctrl+o"], "open", "open a MIDI file"],
    [["Ctrl+s"], "save", "save as MIDI"],
    [["?"], "help", "this help"],
  ]],
];
/** @type {Record<string, string>} */
const NOT_IN_HELP = { "Ctrl+y": "history", "=": "zoom", "Alt+=": "zoomRows", "Ctrl+Shift+a": "escape" };

/** @type {Record<string, string>} */
const SIGNS = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", "-": "−" };
const isMac = navigator.platform.startsWith("Mac");
/** @param {string} part */
const signOf = (part) => SIGNS[part] ?? (part === "Ctrl" && isMac ? "⌘" : part.length === 1 ? part.toUpperCase() : part);
/** @param {string} combo */
const labelOf = (combo) => combo.split(/\+(?=.)/).map(signOf).join(" ");

/** @param {KeyboardEvent} event */
function comboOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, isLetter = /^[a-z]$/.test(key);
  const modifiers = [(event.ctrlKey || event.metaKey) && "Ctrl+", event.altKey && "Alt+", event.shiftKey && isLetter && "Shift+"];
  return modifiers.filter(Boolean).join("") + key;
}

const FIELDS = "input:not([type=checkbox]):not([type=range]), select, textarea, dialog";
const PRESSABLE = "button, a, summary, input, [role=option]";

/** Return whether a field or a button needs the key for itself. @param {Element} element @param {KeyboardEvent} event @param {string} combo */
function belongsTo(element, event, combo) {
  if (element.closest(FIELDS)) return combo !== "Ctrl+s" && combo !== "Ctrl+o";
  if (element.closest(PRESSABLE) && [" ", "Enter"].includes(combo)) return true;
  return element.matches("input[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key);
}

/** Call `act(name, event, combo)` for each shortcut that is pressed; `act` returns false if it did nothing.
 * @param {(name: string, event: KeyboardEvent, combo: string) => unknown} act */
export function listenToShortcuts(act) {
  /** @type {Map<string, string>} */
  const names = new Map();
  for (const [, rows] of SHORTCUTS) for (const [combos, name] of rows) for (const combo of combos) names.set(combo, name);
  for (const [combo, name] of Object.entries(NOT_IN_HELP)) names.set(combo, name);
  document.addEventListener("keydown", (event) => {
    const combo = comboOf(event), name = names.get(combo);
    if (!name || event.defaultPrevented || event.isComposing) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (belongsTo(target, event, combo)) return;
    if (act(name, event, combo) !== false) event.preventDefault();
  });
}

/** The tables of the help. */
export function helpTables() {
  return SHORTCUTS.map(([title, rows]) => {
    const section = document.createElement("section"), list = document.createElement("dl");
    section.append(Object.assign(document.createElement("h3"), { textContent: title }), list);
    for (const [combos, , text] of rows) {
      const keys = document.createElement("dt");
      for (const combo of combos) {
        keys.append(Object.assign(document.createElement("kbd"), { textContent: labelOf(combo) }), " ");
      }
      list.append(keys, Object.assign(document.createElement("dd"), { textContent: text }));
    }
    return section;
  });
}
