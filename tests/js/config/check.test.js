// The check of the config while it is typed.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Clock } from "../browser.js";
import { ConfigCheck } from "../../../static/js/config/check.js";
import { ConfigDocument } from "../../../static/js/config/document.js";

const settle = () => new Promise((resolve) => { setImmediate(resolve); });

/** @param {import("node:test").TestContext} t */
function setUp(t) {
  const clock = new Clock(t);
  /** @type {{text: string, answer: (answer: any) => void, fail: () => void}[]} */
  const asked = [];
  t.mock.method(globalThis, "fetch", (/** @type {string} */ _, /** @type {any} */ { body }) => new Promise((resolve, reject) => {
    asked.push({ text: new TextDecoder().decode(body), answer: (one) => resolve(new Response(JSON.stringify(one))), fail: () => reject(new TypeError()) });
  }));
  const config = new ConfigDocument();
  config.isLoaded = true;
  const check = new ConfigCheck(config);
  /** @type {[string, any][]} */
  const heard = [];
  for (const type of ["report", "unchecked"]) check.addEventListener(type, (event) => heard.push([type, /** @type {CustomEvent} */ (event).detail]));
  return { clock, config, check, asked, heard };
}

test("typing is checked once, after a pause", async (t) => {
  const { clock, config, asked, heard } = setUp(t);
  for (const text of ["a", "a:", "a: 1"]) {
    config.replaceText(text);
    clock.tick(99);
  }
  assert.equal(asked.length, 0);
  clock.tick(1);
  assert.deepEqual(asked.map(({ text }) => text), ["a: 1"]);
  asked[0].answer({ errors: [], warnings: [] });
  await settle();
  assert.deepEqual(heard, [["report", { errors: [], warnings: [] }]]);
});

test("a report of an older text is dropped, and the newest text is checked next", async (t) => {
  const { clock, config, asked, heard } = setUp(t);
  config.replaceText("a: [");
  clock.tick(100);
  config.replaceText("a: 1");
  clock.tick(100);
  assert.equal(asked.length, 1, "one check at a time");
  asked[0].answer({ errors: [{ line: 1 }], warnings: [] });
  await settle();
  assert.deepEqual([heard, asked[1].text], [[], "a: 1"]);
  asked[1].answer({ errors: [], warnings: [] });
  await settle();
  assert.equal(heard.length, 1);
});

test("a text is not checked twice, unless its check failed", async (t) => {
  const { clock, config, check, asked, heard } = setUp(t);
  config.replaceText("a: 1");
  clock.tick(100);
  asked[0].fail();
  await settle();
  assert.deepEqual(heard, [["unchecked", "The server cannot be reached."]]);
  void check.check();
  assert.equal(asked.length, 2);
  asked[1].answer({ errors: [], warnings: [] });
  await settle();
  void check.check();
  assert.equal(asked.length, 2);
});
