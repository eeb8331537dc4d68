// What the page says about a whole submission.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { overOf, pageTitle, safety, spoken, summary, verdict } from "../../../static/js/submission/overall.js";
import { SubmissionModel } from "../../../static/js/submission/model.js";

/**
 * @param {string[]} states of files: of the upload, or of the job
 * @param {Record<string, any>} [more] members of the Submission
 * @returns {SubmissionModel}
 */
function modelOf(states, more = {}) {
  const model = new SubmissionModel("s");
  const files = states.map((state, index) => {
    const hasJob = !["announced", "receiving", "broken", "aborted", "given_up", "stored"].includes(state);
    const job = hasJob ? { id: `j${index}`, state, attempts: [], result_count: 0, results: [], progress: null } : null;
    const received = hasJob || state === "stored" ? 1024 : state === "receiving" || state === "broken" ? 512 : 0;
    const upload = hasJob ? "stored" : state === "broken" ? "receiving" : state === "given_up" ? "aborted" : state;
    const cause = upload !== "aborted" ? undefined : state === "given_up" ? "cancelled" : "cut_off";
    return { id: String(index), name: `n${index}`, path: null, size: 1024, received, state: upload, cause, is_sending: state === "receiving", job };
  });
  model.take({ id: "s", state: "processing", opened_at: "2026-01-01T00:00:00Z", settled_at: null, client: null, files, ...more });
  return model;
}

/** @param {string[]} states @param {"going" | "held" | null} [sending] @param {Record<string, any>} [more] */
const said = (states, sending = null, more = {}) => verdict(modelOf(states, more), sending).text;

test("the outcome comes first, each kind with its number", () => {
  assert.equal(said(["succeeded", "failed", "succeeded"]), "Done: 2 succeeded, 1 failed");
  assert.equal(said(["succeeded", "cancelled", "aborted"]), "Done: 1 succeeded, 1 not sent, 1 cancelled");
  assert.equal(said(["succeeded"]), "Done: 1 succeeded");
  assert.equal(said(["failed", "cancelled"]), "Finished: 1 failed, 1 cancelled");
  assert.deepEqual([said(["failed"]), said(["failed", "failed"])], ["Failed", "Failed: all 2 files"]);
  assert.deepEqual([said(["cancelled"]), said(["aborted", "aborted"]), said([])], ["Cancelled", "Not sent: all 2 files", "Nothing was sent"]);
});

test("a file whose upload was cancelled counts with the cancelled ones, and is no fault", () => {
  assert.equal(said(["succeeded", "given_up"]), "Done: 1 succeeded, 1 cancelled");
  assert.equal(said(["succeeded", "given_up", "cancelled", "aborted"]), "Done: 1 succeeded, 1 not sent, 2 cancelled");
  assert.deepEqual([said(["given_up"]), said(["given_up", "cancelled"])], ["Cancelled", "Cancelled: all 2 files"]);
  const { tone, icon } = verdict(modelOf(["succeeded", "given_up"]), null);
  assert.deepEqual([tone, icon, pageTitle(modelOf(["succeeded", "given_up"]))], ["quiet", "stop", "■ Dropmill"]);
  assert.doesNotMatch(spoken(modelOf(["given_up", "running"]), null), /failed/);
  assert.equal(said(["given_up", "running"]), "Processing, 1 of 2 done");
});

test("a cancelled file is neither a success nor a failure", () => {
  const looks = [["succeeded"], ["succeeded", "cancelled"], ["cancelled"], ["cancelled", "failed"], ["succeeded", "aborted"]].map((states) => {
    const { tone, icon } = verdict(modelOf(states), null);
    return [tone, icon, pageTitle(modelOf(states))];
  });
  assert.deepEqual(looks, [
    ["good", "check", "✓ Dropmill"], ["quiet", "stop", "■ Dropmill"], ["quiet", "stop", "■ Dropmill"], ["bad", "close", "✗ Dropmill"],
    ["bad", "close", "✗ Dropmill"],
  ]);
  assert.doesNotMatch(spoken(modelOf(["succeeded", "cancelled"]), null), /failed/);
});

