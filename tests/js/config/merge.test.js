// Three-way merge by lines.

import assert from "node:assert/strict";
import { test } from "node:test";

import { changes, conflicts, countMerged, merge, mergedText } from "../../../static/js/config/merge.js";
import { Random } from "../random.js";

/** @typedef {import("../../../static/js/config/merge.js").Part} Part */

/** @param {string[]} lines @param {Random} random @returns {string[]} what somebody made of them */
function edited(lines, random) {
  const out = [...lines];
  for (let edits = random.below(5); edits > 0; edits -= 1) {
    const at = random.below(out.length + 1);
    const kind = random.choice(["insert", "remove", "change"]);
    if (kind === "insert") out.splice(at, 0, ...Array.from({ length: 1 + random.below(3) }, () => `line ${random.below(9)}`));
    else if (kind === "remove") out.splice(at, 1 + random.below(3));
    else if (at < out.length) out[at] = `changed ${random.below(9)}`;
  }
  return out.length ? out : [""];
}

/** @param {Part[]} parts @param {"base" | "theirs" | "mine"} whose @returns {string[]} that text, put together from the parts */
function side(parts, whose) {
  return parts.flatMap((part) => {
    if (part.kind === "conflict") return part[whose];
    const isOthers = part.kind === { base: "", theirs: "mine", mine: "theirs" }[whose];
    return whose === "base" || isOthers ? part.base : part.lines;
  });
}

/** @param {string[]} lines @param {number} index from the end if negative @param {string} line @returns {string[]} */
const replaced = (lines, index, line) => lines.map((one, at) => (at === index || at === lines.length + index ? line : one));

/** @param {string[]} base @param {string[]} theirs @param {string[]} mine */
const mergeLines = (base, theirs, mine) => merge(base.join("\n"), theirs.join("\n"), mine.join("\n"));

test("the parts of a merge hold all three texts", (t) => {
  const random = new Random(t);
  let found = 0;
  for (let index = 0; index < 1000; index += 1) {
    const base = Array.from({ length: 1 + random.below(24) }, () => `line ${random.below(9)}`);
    const [theirs, mine] = [edited(base, random), edited(base, random)];
    const parts = mergeLines(base, theirs, mine);
    assert.deepEqual(side(parts, "base"), base);
    assert.deepEqual(side(parts, "theirs"), theirs);
    assert.deepEqual(side(parts, "mine"), mine);
    const clashes = conflicts(parts);
    found += clashes.length;
    const isOneSided = [theirs, mine].some((lines) => lines.join("\n") === base.join("\n"));
    assert.ok(clashes.length === 0 || !isOneSided, "what only one side changed merges automatically");
    assert.equal(new Set(clashes.map(({ key }) => key)).size, clashes.length, "keys are unique");
    for (const clash of clashes) {
      assert.notDeepEqual(clash.theirs, clash.mine, "equal changes are no conflict");
      assert.deepEqual(theirs.slice(clash.line - 1, clash.line - 1 + clash.theirs.length), clash.theirs);
    }
  }
  assert.ok(found > 100, `only ${found} conflicts: the cases were too easy`);
});

/** @param {Part[]} parts @returns {string} its kinds, and the lines that a person need not choose */
const told = (parts) => parts.map(({ kind, ...part }) => `${kind}: ${"lines" in part ? part.lines : [part.theirs, part.mine].join(" | ")}`).join("; ");

test("what each changed on neighbouring lines is merged without a question", () => {
  const parts = mergeLines(["a: 1", "b: 1"], ["a: 2", "b: 1"], ["a: 1", "b: 2"]);
  assert.equal(mergedText(parts, new Map()), "a: 2\nb: 2");
  assert.equal(mergedText(mergeLines(["a:1", "b:1"], ["a:2", "b:1"], ["a:1", "b:2"]), new Map()), "a:2\nb:2");
  assert.equal(told(mergeLines(["a", "b", "c", "d"], ["a", "B", "c", "d"], ["a", "b", "c", "D"])), "same: a; theirs: B; same: c; mine: D");
});

test("a conflict holds the lines that both changed, not their neighbours", () => {
  const parts = mergeLines(["a: 1", "b: 1", "c: 1"], ["a: 2", "b: 2", "c: 1"], ["a: 1", "b: 3", "c: 3"]);
  assert.equal(told(parts), "theirs: a: 2; conflict: b: 2 | b: 3; mine: c: 3");
});

test("lines that both add at one place conflict unless they are the same", () => {
  const base = ["a", "b", "c", "d"];
  assert.equal(told(mergeLines(base, [...base, "x"], [...base, "y"])), "same: a,b,c,d; conflict: x | y");
  assert.equal(told(mergeLines(base, [...base, "x"], [...base, "x"])), "same: a,b,c,d; alike: x");
});

