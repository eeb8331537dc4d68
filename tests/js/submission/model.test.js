// One submission: snapshots, events and the page's own sending.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { FOLDED_EVENTS, IGNORED_EVENTS, SubmissionModel, noCounts } from "../../../static/js/submission/model.js";
import { stateOf } from "../../../static/js/core/words.js";
import { Random } from "../random.js";

/** @typedef {import("../../../static/js/core/live.js").LiveEvent} LiveEvent */

let cursor = 0;

/** @param {string} name @param {Record<string, any>} [subject] @param {Record<string, any>} [data] @returns {LiveEvent} */
function event(name, subject = {}, data = {}) {
  cursor += 1;
  return { cursor, at: new Date(Date.UTC(2026, 0, 1) + cursor * 1000).toISOString(), name, subject: { submission_id: "s", ...subject }, data };
}

/** @param {string} id @param {Record<string, any>} [more] a File of the API */
const file = (id, more = {}) => ({ id, name: `${id}.txt`, path: null, size: 10, received: 0, state: "announced", job: null, ...more });

/** @param {Record<string, any>} [more] a Job of the API */
const job = (more = {}) => ({
  id: "j", state: "queued", started_at: null, duration: null, position: null, exit_code: null, error: null, output_size: 0,
  result_count: 0, results: [], attempts: [], progress: null, ...more,
});

/** @param {any[]} files @param {Record<string, any>} [more] a Submission of the API */
const submission = (files, more = {}) => ({ id: "s", state: "open", opened_at: "2026-01-01T00:00:00Z", settled_at: null, client: { ip: "::1" }, files, ...more });

/** @returns {LiveEvent[]} everything that happens to a file with a failed and a successful attempt */
const life = () => {
  const of = { file_id: "f", name: "f.txt" };
  const ofJob = { ...of, job_id: "j" };
  return [
    event("submission.opened", { client: { ip: "10.0.0.7", host: null, verified: false, domain: null } }),
    event("client.identified", {}, { host: "pc7.lab", verified: true, domain: "lab" }),
    event("upload.started", of, { size: 10, path: "folder/f.txt" }),
    event("upload.stored", of, { size: 10, sha256: "00" }),
    event("job.queued", ofJob, { reason: "stored" }),
    event("submission.sealed", {}, { counts: {} }),
    event("attempt.started", { ...ofJob, attempt: 1 }, {}),
    event("attempt.failed", { ...ofJob, attempt: 1 }, { exit_code: 1 }),
    event("job.settled", ofJob, { state: "failed", exit_code: 1, error: { type: "E", message: "m" }, duration: 1, output_size: 5, result_count: 0, results: [] }),
    event("submission.settled", {}, { number: 1 }),
    event("job.queued", ofJob, { reason: "retry" }),
    event("attempt.started", { ...ofJob, attempt: 2 }, {}),
    event("attempt.succeeded", { ...ofJob, attempt: 2 }, { exit_code: 0 }),
    event("job.settled", ofJob, { state: "succeeded", exit_code: 0, error: null, duration: 2, output_size: 6, result_count: 1, results: [{ path: "r", size: 1 }] }),
    event("submission.settled", {}, { number: 2 }),
  ];
};

/** @param {SubmissionModel} model */
const state = ({ entries, isOpen, openedAt, settledAt, client }) => structuredClone({ entries, isOpen, openedAt, settledAt, client });

test("events alone rebuild a submission", () => {
  const model = new SubmissionModel("s");
  model.fold(life());
  assert.equal(model.entries.length, 1);
  const [entry] = model.entries;
  assert.deepEqual([entry.path, entry.size, entry.received, entry.upload], ["folder/f.txt", 10, 10, "stored"]);
  assert.deepEqual(
    [entry.job?.state, entry.job?.attempts, entry.job?.error, entry.job?.duration, entry.job?.result_count],
    ["succeeded", 2, null, 2, 1],
  );
  assert.deepEqual(model.client, { ip: "10.0.0.7", host: "pc7.lab", verified: true, domain: "lab" });
  assert.ok(model.isSettled);
  assert.ok(model.settledAt);
});

