// What the row of a file says.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { visible } from "../../../static/js/core/format.js";
import { errorOf, isBusy, isPartlySent, noteOf, processWords, splitPath, timeOf, uploadWords } from "../../../static/js/submission/row-text.js";

/** @param {Record<string, any>} [more] @returns {any} an entry of the model */
const entry = (more = {}) => ({
  upload: "stored", size: 100, received: 100, error: null, speed: 0, sending: null, remark: "", job: null, isBroken: false, isStalled: false,
  canContinue: false, ...more,
});

/** @param {Record<string, any>} [more] */
const job = (more = {}) => ({
  state: "succeeded", attempts: 1, started_at: null, duration: null, exit_code: 0, error: null, position: null, result_count: 0, results: [],
  progress: null, ...more,
});

/** @param {string} type @param {string} message @param {number | null} [exit_code] */
const failed = (type, message, exit_code = 1) => errorOf(entry({ job: job({ state: "failed", exit_code, error: { type, message } }) }));

test("an upload shows its share and speed, and never 100 % before it is stored", () => {
  assert.equal(uploadWords(entry({ upload: "receiving", received: 99.9, speed: 2048 })), "99 % · 2 KiB/s");
  assert.equal(uploadWords(entry({ upload: "receiving", received: 100 })), "99 %");
  assert.equal(uploadWords(entry({ upload: "receiving", size: null, received: 2048 })), "2 KiB");
  assert.equal(uploadWords(entry({ upload: "announced", sending: "paused", received: 47 })), "47 %");
  assert.equal(uploadWords(entry()), "sent");
  assert.equal(uploadWords(entry({ upload: "aborted", received: 50 })), "");
});

test("a file is partly sent from its first to its last byte", () => {
  const states = [entry({ upload: "announced", sending: "waiting", received: 0 }), entry({ upload: "announced", sending: "waiting", received: 1 }), entry({ sending: "sending", received: 100 })];
  assert.deepEqual(states.map(isPartlySent), [false, true, false]);
});

test("bars are shown while they say something", () => {
  const busy = [entry({ upload: "receiving" }), entry({ upload: "receiving", isBroken: true }), entry({ job: job({ state: "running" }) }), entry({ upload: "receiving", sending: "paused" })];
  const line = [entry(), entry({ upload: "announced" }), entry({ job: job() }), entry({ job: job({ state: "queued" }) }), entry({ upload: "aborted" })];
  assert.deepEqual([busy.every(isBusy), line.some(isBusy)], [true, false]);
});

test("a file that broke off says how far it came, and what to do", () => {
  const broken = { upload: "receiving", isBroken: true, received: 34 };
  assert.equal(noteOf(entry(broken)), "broken off at 34 %; pick it again to go on");
  assert.equal(noteOf(entry({ ...broken, canContinue: true })), "broken off at 34 %");
  assert.equal(noteOf(entry({ ...broken, upload: "announced", received: 0 })), "broken off at 0 %; pick it again to go on");
  assert.equal(noteOf(entry({ ...broken, size: null, received: 2048 })), "broken off at 2 KiB; pick it again to go on");
});

test("processing shows its percentage", () => {
  const texts = [
    null, job({ state: "queued" }), job({ state: "running" }), job({ state: "running", progress: { value: 1, total: 3 } }),
    job({ state: "running", progress: { value: 5, total: 3 } }), job({ state: "running", progress: { value: 5, total: null } }), job(),
  ].map((one) => processWords(entry({ job: one })));
  assert.deepEqual(texts, ["", "", "", "33 %", "100 %", "", ""]);
});

