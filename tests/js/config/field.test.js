// One value of the config as a field of the form.

import assert from "node:assert/strict";
import { test } from "node:test";

import { controlKind, enteredNumber, firstValue, headerOf, labelOf, notesOf, parentOf, refusalText, shownValue, token } from "../../../static/js/config/field.js";

/** @param {Record<string, any>} [more] @returns {any} a field as the API gives it */
const field = (more = {}) => ({ key: "size", kind: "text", value: "a", source: null, schema: null, is_multiline: false, ...more });

test("keys are escaped as tokens of a JSON Pointer", () => {
  assert.deepEqual(["a/b", "m~n", "~1", ""].map(token), ["a~1b", "m~0n", "~01", ""]);
  assert.deepEqual(["/a/b", "/a", "/a~1b/0"].map(parentOf), ["/a", "", "/a~1b"]);
});

test("a label is the schema's title, an item's number from 1, or the key", () => {
  assert.equal(labelOf(field({ schema: { title: "Longest edge" } }), false), "Longest edge");
  assert.equal(labelOf(field({ key: "0" }), true), "1.");
  assert.equal(labelOf(field({ key: "a\u202eb" }), false), "a\u27e8U+202E\u27e9b");
});

test("a new setting begins with what its schema suggests", () => {
  const values = [
    null, { default: false, enum: [1] }, { default: null, type: "string" }, { enum: ["fast", "good"] }, { type: "integer", minimum: 16 },
    { type: "number" }, { type: ["boolean", "null"] }, { type: "null" }, { type: "array" }, { type: "object" },
    { type: "string", examples: ["x"] }, { type: "string" },
  ].map((schema) => firstValue(/** @type {any} */ (schema)));
  assert.deepEqual(values, ["", false, null, "fast", 16, 0, false, null, [], {}, "x", ""]);
});

test("the control follows the schema, then the kind", () => {
  const kinds = [
    field({ schema: { enum: [true] }, kind: "boolean" }), field({ kind: "boolean" }), field({ kind: "integer" }), field({ kind: "number" }),
    field({ is_multiline: true }), field(), field({ kind: "null" }), field({ kind: "date" }),
  ].map(controlKind);
  assert.deepEqual(kinds, ["select", "switch", "number", "number", "area", "input", "input", "input"]);
});

test("a value is shown as it is written", () => {
  const texts = [
    field({ kind: "number", value: 1000, source: "1e3" }), field({ kind: "integer", value: 31, source: "0x1F" }),
    field({ kind: "null", value: null, source: "~" }), field({ value: "" }), field({ kind: "number", value: null, source: ".inf" }), field({ kind: "text", value: null }),
  ].map(shownValue);
  assert.deepEqual(texts, ["1e3", "0x1F", "", "", ".inf", ""]);
});

/** @param {string[]} texts @param {any} of a field @returns {any[]} the number of each, or the sentence against it */
const entered = (texts, of) => texts.map((text) => {
  const found = enteredNumber(text, of);
  return "problem" in found ? found.problem : found.value;
});

test("an entered number is one of its kind", () => {
  const integer = field({ kind: "integer", value: 31, source: "0x1F" });
  assert.deepEqual(entered(["7", " 7 ", "-7", "1e3", "0x1F", "0b1"], integer), [7, 7, -7, 1000, 31, "“0b1” is not a whole number."]);
  assert.deepEqual(entered(["1.5", "1,5", "", "seven", "Infinity"], integer), [
    "“1.5” is not a whole number.", "“1,5” is not a whole number.", "Enter a number.", "“seven” is not a number.", "“Infinity” is not a whole number.",
  ]);
  const number = field({ kind: "number", value: 1.5, source: "1.5" });
  assert.deepEqual(entered(["1,25", "1.25", ".5", ",5", "1.125", "0.001"], number), [1.25, 1.25, 0.5, 0.5, 1.125, 0.001]);
  assert.deepEqual(entered(["1e400", "NaN"], number), ["“1e400” is not a number.", "“NaN” is not a number."]);
  const either = field({ kind: "integer", value: 1, source: "1", schema: { type: "number" } });
  assert.deepEqual(entered(["1.5", "2.125"], either), [1.5, 2.125]);
});

test("a number with separators of thousands is refused with what to write, in every language's form of them", () => {
  const integer = field({ kind: "integer", value: 3, source: "3" });
  const number = field({ kind: "number", value: 1.5, source: "1.5" });
  for (const text of ["1,000", "1.000", "1 000", "1'000", "1\u202f000", "-1,000,000"]) {
    assert.deepEqual(entered([text], integer), [`“${text}” has separators of thousands. Write the digits alone.`], text);
  }
  for (const text of ["1,000,000", "1.000.000", "1 000"]) assert.match(entered([text], number)[0], /separators of thousands/, text);
  assert.deepEqual(entered(["1,000"], number), [
    "“1,000” can be read as 1000 or as 1.000. Write it without a separator of thousands, and with a point before decimals.",
  ]);
  assert.match(entered(["1,000.5"], number)[0], /is not a number/);
});

test("digits beyond a double are kept while nobody changes them, and refused when they are entered", () => {
  const value = 12345678901234567890n;
  const long = field({ kind: "integer", value, source: "12345678901234567890" });
  assert.deepEqual(entered(["12345678901234567890"], long), [value]);
  assert.match(entered(["9007199254740993"], long)[0], /more digits/);
});

test("a reason that the page does not know has a sentence, too", () => {
  assert.match(refusalText("aliased"), /anchor/);
  assert.equal(refusalText("new_reason"), "It cannot be changed here; edit the text.");
});

test("the comment at the beginning of the text is its header, whatever is written for editors in it", () => {
  assert.equal(headerOf("# yaml-language-server: $schema=x.json\n# ------\n# What the\n#  thumbnails are like.\nsize: 1 # edge\n"), "What the thumbnails are like.");
  assert.deepEqual(["", "a: 1\n# later\n", "#\na: 1", "# all"].map(headerOf), ["", "", "", "all"]);
});

test("the schema's words, the comment above and the comment behind a value are apart, and the header is left out", () => {
  const size = field({ help: "What the\nthumbnails are like.\n\nlongest edge", schema: { description: "In\npixels." } });
  assert.deepEqual(notesOf(size, "What the thumbnails are like."), [{ kind: "schema", text: "In pixels." }, { kind: "comment", text: "longest edge" }]);
  assert.deepEqual(notesOf(size, "").map(({ text }) => text), ["In pixels.", "What the thumbnails are like.", "longest edge"]);
  assert.deepEqual(notesOf(field({ help: null }), ""), []);
});
