// Three-way merge of two texts by lines (diff3). What only one side changed merges automatically; where both changed the
// same or neighbouring lines, a person has to choose. No DOM.
//
// The lines are matched by CodeMirror's diff: node-diff3 took 18 s for 5,000 lines in which many are alike.

import { diff } from "../../vendor/codemirror.js";

/** @typedef {"theirs" | "mine" | "both"} Choice both: theirs, then mine */
/**
 * @typedef {object} Settled lines that need no choice
 * @property {"same" | "theirs" | "mine" | "alike"} kind who changed them; alike: both, in the same way
 * @property {string[]} base of the common base
 * @property {string[]} lines of the merged text
 */
/**
 * @typedef {object} Conflict lines that both changed
 * @property {"conflict"} kind
 * @property {string[]} base
 * @property {string[]} theirs
 * @property {string[]} mine
 * @property {string} key unique, and unchanged while other lines change
 * @property {number} line its first line in their text, 1-based
 */
/** @typedef {Settled | Conflict} Part */
/** @typedef {{from: number, to: number, start: number, end: number}} Change lines from-to became start-end; 0-based, ends excluded */

// Beyond this many changed lines the diff is coarser, which may make a conflict larger than necessary. 20,000 lines of
// which no two are alike: 50 ms; it runs while someone types.
const DIFF_LIMITS = { scanLimit: 4000 };
const SURROGATES = 0xd800;
const SURROGATES_COUNT = 0x800;

/**
 * @param {string[]} before
 * @param {string[]} after
 * @returns {Change[]} in order, separated by at least one unchanged line
 */
export function changes(before, after) {
  /** @type {Map<string, string>} one character per distinct line: the diff compares characters */
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
 * @param {string} base the common base
 * @param {string} theirs
 * @param {string} mine
 * @returns {Part[]} in order; joined, they are the merged text
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
  let ahead = { theirs: 0, mine: 0 }; // extra lines of each side compared with the base, up to there
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
 * @returns {{theirs: number, mine: number, alike: number}} lines merged automatically: the lines of each change, or the
 *   removed lines if nothing replaced them
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
