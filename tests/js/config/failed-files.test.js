// Which files failed with an older config, and queueing them again.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import "../browser.js";
import { failedInSubmission, failedRecently, retryAll } from "../../../static/js/config/failed-files.js";

/** @typedef {import("../../../static/js/config/failed-files.js").FailedJob} FailedJob */

/** @type {string[]} */
let asked = [];
/** @type {(request: string) => [number, any] | null} null: the server is away */
let answer = () => [200, {}];

beforeEach(() => {
  asked = [];
  globalThis.fetch = async (address, { method = "GET" } = {}) => {
    asked.push(`${method} ${String(address).replace("/api/v1", "")}`);
    const found = answer(asked[asked.length - 1]);
    if (found === null) throw new TypeError("away");
    return new Response(JSON.stringify(found[1]), { status: found[0] });
  };
});

/** @param {string} id @param {string[]} revisions one of each attempt @param {string} [settled] @returns {FailedJob} */
const job = (id, revisions, settled = "2026-11-20T14:00:00.000Z") => (
  { id, submission_id: "s", settled_at: settled, attempts: revisions.map((revision) => ({ config_revision: revision })) }
);

test("the last attempt decides, and all pages are read", async () => {
  answer = (request) => [200, request.includes("before") ? { items: [job("c", ["old"])], next: null } : { items: [job("a", ["old", "new"]), job("b", ["old", "older"])], next: "x/y" }];
  assert.deepEqual((await failedInSubmission("s", "new")).map(({ id }) => id), ["b", "c"]);
  assert.deepEqual(asked, ["GET /jobs?submission=s&state=failed&limit=1000", "GET /jobs?submission=s&state=failed&limit=1000&before=x%2Fy"]);
});

test("without a submission those of the last hour count, by one request", async () => {
  answer = () => [200, { items: [job("a", ["old"], "2026-11-20T13:30:00.000Z"), job("b", ["old"], "2026-11-20T12:59:00.000Z"), job("c", ["new"])], next: "more" }];
  assert.deepEqual((await failedRecently("new", "2026-11-20T14:00:00.000Z")).map(({ id }) => id), ["a"]);
  assert.equal(asked.length, 1);
});

test("each is queued again, also one that someone else has queued; what could not be is left with its reason", async () => {
  answer = (request) => (request.includes("/b/") ? [409, {}] : request.includes("/c/") ? [410, { detail: "It is gone." }] : [202, {}]);
  /** @type {number[]} */
  const progress = [];
  const { left, reason } = await retryAll(["a", "b", "c", "d", "e", "f"].map((id) => job(id, ["old"])), (done) => progress.push(done));
  assert.deepEqual([left.map(({ id }) => id), reason], [["c"], "It is gone."]);
  assert.deepEqual(progress, [1, 2, 3, 4, 5]);
});

test("while the server is away nobody asks it a thousand times, and all are left", async () => {
  answer = () => null;
  const jobs = Array.from({ length: 1000 }, (_, number) => job(`j${number}`, ["old"]));
  const { left, reason } = await retryAll(jobs, () => {});
  assert.equal(left.length, 1000);
  assert.equal(reason, "The server cannot be reached.");
  assert.ok(asked.length <= 4, `${asked.length} requests`);
});
