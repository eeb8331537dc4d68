// The sending of one submission's files.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { FakeServer } from "../fake-server.js";
import { SubmissionModel } from "../../../static/js/submission/model.js";
import { Sending, openSubmission } from "../../../static/js/upload/queue.js";

const MIB = 1024 * 1024;

/** @type {FakeServer} */
let server;

beforeEach(() => {
  server = new FakeServer();
});

/** @param {string} path @param {number} [size] */
const item = (path, size = 10) => ({ path, file: new File([new Uint8Array(size)], path) });

/**
 * Wait until something is so; retries come without their delay.
 * @param {Sending} sending
 * @param {() => unknown} condition
 */
async function until(sending, condition) {
  for (let times = 0; times < 10_000; times += 1) { // about a minute
    if (condition()) return;
    await new Promise((resolve) => { setTimeout(resolve, 5); });
    sending.tryNow();
  }
  assert.fail(`never: ${condition}`);
}

/** @param {ReturnType<typeof item>[]} items */
async function open(items) {
  const model = new SubmissionModel("s");
  model.take(await openSubmission(items));
  server.onEvent = (name, { id, size, cause }) => model.fold([{ cursor: 1, at: "2026-01-01T00:00:00Z", name, subject: { file_id: id }, data: { size, cause, reason: "of the server" } }]);
  return { model, sending: new Sending(model, items) };
}

/** Do something once, when the first piece of a large file arrives. The server takes that piece. @param {() => void} action */
function atFirstPiece(action) {
  let isDone = false;
  server.intercept = ({ method }) => {
    if (method === "PATCH" && !isDone) {
      isDone = true;
      action();
    }
    return null;
  };
}

/** @param {SubmissionModel} model */
const states = ({ entries }) => entries.map(({ path, upload, error }) => [path, upload, error]);

test("small files go in one form, and the submission is sealed at the end", async () => {
  const { model, sending } = await open([item("a.txt"), item("folder/b.txt"), item("empty.txt", 0)]);
  sending.resume();
  assert.deepEqual([sending.isActive, sending.isOver], [true, false]);
  await until(sending, () => sending.isOver && !sending.isActive);
  assert.equal(server.count("POST /api/v1/submissions/s/files"), 1);
  assert.deepEqual(states(model), [["a.txt", "stored", null], ["folder/b.txt", "stored", null], ["empty.txt", "stored", null]]);
  assert.equal(model.isAllStored, true);
  assert.equal(server.isOpen, false);
});

test("files are announced a thousand at a time, each once", async () => {
  const items = Array.from({ length: 2500 }, (_, number) => item(`${number}.txt`, number % 2));
  const { model, sending } = await open(items);
  assert.equal(server.files.length, 100);
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(server.files.length, 2500);
  assert.equal(new Set(server.files.map(({ path }) => path)).size, 2500);
  assert.equal(model.counts.stored, 2500);
});

test("two files of the same path are two files", async () => {
  const { model, sending } = await open([item("same.txt"), item("same.txt")]);
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.deepEqual(states(model), [["same.txt", "stored", null], ["same.txt", "stored", null]]);
});

test("a file of the same path that is announced later is a file of its own", async () => {
  const items = Array.from({ length: 1000 }, (_, number) => item(`${number}.txt`));
  const { sending } = await open([...items, item("0.txt")]);
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(server.files.filter(({ path, state }) => path === "0.txt" && state === "stored").length, 2);
});

test("a lost answer to an announcement does not announce twice", async () => {
  const items = Array.from({ length: 1500 }, (_, number) => item(`${number}.txt`));
  const { sending } = await open(items);
  let isLost = false;
  server.intercept = ({ path, body }) => {
    if (isLost || !path.endsWith("/files") || typeof body !== "string") return null;
    isLost = true;
    return "lose answer";
  };
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.ok(isLost);
  assert.equal(server.files.length, 1500);
});

