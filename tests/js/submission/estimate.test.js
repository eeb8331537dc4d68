// How long a submission will still take.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Estimate } from "../../../static/js/submission/estimate.js";

/**
 * @param {number} seconds
 * @param {(second: number) => {bytes: number, files: number}} done
 * @param {{bytes: number, files: number}} total
 * @returns {(number | null)[]} the estimate after each second
 */
function run(seconds, done, total) {
  const estimate = new Estimate();
  return Array.from({ length: seconds + 1 }, (_, second) => {
    const { bytes, files } = done(second);
    return estimate.at(second * 1000, { bytes, bytesLeft: total.bytes - bytes, files, filesLeft: total.files - files });
  });
}

test("at an even pace it is right, once it has seen some seconds", () => {
  const left = run(50, (second) => ({ bytes: second * 100, files: 0 }), { bytes: 10_000, files: 1 });
  assert.deepEqual(left.slice(0, 3), [null, null, null]);
  for (let second = 3; second <= 50; second += 1) assert.ok(Math.abs((left[second] ?? 0) - (100 - second)) < 1, `${second}: ${left[second]}`);
});

test("the slower of bytes and files counts", () => {
  const left = run(10, (second) => ({ bytes: second * 1000, files: second }), { bytes: 20_000, files: 100 });
  assert.ok(Math.abs((left[10] ?? 0) - 90) < 1);
});

test("an uneven pace makes it drift, not jump", () => {
  const left = run(60, (second) => ({ bytes: 0, files: 10 * Math.floor(second / 4) }), { bytes: 0, files: 1000 });
  for (let second = 20; second < 60; second += 1) assert.ok(Math.abs((left[second + 1] ?? 0) - (left[second] ?? 0)) < 40, `${second}`);
});

test("without movement there is no estimate, and a retry begins anew", () => {
  assert.deepEqual(run(30, () => ({ bytes: 5, files: 0 }), { bytes: 10, files: 1 }).at(-1), null);
  const estimate = new Estimate();
  for (let second = 0; second < 10; second += 1) estimate.at(second * 1000, { bytes: 0, bytesLeft: 0, files: second, filesLeft: 10 - second });
  assert.equal(estimate.at(60_000, { bytes: 0, bytesLeft: 0, files: 2, filesLeft: 8 }) === null, false);
  assert.equal(estimate.at(64_000, { bytes: 0, bytesLeft: 0, files: 2, filesLeft: 8 }), null);
});
