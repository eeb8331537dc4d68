// What the row of a file says.

import assert from "node:assert/strict";
import { test } from "node:test";

import { FILTERS, errorOf, isPartlySent, noteOf, processWords, uploadWords } from "../../../static/js/submission/row-text.js";

/** @param {Record<string, any>} [more] @returns {any} an entry of the model */
const entry = (more = {}) => ({
  upload: "stored", size: 100, received: 100, error: null, speed: 0, sending: null, remark: "", job: null, ...more,
});

/** @param {Record<string, any>} [more] */
const job = (more = {}) => ({ state: "succeeded", attempts: 1, duration: null, exit_code: 0, error: null, position: null, result_count: 0, results: [], progress: null, ...more });

test("each state of a file is in exactly one filter besides all", () => {
  const states = [
    ...["announced", "receiving", "stored", "aborted"].map((upload) => entry({ upload })),
    ...["paused", "retrying", "refused"].map((sending) => entry({ upload: "announced", sending })),
    ...["queued", "running", "succeeded", "failed", "cancelled"].map((state) => entry({ job: job({ state }) })),
  ];
  const { all, ...others } = FILTERS;
  for (const one of states) {
    assert.ok(all(one));
    assert.equal(Object.values(others).filter((shows) => shows(one)).length, 1, JSON.stringify(one));
  }
});

test("an upload shows its share and speed, and never 100 % before it is stored", () => {
  assert.equal(uploadWords(entry({ upload: "receiving", received: 99.9, speed: 2048 })), "99 % · 2 KiB/s");
  assert.equal(uploadWords(entry({ upload: "receiving", received: 100 })), "99 %");
  assert.equal(uploadWords(entry({ upload: "receiving", size: null, received: 2048 })), "2 KiB");
  assert.equal(uploadWords(entry({ upload: "announced", sending: "paused", received: 47 })), "47 %");
  assert.equal(uploadWords(entry()), "sent");
  assert.equal(uploadWords(entry({ upload: "aborted", received: 50 })), "not sent");
});

test("a file is partly sent from its first to its last byte", () => {
  const states = [entry({ upload: "announced", sending: "waiting", received: 0 }), entry({ upload: "announced", sending: "waiting", received: 1 }), entry({ sending: "sending", received: 100 })];
  assert.deepEqual(states.map(isPartlySent), [false, true, false]);
});

test("processing shows its percentage, then its outcome", () => {
  const texts = [
    null, job({ state: "queued" }), job({ state: "running" }), job({ state: "running", progress: { value: 1, total: 3 } }),
    job({ state: "running", progress: { value: 5, total: 3 } }), job({ state: "running", progress: { value: 5, total: null } }),
    job({ state: "failed", exit_code: 2 }), job({ state: "failed", exit_code: -9 }), job({ state: "failed" }), job(), job({ state: "cancelled" }),
  ].map((one) => processWords(entry({ job: one })));
  assert.deepEqual(texts, ["", "", "", "33 %", "100 %", "", "exit 2", "signal 9", "failed", "processed", "cancelled"]);
});

test("the note says where a job is", () => {
  const texts = [
    job({ state: "queued" }), job({ state: "queued", position: 3 }), job({ state: "running" }), job({ state: "running", attempts: 2 }),
    job({ state: "running", progress: { value: 1, total: 2, label: "half\u202e way" } }),
    job({ duration: 1.25, attempts: 2, result_count: 2 }), job(),
  ].map((one) => noteOf(entry({ job: one })));
  assert.deepEqual(texts, [
    "queued", "3rd in the queue", "picked up", "attempt 2", "half\u27e8U+202E\u27e9 way", "2 results · attempt 2 · in 1.3 s", "",
  ]);
});

test("a remark about sending is a note, unless it is the error", () => {
  const remark = "The disk is full.";
  assert.equal(noteOf(entry({ upload: "announced", sending: "retrying", remark })), remark);
  const refused = entry({ upload: "announced", sending: "refused", remark });
  assert.deepEqual([noteOf(refused), errorOf(refused)], ["", remark]);
});

test("what went wrong is said, and nothing else is an error", () => {
  assert.equal(errorOf(entry({ job: job({ state: "failed", error: { type: "ValueError", message: "no\u0000" } }) })), "ValueError: no\u2400");
  assert.equal(errorOf(entry({ job: job({ state: "failed" }) })), "The script gave no reason.");
  assert.equal(errorOf(entry({ upload: "aborted", error: "you stopped sending" })), "Nothing was kept: you stopped sending.");
  assert.equal(errorOf(entry({ upload: "aborted" })), "Nothing was kept: the upload was interrupted.");
  assert.equal(errorOf(entry({ sending: "refused", upload: "announced" })), "The server refused the file.");
  for (const one of [entry(), entry({ job: job() }), entry({ job: job({ state: "cancelled" }) }), entry({ upload: "receiving" })]) assert.equal(errorOf(one), "");
});