test("large files, and names that no form can carry, go by tus, at most three at once", async () => {
  const names = ["1.bin", "2.bin", "3.bin", "4.bin", "5.bin"];
  const { model, sending } = await open([...names.map((name) => item(name, 9 * MIB)), item('quote ".txt')]);
  assert.equal(sending.hasLarge, true);
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.ok(server.files.every(({ state }) => state === "stored"));
  assert.equal(server.count("POST /api/v1/submissions/s/files"), 0);
  assert.ok(server.count("PATCH") >= 11, "pieces");
  assert.equal(server.mostAtOnce, 3);
  assert.equal(model.bytes.received, 45 * MIB + 10);
});

test("a form is bounded in files and bytes", async () => {
  const { sending } = await open([...Array.from({ length: 501 }, (_, number) => item(`${number}.txt`)), ...Array.from({ length: 5 }, (_, number) => item(`${number}.bin`, 8 * MIB))]);
  const forms = watchForms();
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(forms.reduce((sum, { files }) => sum + files, 0), 506);
  for (const { files, bytes } of forms) assert.ok(files <= 500 && bytes <= 32 * MIB, `a form of ${files} files and ${bytes} bytes`);
});

test("many small files are shared by all lanes, few go in one form", async () => {
  const { sending } = await open(Array.from({ length: 1000 }, (_, number) => item(`${number}.txt`)));
  const forms = watchForms();
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(server.mostAtOnce, 3);
  assert.ok(forms.every(({ files }) => files <= 334), "each took a third of what waited");
  assert.ok(forms.slice(0, -1).every(({ files }) => files >= 50), "but few make no form");
});

/** @returns {{files: number, bytes: number}[]} the forms that are sent from now on */
function watchForms() {
  /** @type {{files: number, bytes: number}[]} */
  const forms = [];
  server.intercept = ({ body }) => {
    if (!(body instanceof FormData)) return null;
    const files = [...body.values()].map((value) => /** @type {File} */ (value));
    forms.push({ files: files.length, bytes: files.reduce((sum, { size }) => sum + size, 0) });
    return null;
  };
  return forms;
}

test("a temporary failure is retried, and shown when it repeats", async () => {
  const { model, sending } = await open([item("a.txt")]);
  let failures = 0;
  server.intercept = ({ body }) => {
    if (!(body instanceof FormData) || failures === 3) return null;
    failures += 1;
    return { status: 503, body: { detail: "The server is stopping." } };
  };
  /** @type {Set<string>} */
  const troubles = new Set();
  sending.addEventListener("change", () => troubles.add(sending.trouble));
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(failures, 3);
  assert.deepEqual(troubles, new Set(["", "The server is stopping."]));
  assert.deepEqual([sending.trouble, states(model)], ["", [["a.txt", "stored", null]]]);
});

test("a refusal waits for the person, and is sent again when asked", async () => {
  const { model, sending } = await open([item("a.txt")]);
  server.intercept = ({ body }) => (body instanceof FormData ? { status: 507, body: { detail: "The disk is full." } } : null);
  sending.resume();
  await until(sending, () => !sending.isActive);
  assert.deepEqual([sending.isOver, sending.held], [false, { paused: 0, refused: 1, broken: 0, kept: 0, reason: "The disk is full." }]);
  assert.equal(model.entries[0].sending, "refused");
  server.intercept = () => null;
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.deepEqual(states(model), [["a.txt", "stored", null]]);
});

test("a refused announcement stops everything with its reason", async () => {
  const { sending } = await open(Array.from({ length: 1001 }, (_, number) => item(`${number}.txt`)));
  server.intercept = ({ path, body }) => (path.endsWith("/files") && typeof body === "string" ? { status: 413, body: { detail: "Too many files." } } : null);
  sending.resume();
  await until(sending, () => !sending.isActive);
  assert.deepEqual([sending.isOver, sending.held.reason], [false, "Too many files."]);
});

