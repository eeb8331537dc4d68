// Which events are lines of the live log, and their text.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { isStep, lineOf, textOf } from "../../../static/js/submission/log-lines.js";

/** @param {string} name @param {Record<string, any>} [data] @param {Record<string, any>} [subject] @returns {any} */
const event = (name, data = {}, subject = {}) => ({ cursor: 7, at: "2026-01-01T00:00:01.234Z", name, data, subject: { name: "a.txt", client: { ip: "10.0.0.7", host: null }, ...subject } });

test("a small file that succeeds takes three lines, one for each step", () => {
  const life = [
    event("upload.started", { size: 120 }), event("upload.stored", { size: 120 }), event("job.queued", { reason: "stored" }), event("attempt.started"),
    event("attempt.succeeded", { exit_code: 0, duration: 1 }), event("job.settled", { state: "succeeded", duration: 1 }),
  ];
  assert.deepEqual(life.filter(isStep).map((one) => lineOf(one, "10.0.0.7").word), ["sent", "picked up", "processed"]);
});

test("sending a large file, a retry and a job that ends without its script are steps", () => {
  assert.ok(isStep(event("upload.started", { size: null })) && isStep(event("upload.started", { size: 2 ** 30 })));
  assert.ok(isStep(event("job.queued", { reason: "retry" })));
  const cancelled = event("job.settled", { state: "cancelled", duration: null, error: null });
  const lost = event("job.settled", { state: "failed", duration: null, error: { type: "lost", message: "vanished 5 times" } });
  assert.ok(isStep(cancelled) && isStep(lost));
  assert.deepEqual([lineOf(cancelled, ""), lineOf(lost, "")].map(({ word, about, tone }) => [word, about, tone]), [
    ["cancelled", "a.txt", "quiet"], ["failed", "a.txt: vanished 5 times", "bad"],
  ]);
});

test("a failure says why, and the end is all done", () => {
  assert.deepEqual(
    [event("attempt.failed", { error: { type: "E", message: "no" }, exit_code: 1 }), event("submission.settled")].map((one) => lineOf(one, "10.0.0.7")).map(({ word, about }) => [word, about]),
    [["failed", "a.txt: no"], ["all done", "submission"]],
  );
});

test("a line names the client only if it is another one than the submission's", () => {
  const from = (/** @type {string} */ client, /** @type {any} */ subject) => lineOf(event("upload.stored", {}, subject), client).client;
  assert.equal(from("10.0.0.7", {}), "");
  assert.equal(from("10.0.0.7 pc7.lab", {}), "", "its name was not known yet");
  assert.equal(from("10.0.0.70", {}), "10.0.0.7");
  assert.equal(from("10.0.0.8", { client: { ip: "10.0.0.7", host: "pc7.lab" } }), "10.0.0.7 pc7.lab");
  assert.equal(from("10.0.0.7", { client: { ip: "10.0.0.7", host: "pc7.lab" } }), ""); // the head will say it soon
  assert.equal(textOf(lineOf(event("upload.stored"), "10.0.0.8")), "2026-01-01T00:00:01.234Z  sent  a.txt  from 10.0.0.7");
});
