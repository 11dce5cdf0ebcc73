// Files that the user opens: chosen in a dialog or dropped on the page.
import { $, onClick } from "./panels.js";
import { isNote } from "./piece.js";

/** Open files as the user chooses or drops them. `run` reports the error of an action.
 * @param {Studio} studio @param {(action: () => Promise<void>) => void} run */
export function listenToFiles(studio, run) {
  /** @param {File[]} files */
  const open = ([first, second, ...more]) => run(async () => {
    if (first) await studio.open(first);
    if (second) await studio.openSecond(second);
    if (more.length) throw new Error(`two files are opened, the piece and what Bridge leads to; not opened: ${more.map((file) => file.name).join(", ")}`);
  });
  /** @param {File[]} files */
  const openSecond = ([file]) => run(async () => { if (file) await studio.openSecond(file); });
  onClick("second", () => $("second-file").click());
  listenToField($("file"), open);
  listenToField($("second-file"), openSecond);
  listenToDrops({ open, second: openSecond }, () => studio.history.events.some(isNote));
}

/** @param {HTMLInputElement} field @param {(files: File[]) => void} take */
function listenToField(field, take) {
  field.addEventListener("change", () => {
    const files = [...field.files ?? []];
    field.value = ""; // so that the same file can be chosen again
    take(files);
  });
}

/** Show the drop zones while a file is dragged over the page; the zone for a second piece only if there is a first.
 * @param {Record<string, (files: File[]) => void>} takers @param {() => boolean} hasPiece */
function listenToDrops(takers, hasPiece) {
  const zones = [...$("drop").querySelectorAll("div")];
  /** @param {DragEvent} event */
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  /** @param {"dragenter" | "dragover" | "drop"} name @param {(event: DragEvent) => void} action */
  const listen = (name, action) => addEventListener(name, (event) => { if (hasFiles(event)) action(event); });
  listen("dragenter", () => {
    for (const zone of zones) zone.hidden = zone.dataset.drop === "second" && !hasPiece();
    $("drop").hidden = false;
  });
  listen("dragover", (event) => {
    event.preventDefault();
    for (const zone of zones) zone.classList.toggle("over", zone === event.target);
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  listen("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    const zone = zones.find((each) => each === event.target);
    takers[zone?.dataset.drop ?? "open"]([...event.dataTransfer?.files ?? []]);
  });
}
