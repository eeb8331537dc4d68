// What the page says about a whole submission.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { headline, pageTitle, safety, spoken, summary, sums } from "../../../static/js/submission/overall.js";
import { SubmissionModel } from "../../../static/js/submission/model.js";

/**
 * @param {string[]} states of files: of the upload, or of the job
 * @param {Record<string, any>} [more] members of the Submission
 * @returns {SubmissionModel}
 */
function modelOf(states, more = {}) {
  const model = new SubmissionModel("s");
  const files = states.map((state, index) => {
    const hasJob = !["announced", "receiving", "aborted", "stored"].includes(state);
    const job = hasJob ? { id: `j${index}`, state, attempts: [], result_count: 0, results: [], progress: null } : null;
    const received = hasJob || state === "stored" ? 1024 : state === "receiving" ? 512 : 0;
    return { id: String(index), name: `n${index}`, path: null, size: 1024, received, state: hasJob ? "stored" : state, job };
  });
  model.take({ id: "s", state: "processing", opened_at: "2026-01-01T00:00:00Z", settled_at: null, client: null, files, ...more });
  return model;
}

test("a submission says whether the page may be closed", () => {
  const texts = [
    safety(modelOf(["receiving"]), "going"), safety(modelOf(["receiving"]), "held"), safety(modelOf(["succeeded"], { state: "open" }), null),
    safety(modelOf(["receiving"]), null), safety(modelOf(["succeeded", "running"]), null), safety(modelOf(["succeeded"]), "going"),
  ];
  assert.deepEqual(texts, [
    "Keep this page open until all bytes have arrived.", "What has arrived is kept. Keep this page open to send the rest.",
    "More files may still arrive.", "The last bytes have arrived; the server is storing them.",
    "All bytes have arrived. It is safe to close this page; processing continues without it.", "Keep this page open until all bytes have arrived.",
  ]);
});

test("the end says what went wrong, the worst first", () => {
  const texts = [["succeeded"], ["succeeded", "cancelled"], ["aborted", "cancelled"], ["failed", "aborted", "succeeded"]].map((states) => safety(modelOf(states), null));
  assert.deepEqual(texts, [
    "All files processed.", "Finished. Some files were cancelled; see below.", "Finished. Some files were not sent; see below.",
    "Finished. Some files failed; see below.",
  ]);
});

test("the headline counts what is over", () => {
  assert.equal(headline(modelOf([], { state: "open" })), "Nothing has arrived yet");
  assert.equal(headline(modelOf([])), "0 of 0 files");
  assert.equal(headline(modelOf(["succeeded", "failed", "cancelled", "aborted", "running"])), "4 of 5 files");
  assert.equal(headline(modelOf(["queued"])), "0 of 1 file");
  assert.deepEqual(sums(modelOf(["succeeded", "failed", "cancelled", "aborted", "running"]).counts), { over: 4, failed: 2 });
});

test("the summary is about bytes while sending, and about time at the end", () => {
  const sending = modelOf(["receiving", "failed"]);
  assert.equal(summary(sending, true), "1 failed · 1.5 KiB of 2 KiB sent");
  sending.turn(sending.entries[0], "sending");
  sending.sent(sending.entries[0], 512, 256);
  assert.equal(summary(sending, true), "1 failed · 1.5 KiB of 2 KiB sent · 256 bytes/s · a few seconds left");
  const settled = modelOf(["succeeded", "aborted", "cancelled"], { settled_at: "2026-01-01T00:01:05Z" });
  assert.match(summary(settled, false), /^1 not sent · 1 cancelled · 2 KiB · took 1 min 5 s · .*20(26|25)/);
  assert.doesNotMatch(summary(modelOf(["running"], { settled_at: "2026-01-01T00:01:05Z" }), false), /took/);
});

test("the title shows progress, then the outcome", () => {
  const titles = [
    modelOf(["announced"]), modelOf(["receiving"]), modelOf(["queued"]), modelOf(["succeeded", "running"]), modelOf(["succeeded"]),
    modelOf(["cancelled"]), modelOf(["failed"]), modelOf(["aborted"]), modelOf([]), modelOf(["succeeded"], { state: "open" }),
  ].map(pageTitle);
  assert.deepEqual(titles, [
    "(0 %) Dropmill", "(25 %) Dropmill", "(50 %) Dropmill", "(75 %) Dropmill", "✓ Dropmill", "✓ Dropmill", "✗ Dropmill", "✗ Dropmill",
    "✓ Dropmill", "(99 %) Dropmill",
  ]);
});

test("without bytes the files alone count", () => {
  const model = modelOf(["succeeded"], { state: "open" });
  model.entries[0].size = model.entries[0].received = 0;
  assert.equal(pageTitle(model), "(99 %) Dropmill");
});

test("screen readers hear failures with the count", () => {
  assert.equal(spoken(modelOf(["running", "succeeded"])), "1 of 2 files processed.");
  assert.equal(spoken(modelOf(["running", "failed"])), "1 of 2 files processed, 1 failed.");
  assert.equal(spoken(modelOf(["aborted", "succeeded"])), "Finished: 2 files, 1 failed.");
});
