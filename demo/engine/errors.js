// Errors that a user can correct, and numbers and texts in their messages as Python writes them.

/** An argument is out of range or does not fit another one; `code` as in docs/studio.md. */
export class InputError extends Error {
  code = "input";
}

/** A MIDI file cannot be read. */
export class MidiError extends InputError {
  code = "midi";
}

/** Python's `f"{x:g}"`. */
export function general(x) {
  if (x === 0 || !Number.isFinite(x)) return String(x);
  const [mantissa, exponent] = x.toExponential(5).split("e");
  if (exponent >= -4 && exponent < 6) return String(Number(x.toPrecision(6)));
  return `${Number(mantissa)}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
}

/** Python's `repr` of a float. */
export function float(x) {
  if (x === 0 || (Math.abs(x) >= 1e-4 && Math.abs(x) < 1e16)) return Number.isInteger(x) ? x.toFixed(1) : String(x);
  const [mantissa, exponent] = x.toExponential().split("e");
  return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
}

/** A text as one word of a command line: Python's `shlex.quote`. */
export const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

/** A number of seconds with two decimals. */
export const hundredths = (x) => x.toFixed(2);

/** Python's `repr` of a text. */
export const shownText = (text) =>
  (text.includes("'") && !text.includes('"') ? `"${text}"` : `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`);
