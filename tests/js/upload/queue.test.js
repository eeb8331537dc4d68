// The sending of one submission's files.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { FakeServer } from "../fake-server.js";
import { SubmissionModel } from "../../../static/js/submission/model.js";
import { Sending, isTemporary, openSubmission } from "../../../static/js/upload/queue.js";

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
  server.onEvent = (name, { id, size }) => model.fold([{ cursor: 1, at: "2026-01-01T00:00:00Z", name, subject: { file_id: id }, data: { size } }]);
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
  assert.equal(server.files.length, 1000);
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
  sending.resume();
  await until(sending, () => sending.isOver);
  assert.equal(server.count("POST /api/v1/submissions/s/files"), 3);
});

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
  assert.deepEqual([sending.isOver, sending.held], [false, { paused: 0, refused: 1, reason: "The disk is full." }]);
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
  assert.deepEqual([sending.held.paused, sending.isResumable, model.entries[0].sending], [1, true, "paused"]);
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
});

test("only failures that pass without anyone's help are temporary", () => {
  const temporary = (/** @type {boolean} */ isUpload) => [0, 400, 403, 404, 408, 409, 410, 412, 413, 421, 422, 423, 429, 460, 500, 502, 503, 507]
    .filter((status) => isTemporary({ status }, isUpload));
  assert.deepEqual(temporary(false), [0, 408, 423, 429, 500, 502, 503]);
  assert.deepEqual(temporary(true), [0, 408, 409, 423, 429, 460, 500, 502, 503]);
});
