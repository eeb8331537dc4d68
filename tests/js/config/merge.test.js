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

test("changes to neighbouring lines conflict, those with a line between them do not", () => {
  const base = ["a", "b", "c", "d"];
  const kinds = [
    mergeLines(base, ["a", "B", "c", "d"], ["A", "b", "c", "d"]),
    mergeLines(base, ["a", "B", "c", "d"], ["a", "b", "c", "D"]),
    mergeLines(base, [...base, "x"], [...base, "y"]),
    mergeLines(base, [...base, "x"], [...base, "x"]),
  ].map((parts) => parts.map(({ kind }) => kind));
  assert.deepEqual(kinds, [["conflict", "same"], ["same", "theirs", "same", "mine"], ["same", "conflict"], ["same", "alike"]]);
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