test("events in any portions lead to the same state", (t) => {
  const random = new Random(t);
  const events = life();
  const whole = new SubmissionModel("s");
  whole.fold(events);
  for (let times = 0; times < 50; times += 1) {
    const model = new SubmissionModel("s");
    for (let at = 0; at < events.length;) {
      const end = at + 1 + random.below(4);
      model.fold(events.slice(at, end));
      at = end;
    }
    assert.deepEqual(state(model), state(whole));
  }
});

test("folding all events again, as after a reconnect, changes nothing", () => {
  const model = new SubmissionModel("s");
  const events = life();
  model.fold(events);
  const before = state(model);
  model.fold(events);
  assert.deepEqual(state(model), before);
});

test("each moment has its state", () => {
  const seen = [];
  const model = new SubmissionModel("s");
  for (const one of life()) {
    model.fold([one]);
    seen.push(model.entries[0]?.job?.state ?? model.entries[0]?.upload ?? null);
  }
  assert.deepEqual(seen, [
    null, null, "receiving", "stored", "queued", "queued", "running", "running", "failed", "failed", "queued", "running", "running", "succeeded", "succeeded",
  ]);
});

test("a retry unsettles the submission", () => {
  const model = new SubmissionModel("s");
  model.fold(life().slice(0, 11));
  assert.equal(model.settledAt, null);
  assert.equal(model.entries[0].job?.attempts, 1, "those before still count");
  assert.equal(model.isSettled, false);
});

test("an event of an unknown file adds it with its name", () => {
  const model = new SubmissionModel("s");
  model.fold([event("upload.aborted", { file_id: "x", name: "Größe\u202e.txt" }, { reason: "too large" })]);
  assert.deepEqual(model.entries.map(({ path, upload, error }) => [path, upload, error]), [["Größe\u202e.txt", "aborted", "too large"]]);
});

test("events of a job that the page does not know are no error", () => {
  const model = new SubmissionModel("s");
  model.fold([event("attempt.started", { file_id: "f", job_id: "j", attempt: 1, name: "f" }), event("job.settled", { file_id: "f", job_id: "j", name: "f" }, { state: "failed" })]);
  assert.equal(model.entries[0].job, null);
});

test("an unknown event is skipped", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("f")]));
  const before = state(model);
  model.fold([event("upload.teleported", { file_id: "f", name: "f" }), event("constructor", {}), event("submission.exploded")]);
  assert.deepEqual(state(model), before);
});

test("an event is either folded or ignored", () => {
  assert.deepEqual([...FOLDED_EVENTS].filter((name) => IGNORED_EVENTS.has(name)), []);
});

test("an old answer of the API cannot take back what events said", () => {
  const model = new SubmissionModel("s");
  model.fold(life());
  const before = state(model);
  model.take(submission([file("f", { state: "receiving", received: 3, job: job({ state: "running", attempts: [{}] }) })]), true);
  assert.deepEqual(state(model), { ...before, openedAt: "2026-01-01T00:00:00Z" });
});

test("a fresh answer replaces the state of jobs, never that of uploads backwards", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("f", { state: "stored", received: 10, job: job({ state: "running", attempts: [{}] }) })]));
  model.take(submission([file("f", { state: "receiving", received: 4, job: job({ state: "succeeded", attempts: [{}, {}] }) })], { state: "settled" }));
  assert.deepEqual([model.entries[0].upload, model.entries[0].received, model.entries[0].job?.state, model.entries[0].job?.attempts], ["stored", 10, "succeeded", 2]);
  assert.equal(model.isOpen, false);
  model.take(submission([], { state: "open" }));
  assert.equal(model.isOpen, false, "a sealed submission never opens again");
});

test("a file without a path is called by its name", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("a"), file("b", { path: "x/b.txt" })]));
  assert.deepEqual(model.entries.map(({ path }) => path), ["a.txt", "x/b.txt"]);
});

test("what this page sends counts its own bytes, and they may fall", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("f")]));
  const [entry] = model.entries;
  model.turn(entry, "sending");
  model.sent(entry, 8, 100);
  model.progress({ file_id: "f", stage: "upload", value: 9, total: 10, label: null });
  model.takeFiles([file("f", { state: "receiving", received: 9 })]);
  assert.deepEqual([entry.received, model.speed], [8, 100]);
  model.sent(entry, 4, 50);
  assert.equal(entry.received, 4);
  model.turn(entry, "paused");
  assert.equal(model.speed, 0);
  model.fold([event("upload.stored", { file_id: "f", name: "f" }, { size: 10 })]);
  model.sent(entry, 2, 50);
  assert.deepEqual([entry.received, entry.upload], [10, "stored"], "late progress of a stored file");
});

