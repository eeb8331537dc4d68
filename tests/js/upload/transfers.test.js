// How bytes are sent.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { beforeEach, test } from "node:test";

import { Clock } from "../browser.js";
import { FakeServer } from "../fake-server.js";
import { Problem } from "../../../static/js/core/api.js";
import { FormTransfer, ResumableTransfer, Stopped, canRead, removeUpload } from "../../../static/js/upload/transfers.js";

const MIB = 1024 * 1024;

/** @type {FakeServer} */
let server;

beforeEach(() => {
  server = new FakeServer();
});

test("a form carries each file under its id and path", async () => {
  /** @type {[string, string, number][]} */
  const fields = [];
  server.intercept = ({ body }) => {
    for (const [field, file] of body) fields.push([field, file.name, file.size]);
    return null;
  };
  const items = [{ id: "f0", path: "folder/ü.txt", file: new File(["abc"], "ü.txt") }, { id: "f1", path: "b.txt", file: new File([], "b.txt") }];
  await new FormTransfer("s", items, () => {}).run();
  assert.deepEqual(fields, [["file:f0", "folder/ü.txt", 3], ["file:f1", "b.txt", 0]]);
});

test("the progress of a form is that of its files", async (t) => {
  const items = [100, 0, 50].map((size, index) => ({ id: `f${index}`, path: `${index}`, file: new File([new Uint8Array(size)], `${index}`) }));
  /** @type {[number, number][]} */
  const seen = [];
  const transfer = new FormTransfer("s", items, (index, sent) => seen.push([index, sent]));
  t.mock.method(globalThis.XMLHttpRequest.prototype, "send", /** @this {any} */ function send() {
    for (const loaded of [0, 10, 60, 110, 120, 130, 155, 190]) {
      this.upload.dispatchEvent(Object.assign(new Event("progress"), { loaded, total: 190 })); // 150 bytes of files, headers of 10
    }
    this.status = 200;
    this.dispatchEvent(new Event("load"));
    this.dispatchEvent(new Event("loadend"));
  });
  await transfer.run();
  assert.deepEqual(seen, [[0, 0], [0, 0], [0, 50], [0, 100], [1, 0], [2, 0], [2, 25], [2, 50]]);
});

test("an answer from 300 on fails a form with its sentence", async () => {
  server.intercept = () => ({ status: 413, body: { code: "too_large", detail: "The file is too large." } });
  const transfer = new FormTransfer("s", [{ id: "f0", path: "a", file: new File(["a"], "a") }], () => {});
  await assert.rejects(transfer.run(), (error) => error instanceof Problem && error.status === 413 && error.message === "The file is too large.");
});

test("a stopped form and a broken one differ", async () => {
  const one = () => new FormTransfer("s", [{ id: "f0", path: "a", file: new File(["a"], "a") }], () => {});
  const stopped = one();
  const running = stopped.run();
  stopped.stop();
  await assert.rejects(running, Stopped);
  server.intercept = () => "break";
  await assert.rejects(one().run(), (error) => error instanceof Problem && error.status === 0);
});

test("a form without progress for a minute fails", async (t) => {
  const clock = new Clock(t);
  t.mock.method(globalThis.XMLHttpRequest.prototype, "send", () => {});
  const running = new FormTransfer("s", [{ id: "f0", path: "a", file: new File(["a"], "a") }], () => {}).run();
  clock.tick(60_000);
  await assert.rejects(running, /Nothing got through for a minute/);
});

test("a large file continues at the server's offset, and each piece has its checksum", async () => {
  server.announce("a.bin", "a.bin", 10 * MIB);
  Object.assign(server.files[0], { received: 3 * MIB, state: "receiving" });
  const content = new Uint8Array(10 * MIB).map((_, index) => index % 251);
  /** @type {[number, number][]} */
  const pieces = [];
  server.intercept = ({ method, body, headers }) => {
    if (method !== "PATCH") return null;
    const offset = Number(headers["Upload-Offset"]);
    const digest = createHash("sha256").update(content.subarray(offset, offset + body.size)).digest("base64");
    assert.equal(headers["Upload-Checksum"], `sha256 ${digest}`);
    pieces.push([offset, body.size]);
    return null;
  };
  /** @type {number[]} */
  const progress = [];
  const transfer = new ResumableTransfer(server.files[0].upload_url, new File([content], "a.bin"), (sent) => progress.push(sent));
  await transfer.run();
  assert.equal(pieces[0][0], 3 * MIB);
  assert.equal(pieces.reduce((sum, [, size]) => sum + size, 0), 7 * MIB);
  assert.ok(pieces.every(([, size]) => size <= 16 * MIB));
  assert.equal(progress[progress.length - 1], 10 * MIB);
  assert.equal(server.files[0].state, "stored");
  assert.equal(transfer.hasMoved, true);
});

test("a refused piece ends the transfer with the server's answer", async () => {
  server.announce("a.bin", "a.bin", 9 * MIB);
  server.intercept = ({ method }) => (method === "PATCH" ? { status: 460, body: { code: "checksum_mismatch", detail: "Damaged." } } : null);
  const transfer = new ResumableTransfer(server.files[0].upload_url, new File([new Uint8Array(9 * MIB)], "a.bin"), () => {});
  await assert.rejects(transfer.run(), (error) => error instanceof Problem && error.status === 460 && error.body.code === "checksum_mismatch");
  assert.equal(transfer.hasMoved, false);
});

test("a stopped transfer sends no further piece", async () => {
  server.announce("a.bin", "a.bin", 20 * MIB);
  const transfer = new ResumableTransfer(server.files[0].upload_url, new File([new Uint8Array(20 * MIB)], "a.bin"), () => {});
  server.intercept = ({ method }) => {
    if (method === "PATCH") transfer.stop();
    return null;
  };
  await assert.rejects(transfer.run(), Stopped);
  await new Promise((resolve) => { setTimeout(resolve, 50); });
  assert.equal(server.count("PATCH"), 1);
});

test("a transfer that is stopped while a checksum is computed does not send the piece", async (t) => {
  server.announce("a.bin", "a.bin", 9 * MIB);
  const transfer = new ResumableTransfer(server.files[0].upload_url, new File([new Uint8Array(9 * MIB)], "a.bin"), () => {});
  t.mock.method(crypto.subtle, "digest", async () => {
    transfer.stop();
    return new ArrayBuffer(32);
  });
  await assert.rejects(transfer.run(), Stopped);
  await new Promise((resolve) => { setTimeout(resolve, 50); });
  assert.equal(server.count("PATCH"), 0);
});

test("an upload is removed, and one that is gone is a problem", async () => {
  server.announce("a.bin", "a.bin", 10);
  await removeUpload("/api/v1/uploads/f0", "cancelled");
  assert.equal(server.files[0].state, "aborted");
  await assert.rejects(removeUpload("/api/v1/uploads/f0", "cancelled"), (error) => error instanceof Problem && error.status === 410);
});

test("a file that was removed cannot be read", async () => {
  assert.equal(await canRead(new File(["a"], "a")), true);
  const gone = new File(["a"], "a");
  gone.slice = () => /** @type {any} */ ({ arrayBuffer: () => Promise.reject(new Error("NotReadableError")) });
  assert.equal(await canRead(gone), false);
});