test("a paused large file keeps its pieces and goes on after them", async () => {
  const { model, sending } = await open([item("large.bin", 20 * MIB)]);
  atFirstPiece(() => sending.pause());
  sending.resume();
  await until(sending, () => !sending.isActive);
  const { received } = server.files[0];
  assert.ok(received > 0 && received < 20 * MIB);
  assert.deepEqual([sending.held.paused, model.entries[0].sending], [1, "paused"]);
  server.requests = [];
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(server.files[0].received, 20 * MIB);
  assert.equal(server.requests.find((request) => request.includes("/uploads/")), "HEAD /api/v1/uploads/f0");
});

test("a cancelled file is removed on the server, and the others arrive", async () => {
  const { model, sending } = await open([item("large.bin", 20 * MIB), item("small.txt")]);
  atFirstPiece(() => sending.cancel("f0"));
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.deepEqual(states(model), [["large.bin", "aborted", "you cancelled it"], ["small.txt", "stored", null]]);
  assert.equal(server.files[0].state, "aborted");
});

test("sending can be stopped for good", async () => {
  const { model, sending } = await open([item("large.bin", 20 * MIB), item("other.bin", 20 * MIB)]);
  atFirstPiece(() => sending.pause());
  sending.resume();
  await until(sending, () => !sending.isActive);
  sending.giveUp();
  await until(sending, () => sending.isOver && !sending.isActive);
  assert.deepEqual(states(model), [["large.bin", "aborted", "you stopped sending"], ["other.bin", "aborted", "you stopped sending"]]);
  assert.deepEqual([server.isOpen, server.files.map(({ state }) => state)], [false, ["aborted", "aborted"]]);
});

test("a file that the server gave up is announced again", async () => {
  const { model, sending } = await open([item("a.txt"), item("b.txt")]);
  let isBroken = false;
  server.intercept = ({ body }) => {
    if (isBroken || !(body instanceof FormData)) return null;
    isBroken = true;
    server.files[0].state = "aborted";
    return "break";
  };
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.deepEqual(states(model).map(([path, upload]) => [path, upload]), [["a.txt", "stored"], ["b.txt", "stored"]], "its row goes on");
});

test("a file that can no longer be read is given up, and the others arrive", async () => {
  const gone = item("gone.txt");
  gone.file.slice = () => /** @type {any} */ ({ arrayBuffer: () => Promise.reject(new Error("NotReadableError")) });
  const { model, sending } = await open([gone, item("plain.txt")]);
  let isFirst = true;
  server.intercept = ({ body }) => {
    if (!(body instanceof FormData) || !isFirst) return null;
    isFirst = false;
    return "break";
  };
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.deepEqual(states(model), [["gone.txt", "aborted", "the file was changed or can no longer be read"], ["plain.txt", "stored", null]]);
  assert.deepEqual([server.files[0].cause, model.counts.aborted], ["unreadable", 1], "that is a fault, which nobody wanted");
});

// --- pause ------------------------------------------------------------------------------------------------------------

test("a file whose form is paused is announced again and keeps its row", async () => {
  const { model, sending } = await open([item("a.txt"), item("b.txt")]);
  let isFirst = true;
  server.intercept = ({ body }) => {
    if (!(body instanceof FormData) || !isFirst) return null;
    isFirst = false;
    server.abort(server.files[0], "cut_off"); // it was arriving when the form was cut off
    sending.pause();
    return "break";
  };
  sending.resume();
  await until(sending, () => server.files.length === 3 && sending.held.paused === 2);
  assert.deepEqual(model.entries.map(({ path, upload, sending: state }) => [path, upload, state]), [["a.txt", "announced", "paused"], ["b.txt", "announced", "paused"]]);
  assert.deepEqual([sending.isActive, sending.held.paused], [false, 2]);
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.deepEqual(states(model), [["a.txt", "stored", null], ["b.txt", "stored", null]]);
});