test("progress of the server never falls, and counts for running jobs only", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("f", { state: "receiving", received: 5, job: null })]));
  model.progress({ file_id: "f", stage: "upload", value: 3, total: 10, label: null });
  assert.equal(model.entries[0].received, 5);
  model.fold([event("job.queued", { file_id: "f", job_id: "j", name: "f" })]);
  model.progress({ file_id: "f", stage: "process", value: 1, total: 2, label: "late" });
  assert.equal(model.entries[0].job?.progress, null);
  model.fold([event("attempt.started", { file_id: "f", job_id: "j", attempt: 1, name: "f" })]);
  model.progress({ file_id: "f", stage: "process", value: 1, total: 2, label: "half" });
  assert.deepEqual(model.entries[0].job?.progress, { value: 1, total: 2, label: "half" });
  model.progress({ file_id: "unknown", stage: "process", value: 1, total: 2, label: null });
});

test("a file that the page has given up stays given up, although the news that it began comes later", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("f")]));
  model.giveUp(model.entries[0], "you cancelled it", "cancelled");
  model.fold([event("upload.started", { file_id: "f", name: "f.txt" }, { size: 10 })]);
  assert.equal(stateOf(model.entries[0]), "given_up");
});

test("the reason why this page gave a file up is kept when the server's event arrives", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("f")]));
  model.giveUp(model.entries[0], "you cancelled it", "cancelled");
  model.fold([event("upload.aborted", { file_id: "f", name: "f" }, { reason: "terminated" })]);
  assert.equal(model.entries[0].error, "you cancelled it");
});

test("positions are those of queued jobs, and vanish when the answer lacks them", () => {
  const model = new SubmissionModel("s");
  model.take(submission([
    file("a", { state: "stored", job: job({ id: "ja" }) }), file("b", { state: "stored", job: job({ id: "jb", state: "running" }) }),
  ]));
  model.takePositions(new Map([["ja", 2], ["jb", 3]]));
  assert.deepEqual(model.entries.map((entry) => entry.job?.position), [2, null]);
  model.takePositions(new Map());
  assert.equal(model.entries[0].job?.position, null);
});

test("each file counts once", () => {
  const model = new SubmissionModel("s");
  model.take(submission([
    file("a"), file("b", { state: "receiving" }), file("c", { state: "aborted", cause: "refused" }),
    file("d", { state: "stored" }), file("e", { state: "aborted", cause: "cancelled" }), file("f", { state: "aborted", cause: "cut_off" }),
    ...["queued", "running", "succeeded", "failed", "cancelled"].map((state) => file(state, { state: "stored", job: job({ id: state, state }) })),
  ]));
  assert.deepEqual(model.counts, {
    ...noCounts(), announced: 1, receiving: 1, aborted: 1, given_up: 1, broken: 1, stored: 1, queued: 1, running: 1, succeeded: 1, failed: 1, cancelled: 1,
  });
});

test("aborted files have no bytes, and a file of unknown size has those that came", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("a", { received: 4, state: "receiving" }), file("b", { received: 9, state: "aborted", cause: "cancelled" }), file("c", { size: null, received: 7, state: "receiving" })]));
  assert.deepEqual(model.bytes, { received: 11, total: 17 });
});

test("a submission is safe when sealed and stored, and settled when its jobs are", () => {
  const model = new SubmissionModel("s");
  assert.deepEqual([model.isAllStored, model.isSettled], [false, false], "an open one without files");
  model.take(submission([file("a", { state: "stored", job: job() }), file("b", { state: "aborted" })]));
  assert.equal(model.isAllStored, false);
  model.take(submission([], { state: "processing" }));
  assert.deepEqual([model.isAllStored, model.isSettled], [true, false]);
  model.fold([event("job.settled", { file_id: "a", job_id: "j", name: "a" }, { state: "cancelled" })]);
  assert.equal(model.isSettled, true);
});

