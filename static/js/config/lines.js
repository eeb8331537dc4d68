// A text as bytes and as lines: keeps what an editor loses (byte order mark, line ends). No DOM.

import { changes } from "./merge.js";

const BOM = "\ufeff";

/**
 * @typedef {object} Original the loaded text
 * @property {boolean} hasBom
 * @property {string[]} lines without their ends
 * @property {string[]} ends "\n", "\r\n" or "\r" of each line; "" for the last
 */

/**
 * @param {BufferSource} bytes
 * @returns {Original}
 * @throws {TypeError} the bytes are not UTF-8
 */
export function decode(bytes) {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  const hasBom = text.startsWith(BOM);
  const pieces = (hasBom ? text.slice(1) : text).split(/(\r\n|\r|\n)/);
  return {
    hasBom,
    lines: pieces.filter((_, index) => index % 2 === 0),
    ends: [...pieces.filter((_, index) => index % 2 === 1), ""],
  };
}

/**
 * The bytes to save: unchanged lines keep their line end, new lines get the commonest one.
 * @param {Original} original
 * @param {string} text with "\n" at every line end
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encode(original, text) {
  const lines = text.split("\n");
  const kept = matchLines(original.lines, lines);
  const common = commonestEnd(original.ends);
  const out = lines.map((line, index) => {
    if (index === lines.length - 1) return line;
    const own = kept[index] === -1 ? "" : original.ends[kept[index]];
    return line + (own || common);
  });
  out.forEach((line, index) => {
    // A bare carriage return before an empty line that ends with a line feed would be read as one line end.
    if (line.endsWith("\r") && out[index + 1]?.startsWith("\n")) out[index] += "\n";
  });
  return new TextEncoder().encode((original.hasBom ? BOM : "") + out.join(""));
}

/** @param {string[]} ends @returns {string} "\n" for a text of one line */
function commonestEnd(ends) {
  let best = "\n";
  let bestCount = 0;
  for (const end of ["\n", "\r\n", "\r"]) {
    const found = ends.filter((one) => one === end).length;
    if (found > bestCount) [best, bestCount] = [end, found];
  }
  return best;
}

/**
 * Which lines of a text existed before.
 * @param {string[]} before
 * @param {string[]} after
 * @returns {number[]} for each line of `after` its index in `before`, or -1
 */
export function matchLines(before, after) {
  // Most edits touch one spot: only the lines between equal beginnings and equal endings are diffed.
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let alike = 0;
  while (alike < Math.min(before.length, after.length) - start && before.at(-1 - alike) === after.at(-1 - alike)) alike += 1;
  const end = after.length - alike;
  const match = after.map((_, index) => (index < start ? index : index < end ? -1 : index - after.length + before.length));
  let from = start; // in `before`, of the line at `at` in `after`
  let at = start;
  const keep = (/** @type {number} */ until) => {
    for (; at < until; at += 1, from += 1) match[at] = from;
  };
  if (start < end && start < before.length - alike) {
    for (const change of changes(before.slice(start, before.length - alike), after.slice(start, end))) {
      keep(start + change.start);
      at = start + change.end;
      from = start + change.to;
    }
    keep(end);
  }
  return match;
}
