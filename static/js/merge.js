// Merging two texts that come from the same one, by their lines (diff3). What only one side changed merges by itself;
// where both changed the same or neighbouring lines, somebody has to choose. No DOM.
//
// The lines are matched by CodeMirror's diff: node-diff3 took 18 s for 5,000 lines in which many are alike.

import { diff } from "../vendor/codemirror.js";

/** @typedef {"theirs" | "mine" | "both"} Choice both: theirs, then mine */
/**
 * @typedef {object} Settled lines that need no choice
 * @property {"same" | "theirs" | "mine" | "alike"} kind who changed them; alike: both did, to the same
 * @property {string[]} base as they were
 * @property {string[]} lines as they are in the merged text
 */
/**
 * @typedef {object} Conflict where both changed something
 * @property {"conflict"} kind
 * @property {string[]} base
 * @property {string[]} theirs
 * @property {string[]} mine
 * @property {string} key tells it from other conflicts, and stays the same when others change elsewhere
 * @property {number} line where it begins in their text, 1-based
 */
/** @typedef {Settled | Conflict} Part */
/** @typedef {{from: number, to: number, start: number, end: number}} Change lines from-to became start-end; 0-based, ends not included */

// Beyond these many changed lines it looks less closely, which may make a conflict larger than necessary. 20,000 lines of
// which none is alike: 50 ms; it runs while somebody types.
const DIFF_LIMITS = { scanLimit: 4000 };
const SURROGATES = 0xd800;
const SURROGATES_COUNT = 0x800;

/**
 * @param {string[]} before
 * @param {string[]} after
 * @returns {Change[]} what changed, in order, never two without an unchanged line between them
 */
export function changes(before, after) {
  /** @type {Map<string, string>} a character for each different line: the diff compares characters */
  const characters = new Map();
  const asText = (/** @type {string[]} */ lines) => lines.map((line) => {
    let character = characters.get(line);
    if (character === undefined) {
      const code = characters.size < SURROGATES ? characters.size : characters.size + SURROGATES_COUNT;
      character = String.fromCharCode(code);
      characters.set(line, character);
    }
    return character;
  }).join("");
  const [a, b] = [asText(before), asText(after)];
  if (characters.size + SURROGATES_COUNT > 0x10000) return [{ from: 0, to: before.length, start: 0, end: after.length }];
  return diff(a, b, DIFF_LIMITS).map(({ fromA, toA, fromB, toB }) => ({ from: fromA, to: toA, start: fromB, end: toB }));
}

/**
 * @param {string} base what both come from
 * @param {string} theirs
 * @param {string} mine
 * @returns {Part[]} in order; together they are the merged text
 */
export function merge(base, theirs, mine) {
  const [from, left, right] = [base, theirs, mine].map((text) => text.split("\n"));
  const all = [
    ...changes(from, left).map((change) => ({ ...change, isTheirs: true })),
    ...changes(from, right).map((change) => ({ ...change, isTheirs: false })),
  ].sort((one, other) => one.from - other.from);
  /** @type {Part[]} */
  const parts = [];
  /** @type {Map<string, number>} */
  const seen = new Map();
  let next = 0; // line of the base
  let ahead = { theirs: 0, mine: 0 }; // lines that each side has more than the base, up to there
  for (let index = 0; index < all.length;) {
    const { from: begin } = all[index];
    let { to: end } = all[index];
    /** @type {typeof all} */
    const group = [];
    while (index < all.length && (group.length === 0 || all[index].from <= end)) {
      end = Math.max(end, all[index].to);
      group.push(all[index]);
      index += 1;
    }
    const more = (/** @type {boolean} */ isTheirs) => group.filter((change) => change.isTheirs === isTheirs)
      .reduce((sum, change) => sum + (change.end - change.start) - (change.to - change.from), 0);
    const after = { theirs: ahead.theirs + more(true), mine: ahead.mine + more(false) };
    const conflict = {
      base: from.slice(begin, end),
      theirs: left.slice(begin + ahead.theirs, end + after.theirs),
      mine: right.slice(begin + ahead.mine, end + after.mine),
    };
    if (begin > next) parts.push({ kind: "same", base: from.slice(next, begin), lines: from.slice(next, begin) });
    const kind = group.every(({ isTheirs }) => isTheirs) ? "theirs" : group.some(({ isTheirs }) => isTheirs) ? "conflict" : "mine";
    if (kind !== "conflict") parts.push({ kind, base: conflict.base, lines: conflict[kind] });
    else if (isEqual(conflict.theirs, conflict.mine)) parts.push({ kind: "alike", base: conflict.base, lines: conflict.mine });
    else {
      const text = JSON.stringify([conflict.base, conflict.theirs, conflict.mine]);
      const times = seen.get(text) ?? 0;
      seen.set(text, times + 1);
      parts.push({ kind, ...conflict, key: `${times} ${text}`, line: begin + ahead.theirs + 1 });
    }
    next = end;
    ahead = after;
  }
  if (from.length > next) parts.push({ kind: "same", base: from.slice(next), lines: from.slice(next) });
  return parts;
}

/** @param {Part[]} parts @returns {Conflict[]} */
export const conflicts = (parts) => /** @type {Conflict[]} */ (parts.filter(({ kind }) => kind === "conflict"));

/**
 * @param {Part[]} parts
 * @param {Map<string, Choice>} choices by the key of each conflict
 * @returns {string} the merged text
 */
export function mergedText(parts, choices) {
  return parts.flatMap((part) => {
    if (part.kind !== "conflict") return part.lines;
    const choice = choices.get(part.key);
    if (choice === undefined) throw new Error("a conflict has no choice");
    return choice === "both" ? [...part.theirs, ...part.mine] : part[choice];
  }).join("\n");
}

/**
 * @param {Part[]} parts
 * @returns {{theirs: number, mine: number, alike: number}} lines that merge by themselves: those of a changed stretch,
 *   or those that were there if it is gone
 */
export function countMerged(parts) {
  const counted = { theirs: 0, mine: 0, alike: 0 };
  for (const part of parts) {
    if (part.kind !== "same" && part.kind !== "conflict") counted[part.kind] += part.lines.length || part.base.length;
  }
  return counted;
}

/** @param {string[]} one @param {string[]} other */
const isEqual = (one, other) => one.length === other.length && one.every((line, index) => line === other[index]);