test("the files that were announced when the submission was opened are sent while the others are announced", async () => {
  const { sending } = await open(Array.from({ length: 300 }, (_, number) => item(`${number}.txt`)));
  /** @type {string[]} */
  const asked = [];
  server.intercept = ({ method, path, body }) => {
    if (method === "POST" && path.endsWith("/files")) asked.push(typeof body === "string" ? "announcement" : "form");
    return null;
  };
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(asked[0], "form");
  assert.ok(asked.includes("announcement"));
});

test("what is announced after a pause waits, too", async () => {
  const { model, sending } = await open(Array.from({ length: 300 }, (_, number) => item(`${number}.txt`)));
  server.intercept = ({ path, body }) => {
    if (path.endsWith("/files") && typeof body === "string") sending.pause();
    return null;
  };
  sending.resume();
  await until(sending, () => sending.held.paused + model.counts.stored === 300);
  assert.equal(server.files.slice(100).filter(({ state }) => state === "stored").length, 0); // the first ones were on their way
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(model.counts.stored, 300);
});

test("a warning goes as soon as bytes move again", async () => {
  const { sending } = await open([item("large.bin", 30 * MIB)]);
  let failures = 0;
  /** @type {string[]} */
  const troubles = [];
  server.intercept = ({ method }) => {
    if (method === "PATCH" && failures < 3) {
      failures += 1;
      return "break";
    }
    if (method === "PATCH") troubles.push(sending.trouble);
    return null;
  };
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.ok(troubles.length > 2);
  assert.equal(troubles[1], "", "not only when the file has arrived");
});

test("rows react when the network goes, and what has not moved begins again when it is back", async () => {
  const { model, sending } = await open([item("large.bin", 20 * MIB)]);
  /** @type {(answer: null) => void} */
  let letGo = () => {};
  server.delay = ({ method }) => (method === "PATCH" && server.count("PATCH") === 1 ? new Promise((resolve) => { letGo = () => resolve(null); }) : Promise.resolve(null));
  sending.resume();
  await until(sending, () => server.count("PATCH") === 1);
  sending.offline();
  assert.equal(model.entries[0].isStalled, true);
  sending.online();
  await until(sending, () => sending.isOver);
  letGo(null);
  assert.deepEqual(states(model), [["large.bin", "stored", null]]);
});

// --- going on ---------------------------------------------------------------------------------------------------------

/** A page that is opened again: it knows what the server knows, and sends nothing. */
function reopen() {
  const model = new SubmissionModel("s");
  model.take(server.submission());
  server.onEvent = (name, { id, size, cause }) => model.fold([{ cursor: 1, at: "2026-01-01T00:00:00Z", name, subject: { file_id: id }, data: { size, cause, reason: "of the server" } }]);
  return { model, sending: new Sending(model) };
}

/** @param {ReturnType<typeof item>[]} items that are announced; of the first, the server has 8 MiB */
async function breakOff(items) {
  await openSubmission(items);
  Object.assign(server.files[0], { received: 8 * MIB, state: "receiving" });
  server.requests = [];
  return reopen();
}

test("a file that is picked again goes on at the server's offset, and the submission is sealed", async () => {
  const { model, sending } = await breakOff([item("large.bin", 20 * MIB), item("small.txt")]);
  const taken = await sending.add([item("small.txt"), item("large.bin", 20 * MIB)], false);
  assert.deepEqual([taken.resumed.length, taken.changed, taken.other], [2, [], []]);
  await until(sending, () => sending.isOver);
  assert.deepEqual(states(model), [["large.bin", "stored", null], ["small.txt", "stored", null]]);
  assert.equal(server.files.length, 2, "nothing is announced anew");
  assert.equal(server.isOpen, false);
});

test("a submission stays open while a file of it is still missing", async () => {
  const { sending } = await breakOff([item("large.bin", 20 * MIB), item("small.txt")]);
  await sending.add([item("large.bin", 20 * MIB)], false);
  await until(sending, () => server.files[0].state === "stored" && !sending.isActive);
  assert.deepEqual([server.isOpen, sending.isOver, server.files[1].state], [true, false, "announced"]);
});

