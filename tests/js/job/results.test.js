// The results of a job.

import assert from "node:assert/strict";
import { test } from "node:test";

import { resultText, resultUrl } from "../../../static/js/job/results.js";

test("each part of a result's path is encoded, its slashes are not", () => {
  assert.equal(resultUrl("j/1", { path: "sub/é ?#%.txt", size: 1 }), "/api/v1/jobs/j%2F1/results/sub/%C3%A9%20%3F%23%25.txt");
});

test("a single result is named, several are counted", () => {
  const result = { path: "sub/thumb\u202e.webp", size: 31 * 1024 };
  assert.equal(resultText({ result_count: 1, results: [result] }), "thumb\u27e8U+202E\u27e9.webp · 31 KiB");
  assert.equal(resultText({ result_count: 2, results: [result] }), "2 results");
  assert.equal(resultText({ result_count: 1, results: [] }), "1 result");
  assert.equal(resultText({ result_count: 0, results: [] }), "");
});
