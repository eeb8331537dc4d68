// Three-way merge of two texts by lines. A line that only one side changed merges automatically, also beside a line that the
// other side changed. A person chooses where both changed the same line in different ways, where both added lines at the same
// place, and where one added lines beside a line that the other removed. No DOM.
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
/** @typedef {Change & {isTheirs: boolean, isEdit: boolean}} Step a change of one side; `isEdit`: of one line that is still there */

// Beyond this many changed lines the diff is coarser, which may make a conflict larger than necessary. 20,000 lines of
// which no two are alike, each second one changed: 0.5 s; it runs while someone types.
const DIFF_LIMITS = { scanLimit: 4000 };
const SURROGATES = 0xd800;
const SURROGATES_COUNT = 0x800;
const KEY = /^(\s*(?:- +)*[^\s#:'"][^#:]*:)(?=\s|$)/;

/**
 * @param {string[]} before
 * @param {string[]} after
 * @returns {Change[]} in order, separated by at least one unchanged line
 */
export function changes(before, after) {
  const known = new Set(before);
  const isShared = after.some((line) => known.has(line));
  if (!isShared && (before.length || after.length)) return [{ from: 0, to: before.length, start: 0, end: after.length }]; // the diff takes seconds to see that
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
  const all = [...stepsOf(from, left, true), ...stepsOf(from, right, false)].sort((one, other) => one.from - other.from || one.to - other.to);
  /** @type {Part[]} */
  const parts = [];
  /** @type {Map<string, number>} */
  const seen = new Map();
  let next = 0; // line of the base
  let ahead = { theirs: 0, mine: 0 }; // extra lines of each side compared with the base, up to there
  for (const group of groupsOf(all)) {
    const { from: begin, to: end } = group;
    const more = (/** @type {Step[]} */ steps) => steps.reduce((sum, step) => sum + (step.end - step.start) - (step.to - step.from), 0);
    const after = { theirs: ahead.theirs + more(group.theirs), mine: ahead.mine + more(group.mine) };
    const conflict = {
      base: from.slice(begin, end),
      theirs: left.slice(begin + ahead.theirs, end + after.theirs),
      mine: right.slice(begin + ahead.mine, end + after.mine),
    };
    if (begin > next) settle(parts, "same", from.slice(next, begin), from.slice(next, begin));
    const only = group.mine.length === 0 ? "theirs" : group.theirs.length === 0 ? "mine" : null;
    if (only) settle(parts, only, conflict.base, conflict[only]);
    else if (isEqual(conflict.theirs, conflict.mine)) settle(parts, "alike", conflict.base, conflict.mine);
    else {
      const text = JSON.stringify([conflict.base, conflict.theirs, conflict.mine]);
      const times = seen.get(text) ?? 0;
      seen.set(text, times + 1);
      parts.push({ kind: "conflict", ...conflict, key: `${times} ${text}`, line: begin + ahead.theirs + 1 });
    }
    next = end;
    ahead = after;
  }
  if (from.length > next) settle(parts, "same", from.slice(next), from.slice(next));
  return parts;
}

/**
 * @param {Part[]} parts gets the lines, in its last part if that is of the same kind
 * @param {Settled["kind"]} kind
 * @param {string[]} base
 * @param {string[]} lines
 */
function settle(parts, kind, base, lines) {
  const last = parts.at(-1);
  if (last?.kind === kind) {
    last.base.push(...base);
    last.lines.push(...lines);
  } else parts.push({ kind, base, lines });
}

/**
 * The changes of one side, as small as they can be told apart: each edited line is one step, and so are the lines between two
 * edited ones.
 * @param {string[]} before
 * @param {string[]} after
 * @param {boolean} isTheirs
 * @returns {Step[]}
 */
function stepsOf(before, after, isTheirs) {
  /** @type {Step[]} */
  const steps = [];
  const pair = (/** @type {number} */ from, /** @type {number} */ start) => {
    if (before[from] !== after[start]) steps.push({ from, to: from + 1, start, end: start + 1, isTheirs, isEdit: true });
  };
  for (const change of changes(before, after)) {
    let { from, start } = change; // the lines before them are in a step
    const pairUntil = (/** @type {number} */ end) => {
      for (; from < end; from += 1, start += 1) pair(from, start);
    };
    const names = (/** @type {string[]} */ lines) => lines.map((line) => KEY.exec(line)?.[1] ?? line); // edited lines keep their key
    for (const inner of changes(names(before.slice(change.from, change.to)), names(after.slice(change.start, change.end)))) {
      pairUntil(change.from + inner.from);
      const ends = { from: change.from + inner.to, start: change.start + inner.end };
      for (; from < ends.from && start < ends.start && isAlike(before[from], after[start]); from += 1, start += 1) pair(from, start);
      let edited = 0;
      while (from < ends.from - edited && start < ends.start - edited && isAlike(before[ends.from - edited - 1], after[ends.start - edited - 1])) edited += 1;
      const between = { from, to: ends.from - edited, start, end: ends.start - edited };
      if (between.from < between.to || between.start < between.end) steps.push({ ...between, isTheirs, isEdit: false });
      for (; edited > 0; edited -= 1) pair(ends.from - edited, ends.start - edited);
      ({ from, start } = ends);
    }
    pairUntil(change.to);
  }
  return steps;
}

/** @param {string} before @param {string} after @returns {boolean} whether lines without a key are one line that was edited, not another in its place */
function isAlike(before, after) {
  if (KEY.test(before) || KEY.test(after) || before.search(/\S/) !== after.search(/\S/)) return false;
  const [one, two] = [before.trim(), after.trim()];
  const least = Math.min(one.length, two.length);
  let alike = 0;
  while (alike < least && one[alike] === two[alike]) alike += 1;
  let ends = 0;
  while (ends < least - alike && one.at(-1 - ends) === two.at(-1 - ends)) ends += 1;
  return least > 0 && (alike + ends) * 2 >= Math.max(one.length, two.length);
}

/** @typedef {{from: number, to: number, theirs: Step[], mine: Step[]}} Group steps that are decided together, and lines of the base that they span */

/** @param {Step[]} all of both sides, by their place @returns {Group[]} in order */
function groupsOf(all) {
  /** @type {Group[]} */
  const groups = [];
  for (const step of all) {
    const [own, others] = step.isTheirs ? /** @type {const} */ (["theirs", "mine"]) : /** @type {const} */ (["mine", "theirs"]);
    // Two steps of one side can end at one place: a line, and lines added behind it.
    const isWith = (/** @type {Group} */ group) => group[others].slice(-2).some((other) => isClash(step, other));
    let group = groups.at(-1);
    if (!group || !isWith(group)) groups.push(group = { from: step.from, to: step.to, theirs: [], mine: [] });
    for (let before = groups.at(-2); before && isWith(before); before = groups.at(-2)) {
      before.theirs.push(...group.theirs);
      before.mine.push(...group.mine);
      before.to = Math.max(before.to, group.to);
      group = before;
      groups.pop();
    }
    group[own].push(step);
    group.to = Math.max(group.to, step.to);
  }
  return groups;
}

/** @param {Step} one @param {Step} other @returns {boolean} */
function isClash(one, other) {
  if (one.isTheirs === other.isTheirs) return false;
  if (Math.max(one.from, other.from) < Math.min(one.to, other.to)) return true;
  if (one.to < other.from || other.to < one.from) return false; // a line lies between them
  // Side by side. Added lines need a neighbour that is still there, and no other added lines to be ordered with.
  return (isAdding(one) && !other.isEdit) || (isAdding(other) && !one.isEdit);
}

/** @param {Step} step @returns {boolean} whether it has lines that are no edited ones */
const isAdding = ({ start, end, isEdit }) => !isEdit && end > start;

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
