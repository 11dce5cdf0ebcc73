// What a studio's server answers at once, by the name of its address: studio/api.py. `info` is that of `api/info`.
import { partsToJson, readPiece, writeMidi } from "./midi.js";
import { pieceFromJson } from "./schema.js";

const pieceOf = ({ piece }, { limits }) => pieceFromJson(piece, "piece", limits.events);

export const ANSWERS = {
  read: ({ bytes, track = null }, { limits }) => readPiece(bytes, track, limits.other_notes),
  parts: (fields, info) => partsToJson(pieceOf(fields, info).source, info.limits.other_notes),
  midi: (fields, info) => writeMidi(pieceOf(fields, info)),
};
