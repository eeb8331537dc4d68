// One value of the config as a field of the form.

import assert from "node:assert/strict";
import { test } from "node:test";

import { controlKind, enteredNumber, firstValue, labelOf, parentOf, refusalText, shownValue, token } from "../../../static/js/config/field.js";

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

test("an entered number is one of its kind", () => {
  const integer = field({ kind: "integer", value: 31, source: "0x1F" });
  assert.deepEqual(["7", " 7 ", "-7", "1e3", "0x1F", "1.5", "", "seven", "Infinity", "9007199254740993"].map((text) => enteredNumber(text, integer)),
    [7, 7, -7, 1000, 31, undefined, undefined, undefined, undefined, undefined]);
  const number = field({ kind: "number", value: 1.5, source: "1.5" });
  assert.deepEqual(["1,25", "1.25", ".5", "1e400", "NaN"].map((text) => enteredNumber(text, number)), [1.25, 1.25, 0.5, undefined, undefined]);
  assert.equal(enteredNumber("1.5", field({ kind: "integer", value: 1, source: "1", schema: { type: "number" } })), 1.5);
});

test("digits beyond a double are kept while nobody changes them", () => {
  const value = 12345678901234567890n;
  assert.equal(enteredNumber("12345678901234567890", field({ kind: "integer", value, source: "12345678901234567890" })), value);
});

test("a reason that the page does not know has a sentence, too", () => {
  assert.match(refusalText("aliased"), /anchor/);
  assert.equal(refusalText("new_reason"), "It cannot be changed here; edit the text.");
});