test("changes name their entries; new entries ask for a full redraw", () => {
  const model = new SubmissionModel("s");
  /** @type {(string[] | null)[]} */
  const seen = [];
  model.addEventListener("change", (change) => {
    const ids = /** @type {CustomEvent<Set<string> | null>} */ (change).detail;
    seen.push(ids && [...ids]);
  });
  model.take(submission([file("a"), file("b")]));
  model.fold([event("upload.started", { file_id: "b", name: "b" }), event("upload.stored", { file_id: "b", name: "b" }, { size: 1 })]);
  model.fold([event("upload.started", { file_id: "c", name: "c" })]);
  model.fold([event("submission.sealed")]);
  assert.deepEqual(seen, [null, ["b"], null, []]);
});

test("a file that nobody sends is broken off, once its sender had the time to begin", () => {
  const model = new SubmissionModel("s");
  const opened = Date.UTC(2026, 0, 1);
  const words = () => model.entries.map((entry) => stateOf(entry));
  model.take(submission([
    file("a", { state: "receiving", received: 4, is_sending: false }), file("b", { is_sending: false }),
    file("c", { state: "receiving", received: 10, is_sending: false }), // the server is storing it
  ]));
  model.tick(opened + 1000);
  assert.deepEqual(words(), ["broken", "announced", "receiving"]);
  model.tick(opened + 60_000);
  assert.deepEqual(words(), ["broken", "broken", "receiving"]);
  assert.deepEqual([model.counts.broken, model.counts.receiving], [2, 1]);
  model.takeSending(["a"]);
  model.tick(opened + 61_000);
  assert.deepEqual(words(), ["receiving", "announced", "receiving"], "its sender is back and will send the other one, too");
  model.takeSending([]);
  model.tick(opened + 63_000);
  assert.deepEqual(words(), ["broken", "announced", "receiving"]);
  model.progress({ file_id: "a", stage: "upload", value: 6, total: 10, label: null });
  model.turn(model.entries[1], "paused");
  model.tick(opened + 90_000);
  assert.deepEqual(words(), ["receiving", "paused", "receiving"]);
});

test("a file that was announced again takes the place of the earlier one", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("a"), file("b"), file("c"), file("d")]));
  model.replace("a", "d");
  assert.deepEqual([model.entries.map(({ id }) => id), model.total, model.counts.announced], [["d", "b", "c"], 3, 3]);
  model.takeFiles([file("a", { state: "aborted" })]);
  model.fold([event("upload.aborted", { file_id: "a", name: "a.txt" }, { reason: "gone" })]);
  assert.deepEqual([model.entries.length, model.counts.aborted, model.bytes.total], [3, 0, 30], "it does not come back");
  model.replace("a", "b");
  model.replace("b", "b");
  assert.equal(model.entries.length, 3);
});

test("in every tab a file counts once that was sent again after it broke off", () => {
  const again = file("z", { name: "a.txt" });
  for (const aborted of [file("a", { state: "aborted" }), file("a")]) {
    const model = new SubmissionModel("s");
    model.take(submission([aborted, file("b"), again]));
    model.fold([event("upload.aborted", { file_id: "a", name: "a.txt" }, { reason: "gone" })]);
    assert.deepEqual(model.entries.map(({ id }) => id), ["z", "b"]);
  }
  const other = new SubmissionModel("s");
  other.take(submission([file("a", { state: "aborted" }), file("z", { name: "a.txt", size: 11 })]));
  assert.equal(other.entries.length, 2, "another file of the same name");
});