test("a line that one adds beside lines that the other removed or replaced is a conflict, beside an edited line it is not", () => {
  const base = ["size: 1", "quality:", "  webp: 82", "last: 1"];
  const mine = ["size: 1", "quality:", "  png: 9", "  webp: 82", "last: 1"];
  assert.equal(conflicts(mergeLines(base, ["size: 1", "last: 1"], mine)).length, 1, "removed around it");
  assert.equal(conflicts(mergeLines(base, ["size: 1", "quality:", "last: 1"], mine)).length, 1, "removed behind it");
  assert.equal(conflicts(mergeLines(base, ["size: 1", "mode:", "  fast: 1", "last: 1"], mine)).length, 1, "replaced around it");
  const merged = mergeLines(base, ["size: 1", "quality: # good", "  webp: 90", "last: 1"], mine);
  assert.equal(mergedText(merged, new Map()), "size: 1\nquality: # good\n  png: 9\n  webp: 90\nlast: 1");
});

test("a conflict over a removed block gives back the whole block", () => {
  const base = ["a: 1", "quality:", "  webp: 82", "  png: 9", "z: 1"];
  const parts = mergeLines(base, ["a: 1", "z: 1"], replaced(base, 2, "  webp: 90"));
  const [{ key }] = conflicts(parts);
  assert.equal(mergedText(parts, new Map([[key, "mine"]])), "a: 1\nquality:\n  webp: 90\n  png: 9\nz: 1");
  assert.equal(mergedText(parts, new Map([[key, "theirs"]])), "a: 1\nz: 1");
});

/** @typedef {{lines: (string | null)[], added: string[][]}} Edits each line of the base afterwards, null if removed; the lines added before each, and at the end */

/** @param {number} length @param {Random} random @param {string} who @returns {Edits} of a base whose line i is `key_i: 0` */
function randomEdits(length, random, who) {
  let serial = 0;
  const lines = Array.from({ length }, (_, index) => (random.below(5) ? `key_${index}: 0` : random.below(3) ? `key_${index}: ${1 + random.below(3)}` : null));
  const added = Array.from({ length: length + 1 }, () => Array.from({ length: random.below(8) ? 0 : 1 + random.below(2) }, () => (random.below(6) ? `${who}_${serial += 1}: x` : "both: x")));
  return { lines, added };
}

/** @param {Edits} edits @returns {string[]} the text after them */
const applied = ({ lines, added }) => [...lines.flatMap((line, index) => [...added[index], ...(line === null ? [] : [line])]), ...added[lines.length]];

/** @param {Edits} edits @param {number} place @returns {boolean} whether a line beside that place is removed */
const isCut = ({ lines }, place) => lines[place - 1] === null || lines[place] === null;

/** @param {Edits} theirs @param {Edits} mine @returns {boolean} whether nobody but a person can say what is meant */
function isDisputed(theirs, mine) {
  const isChanged = (/** @type {string | null} */ line, /** @type {number} */ index) => line !== `key_${index}: 0`;
  return theirs.lines.some((line, index) => isChanged(line, index) && isChanged(mine.lines[index], index) && line !== mine.lines[index])
    || theirs.added.some((lines, place) => {
      const other = mine.added[place];
      if (lines.length && other.length && lines.join() !== other.join()) return true;
      return (lines.length > 0 && isCut(mine, place)) || (other.length > 0 && isCut(theirs, place));
    });
}

test("random edits: the same line in two ways is a conflict, all other changes of both are in the merged text", (t) => {
  const random = new Random(t);
  const seen = { disputed: 0, merged: 0 };
  for (let index = 0; index < 4000; index += 1) {
    const length = 2 + random.below(9);
    const base = Array.from({ length }, (_, line) => `key_${line}: 0`);
    const [theirs, mine] = [randomEdits(length, random, "t"), randomEdits(length, random, "m")];
    const parts = mergeLines(base, applied(theirs), applied(mine));
    const said = JSON.stringify({ base, theirs: applied(theirs), mine: applied(mine), parts });
    // Both may have written the same text by other edits: one put a line in the place of a line, the other beside it.
    if ([theirs, mine].some((edits) => edits.added.some((lines, place) => lines.includes("both: x") && isCut(edits, place)))) continue;
    if (isDisputed(theirs, mine)) {
      seen.disputed += 1;
      assert.ok(conflicts(parts).length, `merged without a question: ${said}`);
      continue;
    }
    // Lines that one side adds beside lines that it removes look like lines put in the place of others: it may be asked.
    if ([theirs, mine].some((edits) => edits.added.some((lines, place) => lines.length && isCut(edits, place)))) continue;
    // So may it where both removed a part of the same lines.
    if (theirs.lines.some((line, at) => line === null && mine.lines[at] === null)) continue;
    seen.merged += 1;
    const both = {
      lines: base.map((line, at) => (theirs.lines[at] === line ? mine.lines[at] : theirs.lines[at])),
      added: theirs.added.map((lines, place) => (lines.length ? lines : mine.added[place])),
    };
    assert.equal(conflicts(parts).length, 0, `asked without need: ${said}`);
    assert.equal(mergedText(parts, new Map()), applied(both).join("\n"), said);
  }
  assert.ok(seen.disputed > 300 && seen.merged > 300, `the cases were one-sided: ${JSON.stringify(seen)}`);
});

