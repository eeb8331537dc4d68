// A text's bytes and its lines: what a textarea would lose (byte order mark, line ends) is kept here. No DOM.

const BOM = "\ufeff";

/**
 * @typedef {object} Original the text as it was loaded
 * @property {boolean} hasBom
 * @property {string[]} lines without their ends
 * @property {string[]} ends "\n", "\r\n" or "\r" of each line; "" for the last
 */

/**
 * @param {ArrayBuffer} buffer
 * @returns {Original}
 * @throws {TypeError} the bytes are no UTF-8
 */
export function decode(buffer) {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(buffer);
  const hasBom = text.startsWith(BOM);
  const pieces = (hasBom ? text.slice(1) : text).split(/(\r\n|\r|\n)/);
  return {
    hasBom,
    lines: pieces.filter((_, index) => index % 2 === 0),
    ends: [...pieces.filter((_, index) => index % 2 === 1), ""],
  };
}

/**
 * The bytes to save: lines that were not touched keep their own line end, new ones get the commonest.
 * @param {Original} original
 * @param {string} text as the textarea gives it, every line end a "\n"
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

const MAX_TABLE = 4_000_000; // cells of the table below: 16 MB, a tenth of a second

/**
 * Which lines of a text were there before (longest common subsequence).
 * @param {string[]} before
 * @param {string[]} after
 * @returns {number[]} for each line of `after` its index in `before`, or -1
 */
export function matchLines(before, after) {
  /** @type {number[]} */
  const match = new Array(after.length).fill(-1);
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) {
    match[start] = start;
    start += 1;
  }
  let beforeEnd = before.length;
  let afterEnd = after.length;
  while (beforeEnd > start && afterEnd > start && before[beforeEnd - 1] === after[afterEnd - 1]) {
    beforeEnd -= 1;
    afterEnd -= 1;
    match[afterEnd] = beforeEnd;
  }
  const rows = beforeEnd - start;
  const columns = afterEnd - start;
  if (rows * columns === 0 || rows * columns > MAX_TABLE) return match;
  const width = columns + 1;
  const longest = new Uint32Array((rows + 1) * width);
  for (let row = rows - 1; row >= 0; row -= 1) {
    for (let column = columns - 1; column >= 0; column -= 1) {
      longest[row * width + column] = before[start + row] === after[start + column]
        ? longest[(row + 1) * width + column + 1] + 1
        : Math.max(longest[(row + 1) * width + column], longest[row * width + column + 1]);
    }
  }
  for (let row = 0, column = 0; row < rows && column < columns;) {
    if (before[start + row] === after[start + column]) {
      match[start + column] = start + row;
      row += 1;
      column += 1;
    } else if (longest[(row + 1) * width + column] >= longest[row * width + column + 1]) row += 1;
    else column += 1;
  }
  return match;
}

/** @typedef {{kind: "same" | "removed" | "added", text: string}} DiffLine */

/**
 * @param {string[]} before
 * @param {string[]} after
 * @returns {DiffLine[]} every line of both, in order
 */
export function diff(before, after) {
  /** @type {DiffLine[]} */
  const out = [];
  /** @type {DiffLine[]} those after the lines that they stand for */
  let added = [];
  let next = 0;
  const flush = (/** @type {number} */ until) => {
    for (; next < until; next += 1) out.push({ kind: "removed", text: before[next] });
    out.push(...added);
    added = [];
  };
  matchLines(before, after).forEach((from, index) => {
    if (from === -1) {
      added.push({ kind: "added", text: after[index] });
      return;
    }
    flush(from);
    out.push({ kind: "same", text: after[index] });
    next = from + 1;
  });
  flush(before.length);
  return out;
}
