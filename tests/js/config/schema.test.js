// Completion and hover from a JSON Schema.

import assert from "node:assert/strict";
import { test } from "node:test";

import { EditorState, yaml } from "../../../static/vendor/codemirror.js";
import { Schemas, complete } from "../../../static/js/config/schema.js";

const SCHEMA = {
  required: ["size"],
  properties: {
    size: { title: "Longest edge", description: "In\npixels\u202e.", type: "integer", minimum: 16 },
    quality: { $ref: "#/$defs/quality" },
    steps: { type: "array", items: { properties: { run: { enum: ["scale", "crop", "no"] } } } },
    pair: { prefixItems: [{ const: "first" }, { type: "boolean" }] },
    "a/b~c": { type: "string" },
    pointed: { $ref: "#/properties/a~1b~0c" },
  },
  patternProperties: { "^x-": { description: "An extension." }, "(?<broken": {} },
  additionalProperties: { type: "null" },
  $defs: {
    quality: {
      type: "object",
      allOf: [{ properties: { webp: { type: "integer", maximum: 100, default: 82 } } }],
      properties: { strip: { type: "boolean" } },
    },
  },
};
const schemas = new Schemas(SCHEMA);

/** @param {string} text with | at the cursor @returns {string[] | null} labels of the options; null: none */
function offered(text, explicit = false) {
  const pos = text.indexOf("|");
  const state = EditorState.create({ doc: text.replace("|", ""), extensions: [yaml()] });
  return complete(schemas, /** @type {any} */ ({ state, pos, explicit }))?.options.map(({ label }) => label) ?? null;
}

test("a path leads through references, combined schemas, patterns and lists", () => {
  assert.deepEqual([...schemas.keys(["quality"]).keys()].sort(), ["strip", "webp"]);
  assert.deepEqual(schemas.values(["quality", "webp"]), [82]);
  assert.deepEqual(schemas.values(["steps", 7, "run"]), ["scale", "crop", "no"]);
  assert.deepEqual([schemas.values(["pair", 0]), schemas.values(["pair", 1]), schemas.values(["pair", 2])], [["first"], [true, false], []]);
  assert.equal(schemas.about(["x-new"])?.description, "An extension.");
  assert.equal(schemas.about(["other"])?.kind, "empty");
  assert.equal(schemas.about(["pointed"])?.kind, "text");
});

test("what the schema says is text with its facts", () => {
  assert.deepEqual(schemas.about(["size"]), {
    title: "Longest edge", description: "In pixels\u27e8U+202E\u27e9.", kind: "whole number", isMany: false, isRequired: true, facts: ["whole number", "required", "at least 16"],
  });
  assert.deepEqual(schemas.about(["quality", "webp"])?.facts, ["whole number", "at most 100", "default 82"]);
});

test("odd schemas offer nothing and do not fail", () => {
  for (const odd of [true, null, "text", 5, [], { properties: 5 }, { $ref: "#/nowhere" }, { $ref: "https://elsewhere/x" }, { $ref: "#/%" }, { allOf: "x", enum: 5 }]) {
    const one = new Schemas(odd);
    assert.deepEqual([[...one.keys([])], one.values([]), one.about(["a", 0, "b"])], [[], [], null], JSON.stringify(odd));
  }
});

test("a schema that refers to itself ends", () => {
  const loop = new Schemas({ $ref: "#", properties: { child: { $ref: "#" } } });
  assert.deepEqual([...loop.keys(["child", "child"]).keys()], ["child"]);
});

test("a member called like a property of all objects is no schema", () => {
  assert.equal(new Schemas({ properties: {} }).about(["constructor"]), null);
});

test("keys are offered where a key may stand, without those that are there", () => {
  assert.deepEqual(offered("quality:\n  s|"), ["strip", "webp"]);
  assert.deepEqual(offered("quality:\n  webp: 1\n  s|"), ["strip"]);
  assert.deepEqual(offered("steps:\n  - r|"), ["run"]);
  assert.deepEqual(offered("steps:\n  - run: crop\n  - r|"), ["run"]);
  assert.deepEqual(offered("quality: {w|"), ["strip", "webp"]);
});

test("values are offered where a value may stand, and text that reads as something else is quoted", () => {
  assert.deepEqual(offered("quality:\n  strip: t|"), ["true", "false"]);
  assert.deepEqual(offered("steps:\n- run: s|"), ["scale", "crop", '"no"']);
});

test("nothing is offered in comments and quotes, or before a word unless it is asked for", () => {
  assert.equal(offered("# s|"), null);
  assert.equal(offered("quality:\n  strip: 't|"), null);
  assert.equal(offered("quality:\n  |"), null);
  assert.deepEqual(offered("quality:\n  |", true), ["strip", "webp"]);
});