test("until then it says what goes on, and how many files are done", () => {
  assert.equal(said(["succeeded", "failed", "running", "queued"]), "Processing, 2 of 4 done");
  assert.equal(said(["receiving", "queued"]), "Sending, 0 of 2 done");
  assert.equal(said(["queued", "succeeded"]), "Waiting to be processed, 1 of 2 done");
  assert.equal(said(["announced"], "going", { state: "open" }), "Sending, 0 of 1 done");
  assert.equal(said(["announced", "succeeded"], "held", { state: "open" }), "Not everything is sent, 1 of 2 done");
  assert.equal(said(["succeeded"], null, { state: "open" }), "Waiting for more files, 1 of 1 done");
  assert.equal(said([], null, { state: "open" }), "Nothing has arrived yet");
  assert.equal(overOf(modelOf(["succeeded", "failed", "cancelled", "aborted", "running"]).counts), 4);
});

test("nobody sends: no word says that somebody does", () => {
  const model = modelOf(["broken", "succeeded"], { state: "open" });
  assert.equal(verdict(model, null).text, "Broken off, 1 of 2 done");
  assert.equal(safety(model, null), "1 file broke off: nobody is sending it now. What has arrived is kept.");
  assert.doesNotMatch([verdict(model, null).text, summary(model, null, null), spoken(model, null)].join(), /[Ss]ending/);
});

test("a submission says whether the page may be closed", () => {
  const texts = [
    safety(modelOf(["receiving"]), "going"), safety(modelOf(["receiving"]), "held"), safety(modelOf(["succeeded"], { state: "open" }), null),
    safety(modelOf(["receiving"]), null), safety(modelOf(["succeeded", "running"]), null), safety(modelOf(["succeeded"]), null),
  ];
  assert.deepEqual(texts, [
    "Keep this page open until all bytes have arrived.", "What has arrived is kept. Keep this page open to send the rest.",
    "More files may still arrive.", "The last bytes have arrived; the server is storing them.",
    "All bytes have arrived. It is safe to close this page; processing continues without it.", "",
  ]);
});

test("the summary is about bytes and the time left, and about the time it took at the end", () => {
  const sending = modelOf(["receiving", "failed"]);
  assert.equal(summary(sending, "going", null), "1.5 KiB of 2 KiB sent");
  sending.turn(sending.entries[0], "sending");
  sending.sent(sending.entries[0], 512, 256);
  assert.equal(summary(sending, "going", 4), "1.5 KiB of 2 KiB sent · 256 bytes/s · a few seconds left");
  const settled = modelOf(["succeeded", "aborted", "cancelled"], { settled_at: "2026-01-01T00:01:05Z" });
  assert.equal(summary(settled, null, 4), "2 KiB · took 1 min 5 s");
  assert.equal(summary(modelOf(["running"], { settled_at: "2026-01-01T00:01:05Z" }), null, 40), "1 KiB · about 40 s left");
});

test("while files are loaded, the total and the verdict are known, and no sum is of a part", () => {
  const counts = { announced: 0, receiving: 0, aborted: 0, queued: 0, running: 0, succeeded: 4000, failed: 1, cancelled: 0 };
  const model = modelOf(["succeeded"], { state: "settled", counts, files_next: "x" });
  assert.deepEqual([verdict(model, null).text, summary(model, null, null), pageTitle(model)], ["Done: 4,000 succeeded, 1 failed", "", "✗ Dropmill"]);
});

test("the title counts files, then shows the outcome", () => {
  const titles = [modelOf(["announced"]), modelOf(["succeeded", "running"]), modelOf(["succeeded"], { state: "open" }), modelOf([], { state: "open" })].map(pageTitle);
  assert.deepEqual(titles, ["0/1 · Dropmill", "1/2 · Dropmill", "1/1 · Dropmill", "Dropmill"]);
});

test("screen readers hear failures at once, and of many files each tenth", () => {
  assert.equal(spoken(modelOf(["running", "succeeded"]), null), "Processing, 1 of 2 done.");
  assert.equal(spoken(modelOf(["running", "failed"]), null), "Processing, 1 of 2 done, 1 failed.");
  assert.equal(spoken(modelOf(["failed", "succeeded"]), null), "Done: 1 succeeded, 1 failed.");
  const many = (/** @type {number} */ done) => spoken(modelOf([...Array(done).fill("succeeded"), ...Array(100 - done).fill("running")]), null);
  assert.deepEqual([many(0), many(9), many(10), many(19)], ["Processing, 0 of 100 done.", "Processing, 0 of 100 done.", "Processing, 10 of 100 done.", "Processing, 10 of 100 done."]);
});
