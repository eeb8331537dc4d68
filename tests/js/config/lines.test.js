// A text as bytes and as lines.

import assert from "node:assert/strict";
import { test } from "node:test";

import { decode, encode, matchLines } from "../../../static/js/config/lines.js";
import { Random } from "../random.js";

const bytesOf = (/** @type {string} */ text) => new TextEncoder().encode(text);
const textOf = (/** @type {Uint8Array} */ bytes) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);

test("unchanged lines keep their bytes, whatever is inserted between them", (t) => {
  const random = new Random(t);
  const ends = ["\n", "\r\n", "\r"];
  for (let index = 0; index < 300; index += 1) {
    const lines = Array.from({ length: random.below(8) }, () => random.choice(["a: 1", "# c", "", "é: ü", "  - x", "🙂"]));
    const text = random.choice(["", "\ufeff"]) + lines.map((line) => line + random.choice(ends)).join("") + random.choice(["", "z"]);
    const original = decode(bytesOf(text));
    assert.equal(textOf(encode(original, original.lines.join("\n"))), text);
    const more = [...original.lines];
    for (let inserts = 1 + random.below(2); inserts > 0; inserts -= 1) more.splice(random.below(more.length), 0, "NEW");
    assert.equal(textOf(encode(original, more.join("\n"))).replaceAll(/NEW(\r\n|\n|\r)/g, ""), text);
  }
});

test("a new line gets the commonest line end", () => {
  const original = decode(bytesOf("a\r\nb\r\nc\nd"));
  assert.equal(textOf(encode(original, "a\nb\nNEW\nc\nd")), "a\r\nb\r\nNEW\r\nc\nd");
  assert.equal(textOf(encode(decode(bytesOf("one line")), "one line\nNEW")), "one line\nNEW");
});

test("an empty line after a bare carriage return stays a line", () => {
  const original = decode(bytesOf("a\rb\n\nc"));
  const saved = encode(original, "a\n\nc");
  assert.deepEqual(decode(saved).lines, ["a", "", "c"]);
});

test("a byte order mark is kept out of the text and put back", () => {
  const original = decode(bytesOf("\ufeffa: 1"));
  assert.deepEqual(original, { hasBom: true, lines: ["a: 1"], ends: [""] });
  assert.equal(textOf(encode(original, "a: 2")), "\ufeffa: 2");
});

test("an empty file is one empty line", () => {
  assert.deepEqual(decode(new Uint8Array()), { hasBom: false, lines: [""], ends: [""] });
  assert.equal(encode(decode(new Uint8Array()), "").length, 0);
});

test("bytes that are not UTF-8 are refused", () => {
  assert.throws(() => decode(new Uint8Array([0x61, 0xff])), TypeError);
  assert.throws(() => decode(new Uint8Array([0xed, 0xa0, 0x80])), TypeError, "a surrogate");
});

test("a moved line is new, and the lines around it keep theirs", () => {
  const matched = matchLines(["a", "b", "c", "d", "e"], ["a", "c", "X", "d", "d", "e"]);
  assert.deepEqual(matched.slice(0, 3), [0, 2, -1]);
  assert.deepEqual(matched.slice(3, 5).sort((a, b) => a - b), [-1, 3]);
  assert.equal(matched[5], 4);
});

test("equal lines at both ends are matched without overlap", () => {
  assert.deepEqual(matchLines(["a", "a"], ["a"]), [0]);
  assert.deepEqual([...matchLines(["a"], ["a", "a"])].sort(), [-1, 0]);
  assert.deepEqual(matchLines([], ["a"]), [-1]);
});