test("who is called theirs makes no difference", (t) => {
  const random = new Random(t);
  for (let index = 0; index < 1000; index += 1) {
    const base = Array.from({ length: 1 + random.below(12) }, (_, line) => `key_${random.below(4)}: ${line % 3}`);
    const [theirs, mine] = [edited(base, random), edited(base, random)];
    const swapped = mergeLines(base, mine, theirs).map((part) => {
      if (part.kind === "conflict") return { kind: part.kind, base: part.base, theirs: part.mine, mine: part.theirs };
      return { ...part, kind: { theirs: "mine", mine: "theirs", same: "same", alike: "alike" }[part.kind] };
    });
    const straight = mergeLines(base, theirs, mine).map((part) => (part.kind === "conflict" ? { kind: part.kind, base: part.base, theirs: part.theirs, mine: part.mine } : part));
    assert.deepEqual(straight, swapped);
  }
});

test("a text with many equal lines is merged exactly", () => {
  const base = Array.from({ length: 5000 }, (_, number) => [`- name: n${number % 7}`, "  enabled: true", "  size: 3", ""]).flat();
  const theirs = replaced(base, 5, "  enabled: false");
  const mine = replaced(base, -3, "  size: 4");
  const changed = mergeLines(base, theirs, mine).filter(({ kind }) => kind !== "same");
  assert.deepEqual(changed, [
    { kind: "theirs", base: ["  enabled: true"], lines: ["  enabled: false"] },
    { kind: "mine", base: ["  enabled: true"], lines: ["  size: 4"] },
  ]);
});

test("more distinct lines than there are characters are one change", () => {
  const before = Array.from({ length: 40_000 }, (_, number) => `before ${number}`);
  const after = before.map((line, number) => (number < 30_000 ? `after ${number}` : line));
  assert.deepEqual(changes(before, after), [{ from: 0, to: 40_000, start: 0, end: 40_000 }]);
});

test("as many lines as fit into single characters are compared one by one", () => {
  const before = Array.from({ length: 0xe000 }, (_, number) => `line ${number}`);
  const after = replaced(before, 0xdc00, "changed");
  assert.deepEqual(changes(before, after), [{ from: 0xdc00, to: 0xdc01, start: 0xdc00, end: 0xdc01 }]);
});

test("each choice of a conflict gives its lines, and no choice is an error", () => {
  const parts = mergeLines(["a", "b", "c"], ["a", "T", "c"], ["a", "M", "c"]);
  const [{ key }] = conflicts(parts);
  const texts = /** @type {const} */ (["theirs", "mine", "both"]).map((choice) => mergedText(parts, new Map([[key, choice]])));
  assert.deepEqual(texts, ["a\nT\nc", "a\nM\nc", "a\nT\nM\nc"]);
  assert.throws(() => mergedText(parts, new Map()), /no choice/);
});

test("a conflict keeps its key while other lines change", () => {
  const keyOf = (/** @type {Part[]} */ parts) => conflicts(parts)[0].key;
  const before = keyOf(mergeLines(["a", "x", "b"], ["a", "x", "T"], ["a", "x", "M"]));
  const after = keyOf(mergeLines(["a", "x", "b"], ["new", "new", "a", "x", "T"], ["a", "x", "M"]));
  assert.equal(before, after);
});

test("automatic merges are counted by their lines, removals by what was removed", () => {
  const parts = mergeLines(["a", "b", "c", "d", "e", "f", "g"], ["a", "c", "d", "e", "f", "g"], ["a", "b", "c", "d", "E1", "E2", "f", "g"]);
  assert.deepEqual(countMerged(parts), { theirs: 1, mine: 2, alike: 0 });
});

test("empty texts merge", () => {
  assert.deepEqual(merge("", "", ""), [{ kind: "same", base: [""], lines: [""] }]);
  assert.equal(mergedText(merge("", "a\n", ""), new Map()), "a\n");
  assert.equal(conflicts(merge("", "a", "b")).length, 1);
});
