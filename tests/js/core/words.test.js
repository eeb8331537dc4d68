// Labels, colours and icons of states and events.

import assert from "node:assert/strict";
import { test } from "node:test";

import { eventAbout, eventTone, eventWord, stateLook, stateOf, stateWord } from "../../../static/js/core/words.js";

/** @param {Record<string, any>} [more] @returns {any} an entry of the model */
const entry = (more = {}) => ({ upload: "announced", received: 0, sending: null, job: null, ...more });

test("labels come from the catalogue; what it lacks is its own label", () => {
  assert.deepEqual([stateWord("queued"), stateWord("surprising"), eventWord("job.queued", {}), eventWord("job.new", {})], ["Waiting", "surprising", "waiting", "job.new"]);
});

test("the state of a file is that of its job, once it has one", () => {
  assert.equal(stateOf(entry({ upload: "stored", job: { state: "running" }, sending: "retrying" })), "running");
});

test("the state of a file without a job is its upload's, unless this page knows more", () => {
  const states = [
    entry(), entry({ upload: "receiving" }), entry({ upload: "aborted" }), entry({ sending: "waiting", received: 5 }),
    entry({ sending: "sending" }), entry({ sending: "sending", received: 1 }), entry({ sending: "together", received: 1 }),
    entry({ sending: "paused", received: 5 }), entry({ sending: "retrying" }), entry({ sending: "refused" }),
    entry({ sending: "retrying", upload: "stored" }), entry({ upload: "aborted", cause: "cancelled" }),
    entry({ upload: "aborted", cause: "cut_off", isBroken: true }), entry({ sending: "together", upload: "aborted", cause: "cut_off" }),
  ].map(stateOf);
  assert.deepEqual(states, [
    "announced", "receiving", "aborted", "announced", "announced", "receiving", "receiving", "paused", "retrying", "refused", "stored",
    "given_up", "broken", "announced",
  ]);
});

test("an unknown state has a quiet look", () => {
  assert.deepEqual([stateLook("failed").tone, stateLook("surprising")], ["bad", { tone: "quiet", icon: "clock" }]);
});

test("a settled job is coloured by its outcome", () => {
  const tones = ["succeeded", "failed", "cancelled"].map((state) => eventTone("job.settled", { state }));
  assert.deepEqual([...tones, eventTone("upload.aborted", {}), eventTone("upload.stored", {})], ["good", "bad", "quiet", "bad", "quiet"]);
});

test("an upload that its person cancelled is no fault: its words and colours are a cancelled job's", () => {
  assert.deepEqual([stateWord("given_up"), stateLook("given_up")], [stateWord("cancelled"), stateLook("cancelled")]);
  const line = (/** @type {any} */ data) =>
    [eventWord("upload.aborted", data), eventTone("upload.aborted", data), eventAbout({ name: "upload.aborted", subject: { name: "a" }, data })];
  assert.deepEqual(line({ cause: "cancelled", reason: "the client terminated it" }), ["cancelled", "quiet", "a"]);
  assert.deepEqual(line({ cause: "cut_off", reason: "the connection was cut" }), ["not sent", "bad", "a: the connection broke"]);
  assert.deepEqual(line({ cause: "replaced", reason: "it was sent again and is stored" }), ["not sent", "quiet", "a: it was sent again"]);
});

test("the log says what an event is about", () => {
  const about = (/** @type {string} */ name, /** @type {any} */ data, subject = { name: "a\u202e.txt" }) => eventAbout({ name, subject, data });
  const file = "a\u27e8U+202E\u27e9.txt";
  assert.equal(about("upload.stored", {}), file);
  assert.equal(about("upload.aborted", { reason: "too large" }), `${file}: too large`);
  assert.equal(about("attempt.failed", { error: { type: "E", message: "no\nway" }, exit_code: 1 }), `${file}: no\u240away`);
  assert.equal(about("attempt.failed", { error: null, exit_code: 3 }), `${file}: exit 3`);
  assert.equal(about("attempt.failed", { error: null, exit_code: -9 }), `${file}: signal 9`);
  assert.equal(about("job.settled", { state: "failed" }), `${file}: failed`);
  assert.equal(about("job.queued", { reason: "stored" }), file);
  assert.equal(about("job.queued", { reason: "retry" }), `${file}: retry requested`);
  assert.equal(about("job.cancel_requested", { count: 1 }), file);
  assert.equal(about("job.retry_requested", { count: 3 }, /** @type {any} */ ({ name: null })), "submission");
  assert.equal(about("submission.sealed", {}, /** @type {any} */ ({ name: null })), "submission");
  assert.equal(about("client.identified", { host: null }), "no host name");
  assert.equal(about("client.identified", { host: "pc7", verified: false }), "pc7 (not confirmed)");
  const identified = { name: "client.identified", subject: { client: { ip: "10.0.0.7" } }, data: { host: "pc7", verified: true } };
  assert.equal(eventAbout(identified), "10.0.0.7 pc7");
});