test("the note says where a job is, and what it left", () => {
  const texts = [
    job({ state: "queued" }), job({ state: "queued", position: 21 }), job({ state: "running" }), job({ state: "running", attempts: 2 }),
    job({ state: "running", progress: { value: 1, total: 2, label: "half\u202e way" } }),
    job({ duration: 1.25, attempts: 2, result_count: 2 }), job({ state: "failed", exit_code: -9 }), job(),
  ].map((one) => noteOf(entry({ job: one })));
  assert.deepEqual(texts, ["", "21st in the queue", "", "attempt 2", "half\u27e8U+202E\u27e9 way", "2 results · attempt 2", "", ""]);
});

test("a running job's time goes on, a settled one's is its duration", () => {
  const started = { state: "running", started_at: "2026-01-01T00:00:00Z" };
  const times = [job(started), job({ duration: 1.25 }), job({ state: "queued", duration: 3 }), null].map((one) => timeOf(entry({ job: one }), Date.UTC(2026, 0, 1, 0, 1, 5)));
  assert.deepEqual(times, ["1 min 5 s", "1.3 s", "", ""]);
});

test("an error has a plain sentence, and the script's own words", () => {
  assert.deepEqual(failed("ValueError", "cannot read it"), { sentence: "The script raised an exception.", words: "ValueError: cannot read it" });
  assert.deepEqual(failed("KeyError", ""), { sentence: "The script raised an exception.", words: "KeyError" });
  assert.deepEqual(failed("exit_code", "no such column: price", 2), { sentence: "The script ended with exit code 2.", words: "no such column: price" });
  assert.deepEqual(failed("exit_code", "exited with code 3", 3), { sentence: "The script ended with exit code 3.", words: "" });
  assert.deepEqual(failed("signal", "killed by SIGSEGV (signal 11)", -11), { sentence: "A signal ended the script.", words: "killed by SIGSEGV (signal 11)" });
  assert.equal(failed("timed_out", "took longer than 5 s", null)?.words, "took longer than 5 s");
  assert.deepEqual(errorOf(entry({ job: job({ state: "failed" }) })), { sentence: "The script gave no reason.", words: "" });
  assert.equal(errorOf(entry({ upload: "aborted", error: "too large" }))?.sentence, "Nothing was kept: too large.");
  assert.equal(errorOf(entry({ upload: "aborted", cause: "cancelled", error: "you cancelled it" })), null);
  assert.equal(errorOf(entry({ job: job({ state: "cancelled" }) })), null);
});

test("of a file in which a form was cut off nothing is left, and its row says how it is sent", () => {
  const cut = { upload: "aborted", cause: "cut_off", error: "the connection was cut", received: 0, isBroken: true };
  assert.equal(errorOf(entry(cut)), null);
  assert.equal(noteOf(entry(cut)), "starts anew; pick it again");
  assert.equal(noteOf(entry({ ...cut, canContinue: true })), "starts anew");
});

test("a remark about sending is a note, unless it is the error", () => {
  const remark = "The disk is full.";
  assert.equal(noteOf(entry({ upload: "announced", sending: "retrying", remark })), remark);
  const refused = entry({ upload: "announced", sending: "refused", remark });
  assert.deepEqual([noteOf(refused), errorOf(refused)], ["", { sentence: remark, words: "" }]);
});

test("a long name keeps its folder, its begin and its end apart", () => {
  assert.deepEqual(splitPath("a/b/portrait-043-of-somebody.tif.gz"), { folder: "a/b/", stem: "portrait-043-of-som", end: "ebody.tif.gz" });
  assert.deepEqual(splitPath("short.txt"), { folder: "", stem: "", end: "short.txt" });
  const family = "\u{1F468}\u200d\u{1F469}\u200d\u{1F467}";
  for (const path of [`x/${family.repeat(20)}`, "e\u0301".repeat(30), "", "folder/"]) {
    const { folder, stem, end } = splitPath(path);
    assert.doesNotMatch(stem.slice(-1), /[\ud800-\udbff]/);
    assert.doesNotMatch(end.slice(0, 1), /[\u0301\udc00-\udfff]/);
    assert.equal(folder + stem + end, visible(path));
  }
});
