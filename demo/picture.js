// The piano roll of a piece as a PNG.
import { HIGHEST, LOWEST, PEDALS, fromJson, isNote } from "./piece.js";

const WIDTH = 1800, ROW = 8, TITLE = 48, AXIS = 32, LANE = 16, MARGIN = 24; // pixels
const PAPER = "#ffffff", INK = "#222222", LINE = "#e4e4e4", GIVEN = "#2b62b8", MADE = "#d2691e";
const BARE_SECONDS = 1; // of a piece without events
const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600]; // seconds between two lines
const MOST_LINES = 20;

/** The picture of a piece with its title; what begins in the span has the colour of the model's notes. */
export function drawPicture(piece, title, span = [0, 0]) {
  const events = fromJson(piece), seconds = events.reduce((end, { onset, duration }) => Math.max(end, onset + duration), BARE_SECONDS);
  const notesHeight = (HIGHEST - LOWEST + 1) * ROW, height = TITLE + notesHeight + PEDALS.length * LANE + AXIS;
  const canvas = new OffscreenCanvas(WIDTH, height), pen = canvas.getContext("2d"), scale = (WIDTH - 2 * MARGIN) / seconds;
  const rect = (color, x, y, width, high) => { pen.fillStyle = color; pen.fillRect(x, y, width, high); };
  rect(PAPER, 0, 0, WIDTH, height);
  drawTimes(pen, seconds, scale, height, rect);
  pen.font = "22px sans-serif";
  pen.fillText(title, MARGIN, 32);
  for (const event of events) {
    const { onset, duration, key, velocity } = event, row = isNote(event) ? (HIGHEST - key) * ROW : notesHeight + key * LANE;
    pen.globalAlpha = 0.35 + (0.65 * velocity) / 127;
    const color = onset >= span[0] && onset < span[1] ? MADE : GIVEN;
    rect(color, MARGIN + onset * scale, TITLE + row, Math.max(duration * scale, 1), (isNote(event) ? ROW : LANE) - 2);
  }
  return canvas.convertToBlob({ type: "image/png" });
}

function drawTimes(pen, seconds, scale, height, rect) {
  const step = STEPS.find((each) => seconds / each <= MOST_LINES) ?? Math.ceil(seconds / MOST_LINES);
  pen.font = "14px sans-serif";
  for (let second = 0; second <= seconds; second += step) {
    rect(LINE, MARGIN + second * scale, TITLE, 1, height - TITLE - AXIS);
    pen.fillStyle = INK;
    pen.fillText(`${second} s`, MARGIN + second * scale, height - 10);
  }
}