test("what broke off is awaited while the submission is open, and not sent once it is sealed", () => {
  const model = new SubmissionModel("s");
  const causes = ["cut_off", "server_failed", "expired", "damaged", undefined, "refused", "unreadable", "cancelled"];
  model.take(submission(causes.map((cause, number) => file(`f${number}`, { state: "aborted", received: 4, cause, error: "why" }))));
  const words = () => model.entries.map((entry) => stateOf(entry));
  assert.deepEqual(words(), ["broken", "broken", "broken", "broken", "broken", "aborted", "aborted", "given_up"]);
  assert.deepEqual([model.counts.broken, model.isAllStored, model.bytes], [5, false, { received: 0, total: 50 }]);
  model.turn(model.entries[0], "waiting");
  assert.equal(words()[0], "announced", "this page sends it again");
  model.turn(model.entries[0], null);
  /** @type {string[]} */
  let changed = [];
  model.addEventListener("change", (change) => { changed = [...changed, .../** @type {any} */ (change).detail ?? []]; });
  model.fold([event("submission.sealed")]);
  assert.deepEqual(words(), [...Array.from({ length: 7 }, () => "aborted"), "given_up"]);
  assert.deepEqual([new Set(changed).size, model.counts.broken, model.isAllStored, model.isSettled], [8, 0, true, true]);
});

test("the cause comes with the event, and an upload that this page cancelled stays cancelled", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("a", { state: "receiving", received: 3 }), file("b"), file("c")]));
  model.giveUp(model.entries[1], "you cancelled it", "cancelled");
  model.fold([
    event("upload.aborted", { file_id: "a", name: "a" }, { cause: "cut_off", reason: "the connection was cut" }),
    event("upload.aborted", { file_id: "b", name: "b" }, { cause: "expired", reason: "too late" }),
    event("upload.aborted", { file_id: "c", name: "c" }, { cause: "cancelled", reason: "the client terminated it" }),
  ]);
  assert.deepEqual(model.entries.map((entry) => [stateOf(entry), entry.cause, entry.received]), [
    ["broken", "cut_off", 0], ["given_up", "cancelled", 0], ["given_up", "cancelled", 0],
  ]);
});

test("a file that broke off and that somebody then cancelled is cancelled on every page", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("a", { state: "aborted", cause: "cut_off", error: "the connection was cut" }), file("b")]));
  model.fold([event("upload.aborted", { file_id: "a", name: "a.txt" }, { cause: "cancelled", reason: "the client terminated it" })]);
  model.takeFiles([file("a", { state: "aborted", cause: "cut_off", error: "the connection was cut" })], true);
  assert.deepEqual([stateOf(model.entries[0]), model.entries[0].error], ["given_up", "the client terminated it"]);
  assert.deepEqual([model.counts.broken, model.counts.given_up], [0, 1]);
});

test("a file of unknown size that broke off goes when the server says that it is stored as another", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("a", { name: "a.txt", size: null, state: "aborted", cause: "cut_off" }), file("z", { name: "a.txt", state: "stored" })]));
  assert.equal(model.entries.length, 2);
  model.fold([event("upload.aborted", { file_id: "a", name: "a.txt" }, { cause: "replaced", reason: "it was sent again and is stored" })]);
  assert.deepEqual([model.entries.map(({ id }) => id), model.counts.aborted, model.total], [["z"], 0, 1]);
  const reloaded = new SubmissionModel("s");
  reloaded.take(submission([file("a", { name: "a.txt", size: null, state: "aborted", cause: "replaced" }), file("z", { name: "a.txt" })]));
  assert.deepEqual([reloaded.entries.map(({ id }) => id), reloaded.isComplete], [["z"], true]);
});

test("after a reload, too, a file that broke off several times is one row", () => {
  const aborted = { name: "a.txt", state: "aborted", cause: "cut_off" };
  const model = new SubmissionModel("s");
  model.take(submission([file("a", aborted), file("b", aborted), file("c", aborted)]));
  assert.deepEqual([model.entries.map(({ id }) => id), model.counts.broken, model.isComplete], [["c"], 1, true]);
  const other = new SubmissionModel("s");
  other.take(submission([file("a", { ...aborted, fingerprint: "1" }), file("b", { ...aborted, fingerprint: "2" })]));
  assert.equal(other.counts.broken, 2, "another content is another file");
});

