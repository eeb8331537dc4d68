// Waiting before retries.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Problem } from "../../../static/js/core/api.js";
import { Retrying, isTemporary } from "../../../static/js/upload/retrying.js";

test("only failures that pass without anyone's help are temporary", () => {
  const temporary = (/** @type {boolean} */ isUpload) => [0, 400, 403, 404, 408, 409, 410, 412, 413, 421, 422, 423, 429, 460, 500, 502, 503, 507]
    .filter((status) => isTemporary({ status }, isUpload));
  assert.deepEqual(temporary(false), [0, 408, 423, 429, 500, 502, 503]);
  assert.deepEqual(temporary(true), [0, 408, 409, 423, 429, 460, 500, 502, 503]);
});

test("what may go on only much later is not waited for", () => {
  const asked = (/** @type {number} */ seconds) => isTemporary({ status: 429, body: { retry_after: seconds } }, true);
  assert.deepEqual([asked(5), asked(120), asked(121), asked(40_000)], [true, true, false, false]);
});

test("a request is repeated until it succeeds, and a problem that repeats is said until then", async () => {
  /** @type {string[]} */
  const said = [];
  const retrying = new Retrying(() => said.push(retrying.trouble));
  let failures = 0;
  const waking = setInterval(() => retrying.now(), 1);
  const answer = await retrying.persist(async () => {
    failures += 1;
    if (failures < 4) throw new Problem(503, { detail: "The server is stopping." });
    return "answer";
  });
  clearInterval(waking);
  assert.deepEqual([answer, failures, said[0], said[said.length - 1]], ["answer", 4, "The server is stopping.", ""]);
});

test("a permanent problem ends it at once", async () => {
  const retrying = new Retrying(() => {});
  await assert.rejects(retrying.persist(async () => { throw new Problem(409, { detail: "Sealed." }); }), /Sealed/);
  assert.equal(retrying.trouble, "");
});