test("a file in which a form was cut off keeps the submission open until it is picked again", async () => {
  await openSubmission([item("a.txt"), item("b.txt", 11)]);
  Object.assign(server.files[0], { state: "aborted", cause: "cut_off" });
  Object.assign(server.files[1], { received: 11, state: "stored" });
  const { model, sending } = reopen();
  assert.deepEqual([sending.held.broken, sending.isSealDue], [1, false]);
  const taken = await sending.add([item("b.txt", 11), item("a.txt")], false);
  assert.deepEqual([taken.resumed, taken.stored].map((items) => items.map(({ path }) => path)), [["a.txt"], ["b.txt"]]);
  await until(sending, () => sending.isOver);
  assert.deepEqual(model.entries.map(({ path, upload }) => [path, upload]), [["a.txt", "stored"], ["b.txt", "stored"]]);
});

test("what was cancelled is not offered, and not sent with the folder that is picked again", async () => {
  await openSubmission([item("a.txt"), item("b.txt", 11), item("c.txt", 12)]);
  Object.assign(server.files[0], { state: "aborted", cause: "cancelled" });
  Object.assign(server.files[1], { state: "aborted", cause: "cut_off" });
  Object.assign(server.files[2], { state: "aborted", cause: "refused" });
  const { model, sending } = reopen();
  assert.equal(sending.held.broken, 1);
  const taken = await sending.add([item("a.txt"), item("b.txt", 11), item("c.txt", 12)], false);
  assert.deepEqual([taken.resumed, taken.ended, taken.stored, taken.other].map((items) => items.map(({ path }) => path)),
    [["b.txt"], ["a.txt", "c.txt"], [], []]);
  await until(sending, () => sending.isOver);
  assert.deepEqual(model.entries.map(({ path, upload, cause }) => [path, upload, cause]),
    [["a.txt", "aborted", "cancelled"], ["b.txt", "stored", null], ["c.txt", "aborted", "refused"]]);
});

test("a cancelled file that is dropped again is sent after all, in one row", async () => {
  await openSubmission([item("a.txt")]);
  Object.assign(server.files[0], { state: "aborted", cause: "cancelled" });
  const { model, sending } = reopen();
  await sending.add([item("a.txt")]);
  await until(sending, () => sending.isOver);
  assert.deepEqual(states(model), [["a.txt", "stored", null]]);
});

test("when sending is stopped, what had broken off is cancelled on the server, too", async () => {
  await openSubmission([item("a.txt"), item("b.txt", 11)]);
  Object.assign(server.files[0], { state: "aborted", cause: "cut_off" });
  const { model, sending } = reopen();
  model.takeSending([]);
  model.tick(Date.UTC(2027, 0, 1));
  sending.giveUp();
  await until(sending, () => sending.isOver);
  assert.equal(server.isOpen, false);
  assert.deepEqual([model.entries[0].cause, server.files.map(({ cause }) => cause)], ["cancelled", ["cancelled", "cancelled"]]);
  assert.deepEqual([model.counts.broken, model.counts.given_up], [0, 2]);
});

test("a wrong file is refused and changes nothing", async () => {
  const { model, sending } = await breakOff([item("large.bin", 20 * MIB)]);
  const wrong = { path: "other.bin", file: new File([new Uint8Array(20 * MIB).fill(1)], "other.bin") };
  const taken = await sending.add([wrong], false);
  assert.deepEqual([taken.other, taken.resumed, server.requests, model.entries[0].sending], [[wrong], [], [], null]);
});

test("dropped files go on, are recognised as sent, or are added", async () => {
  await openSubmission([item("a.txt", 1), item("b.txt", 2)]);
  Object.assign(server.files[0], { received: 1, state: "stored" });
  const { model, sending } = reopen();
  const taken = await sending.add([item("a.txt", 1), item("b.txt", 2), item("c.txt", 3)]);
  assert.deepEqual([taken.stored, taken.resumed, taken.added].map((items) => items.map(({ path }) => path)), [["a.txt"], ["b.txt"], ["c.txt"]]);
  await until(sending, () => sending.isOver);
  assert.deepEqual(states(model), [["a.txt", "stored", null], ["b.txt", "stored", null], ["c.txt", "stored", null]]);
});

