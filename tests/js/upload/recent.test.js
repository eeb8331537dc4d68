// What the first page says of the newest submissions.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { nameText, stateText } from "../../../static/js/upload/recent.js";

/** @param {string} state @param {Record<string, number>} given @param {number} [cancelled] of the aborted files @param {number} [replaced] */
const submission = (state, given, cancelled = 0, replaced = 0) => ({
  state, files: [{ name: "a.txt", path: "a.txt" }], aborted_as: { cancelled, replaced },
  counts: { announced: 0, receiving: 0, aborted: 0, queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0, ...given },
});

test("a cancelled upload is not one that failed to arrive", () => {
  assert.equal(stateText(submission("settled", { succeeded: 2, aborted: 3 }, 2)), "2 succeeded, 2 cancelled, 1 not sent");
  assert.equal(stateText(submission("settled", { cancelled: 1, aborted: 1 }, 1)), "2 cancelled");
  assert.equal(stateText(submission("open", { announced: 2, queued: 1, aborted: 2 }, 1)), "1 of 5 sent");
});

test("a file that was sent again counts once", () => {
  const again = submission("settled", { succeeded: 1, aborted: 1 }, 0, 1);
  assert.deepEqual([stateText(again), nameText(again)], ["1 succeeded", "a.txt"]);
  assert.equal(stateText(submission("processing", { queued: 1, aborted: 1 }, 0, 1)), "Processing, 0 of 1 done");
});