test("while files are loaded the server's counts are shown, and events wait for their files", () => {
  const model = new SubmissionModel("s");
  const counts = { announced: 0, receiving: 0, aborted: 0, queued: 2, running: 1, succeeded: 0, failed: 0, cancelled: 0 };
  const stored = (/** @type {string} */ id) => file(id, { state: "stored", received: 10, job: job({ id: `j${id}` }) });
  model.take(submission([stored("a")], { counts, files_next: "x", state: "processing" }));
  assert.deepEqual([model.total, model.counts.queued, model.counts.running, model.isComplete], [3, 2, 1, false]);
  model.fold([
    event("attempt.started", { file_id: "c", job_id: "jc", attempt: 1, name: "c.txt" }),
    event("attempt.started", { file_id: "a", job_id: "ja", attempt: 1, name: "a.txt" }),
  ]);
  assert.deepEqual(model.entries.map(({ id, job }) => [id, job?.state]), [["a", "running"]]);
  model.takeFiles([stored("b"), stored("c")]);
  assert.deepEqual(model.entries.map(({ id, job }) => [id, job?.state]), [["a", "running"], ["b", "queued"], ["c", "running"]]);
  assert.deepEqual([model.total, model.counts.queued, model.counts.running, model.isComplete], [3, 1, 2, true]);
  assert.deepEqual([...model.running].map(({ id }) => id).sort(), ["a", "c"]);
});

test("sums are the same as if they were computed from every entry", (t) => {
  const random = new Random(t);
  const model = new SubmissionModel("s");
  model.take(submission(Array.from({ length: 20 }, (_, number) => file(`f${number}`))));
  const events = Array.from({ length: 20 }, (_, number) => life().slice(2).map((one) => ({ ...one, subject: { ...one.subject, file_id: `f${number}`, name: `f${number}.txt` } })));
  for (let times = 0; times < 400; times += 1) {
    const entry = model.entries[random.below(model.entries.length)];
    const step = random.below(4);
    const next = events[random.below(20)].shift();
    if (step === 0) model.turn(entry, /** @type {const} */ (["waiting", "sending", "paused", null])[random.below(4)]);
    else if (step === 1) model.sent(entry, random.below(10), random.below(100));
    else if (next) model.fold([next]);
    const counts = noCounts();
    for (const one of model.entries) counts[/** @type {keyof typeof counts} */ (stateOf(one))] += 1;
    assert.deepEqual(model.counts, counts);
    assert.equal(model.bytes.received, model.entries.reduce((sum, { upload, received }) => sum + (upload === "aborted" ? 0 : received), 0));
    assert.equal(model.speed, model.entries.reduce((sum, { speed }) => sum + speed, 0));
    assert.equal(model.hasResults, model.entries.some((one) => (one.job?.result_count ?? 0) > 0));
  }
});

test("offline, what this page sends rests until bytes move again", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("a"), file("b")]));
  model.turn(model.entries[0], "sending");
  model.sent(model.entries[0], 4, 50);
  model.stall();
  assert.deepEqual([model.entries.map((entry) => stateOf(entry)), model.speed], [["retrying", "announced"], 0]);
  model.sent(model.entries[0], 5, 50);
  assert.equal(stateOf(model.entries[0]), "receiving");
});

test("what is done together is told once, and only if something has changed", () => {
  const model = new SubmissionModel("s");
  model.take(submission([file("a"), file("b"), file("c")]));
  /** @type {(Set<string> | null)[]} */
  const told = [];
  model.addEventListener("change", (event) => told.push(/** @type {CustomEvent} */ (event).detail));
  const [a, b] = model.entries;
  model.together(() => {
    model.turn(a, "waiting");
    model.together(() => model.turn(b, "waiting"));
    assert.deepEqual(told, []);
  });
  assert.deepEqual(told, [new Set(["a", "b"])]);
  model.together(() => {});
  assert.equal(told.length, 1);
  model.together(() => {
    model.takeFiles([file("d")]);
    model.turn(a, null);
  });
  assert.deepEqual(told.slice(1), [null], "entries came: the list is told as a whole");
  assert.throws(() => model.together(() => {
    model.turn(b, null);
    throw new Error("failed");
  }), /failed/);
  assert.deepEqual(told.slice(2), [new Set(["b"])], "what was done before a failure is told");
});

test("20,000 files are folded", () => {
  const model = new SubmissionModel("s");
  const events = Array.from({ length: 20_000 }, (_, number) => event("upload.stored", { file_id: `f${number}`, name: `f${number}` }, { size: 1 }));
  model.fold(events);
  model.fold(events);
  assert.equal(model.entries.length, 20_000);
  assert.equal(model.bytes.received, 20_000);
});