test("files that are added while others are sent are sent as well", async () => {
  const { model, sending } = await open([item("large.bin", 20 * MIB)]);
  /** @type {Promise<any> | null} */
  let adding = null;
  atFirstPiece(() => { adding = sending.add([item("late.txt")]); });
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.deepEqual((await /** @type {any} */ (adding)).added.length, 1);
  assert.deepEqual(states(model), [["large.bin", "stored", null], ["late.txt", "stored", null]]);
});

test("files for a submission that was sealed meanwhile come back", async () => {
  await openSubmission([item("a.txt", 1)]);
  const { sending } = reopen();
  server.isOpen = false;
  const late = item("late.txt");
  const taken = await sending.add([late]);
  assert.deepEqual([taken.added, taken.other, sending.held.reason], [[], [late], ""]);
});

test("a changed file is sent from its beginning when the person asks for it", async () => {
  const { model, sending } = await breakOff([item("large.bin", 20 * MIB)]);
  const newer = { path: "large.bin", file: new File([new Uint8Array(9 * MIB).fill(1)], "large.bin") };
  const { changed } = await sending.add([newer], false);
  assert.deepEqual([changed.length, server.requests], [1, []]);
  sending.restart(changed[0][1], newer);
  await until(sending, () => sending.isOver);
  assert.deepEqual(model.entries.map(({ path, upload, size }) => [path, upload, size]), [["large.bin", "stored", 9 * MIB]]);
  assert.equal(server.count("DELETE"), 1);
});

test("a page that only looks on seals nothing", async () => {
  await openSubmission([item("a.txt", 1)]);
  Object.assign(server.files[0], { received: 1, state: "stored" });
  const { sending } = reopen();
  await sending.remember();
  await new Promise((resolve) => { setTimeout(resolve, 20); });
  assert.deepEqual([server.isOpen, sending.isSealDue], [true, false]);
});

test("a large file that has begun is removed when sending is stopped, although no event said that it had begun", async () => {
  const { sending } = await open([item("large.bin", 20 * MIB)]);
  server.onEvent = () => {}; // the socket is away
  atFirstPiece(() => sending.pause());
  sending.resume();
  await until(sending, () => server.files[0].received > 0 && server.running === 0);
  sending.giveUp();
  await until(sending, () => sending.isOver);
  assert.deepEqual([server.files[0].state, server.isOpen], ["aborted", false]);
});

test("a page that has sent nothing can end what broke off", async () => {
  const { model, sending } = await breakOff([item("large.bin", 20 * MIB)]);
  model.takeSending([]);
  sending.giveUp();
  await until(sending, () => sending.isOver);
  assert.deepEqual([server.files[0].state, server.isOpen], ["aborted", false]);
});

test("what broke off can be given up", async () => {
  const { model, sending } = await breakOff([item("large.bin", 20 * MIB), item("small.txt")]);
  await sending.add([item("small.txt")], false);
  await until(sending, () => server.files[1].state === "stored" && !sending.isActive);
  model.takeSending([]);
  assert.equal(sending.held.broken, 1);
  sending.giveUp();
  await until(sending, () => sending.isOver);
  assert.deepEqual(server.files.map(({ state }) => state), ["aborted", "stored"]);
});

test("ten thousand small files need few requests, and each is read a bounded number of times", async () => {
  const items = Array.from({ length: 10_000 }, (_, number) => item(`folder/${number}.txt`));
  const { model, sending } = await open(items);
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(model.counts.stored, 10_000);
  const forms = 10_000 / 50;
  assert.ok(server.count("GET") <= 30, `${server.count("GET")} reads of the list`);
  assert.ok(server.count("POST /api/v1/submissions/s/files") <= 10 + forms, "forms have files enough");
});
