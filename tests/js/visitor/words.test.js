// What the pages of a link say of a submission.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { SubmissionModel } from "../../../static/js/submission/model.js";
import { arrivalText, ofResult, pageTitle, safety, stateTextOf, verdict } from "../../../static/js/visitor/words.js";

/**
 * @param {string[]} uploads states of the files
 * @param {{seesJobs?: boolean, state?: string, job?: string}} [more] `job`: the state of the job of each stored file
 */
function modelOf(uploads, { seesJobs = false, state = "settled", job } = {}) {
  const model = new SubmissionModel("s", { seesJobs });
  const files = uploads.map((upload, index) => ({
    id: String(index), name: `n${index}`, path: null, size: 8, received: upload === "stored" ? 8 : 0, state: upload, is_sending: upload === "receiving",
    cause: upload === "aborted" ? "cut_off" : undefined,
    job: job && upload === "stored" ? { id: `j${index}`, state: job, attempts: [], result_count: 0, results: [], progress: null } : null,
  }));
  const stored = uploads.filter((upload) => upload === "stored").length;
  const counts = { announced: 0, receiving: 0, aborted: uploads.length - stored, queued: 0, running: 0, succeeded: stored, failed: 0, cancelled: 0 };
  model.take({ id: "s", state, opened_at: "2026-01-01T00:00:00Z", settled_at: null, client: null, counts, files });
  return model;
}

test("without results, a file has arrived when it is stored, and that is the end", () => {
  const model = modelOf(["stored", "stored"]);
  assert.equal(model.isSettled, true);
  assert.deepEqual([verdict(model, null).text, verdict(model, null).tone], ["All 2 files have arrived", "good"]);
  assert.equal(safety(model, null), "It has arrived; you may close this page.");
  assert.equal(pageTitle(model), "✓ Dropmill");
  assert.equal(verdict(modelOf(["stored"]), null).text, "The file has arrived");
});

test("what did not arrive is said, and nothing that arrived is called everything", () => {
  const model = modelOf(["stored", "aborted", "stored"]);
  assert.equal(verdict(model, null).text, "Done: 2 arrived, 1 not sent");
  assert.match(safety(model, null), /^2 files have arrived; you may close this page\. The rest/);
  assert.equal(safety(modelOf(["aborted"]), null), "");
});

test("nobody is told to close the page before everything has arrived", () => {
  for (const model of [modelOf(["stored", "receiving"], { state: "open" }), modelOf(["stored"], { state: "open" })]) {
    assert.doesNotMatch(safety(model, null), /close/);
    assert.match(safety(model, "going"), /^Keep this page open/);
  }
});

test("with results, the page may be closed while the script runs, and says how to see the results", () => {
  const running = modelOf(["stored"], { seesJobs: true, state: "processing", job: "running" });
  assert.match(verdict(running, null).text, /^Processing/);
  assert.match(safety(running, null), /^It has arrived; you may close this page\. .* open the link again/);
  const done = modelOf(["stored"], { seesJobs: true, job: "succeeded" });
  assert.deepEqual([verdict(done, null).text, safety(done, null)], ["Done: 1 succeeded", "It has arrived; you may close this page."]);
});

test("who only looks is not told to close anything", () => {
  assert.equal(ofResult.safety(modelOf(["stored"], { seesJobs: true, state: "processing", job: "running" }), null), "");
  assert.match(ofResult.safety(modelOf(["stored"], { seesJobs: true, state: "open", job: "running" }), null), /More files/);
});

test("the list of what was sent says how much has arrived", () => {
  const counts = { announced: 0, receiving: 0, aborted: 0, queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 };
  const said = (/** @type {string} */ state, /** @type {object} */ given) => arrivalText({ state, aborted_as: { cancelled: 0, replaced: 0 }, counts: { ...counts, ...given } });
  assert.equal(said("settled", { succeeded: 3 }), "3 files have arrived");
  assert.equal(said("settled", { succeeded: 1, aborted: 2 }), "1 file has arrived, 2 not sent");
  assert.equal(said("open", { succeeded: 1, announced: 1, receiving: 1 }), "1 of 3 arrived; open it to send the rest");
  assert.equal(said("open", { succeeded: 2 }), "2 files have arrived");
  assert.equal(said("settled", {}), "No file");
  assert.equal(stateTextOf(false), arrivalText);
});
