// What is read from a drop.

import "../browser.js";

import assert from "node:assert/strict";
import { test } from "node:test";

import { readDropped } from "../../../static/js/upload/reading.js";

const PORTION = 100; // what browsers return of a folder at a time

/** @typedef {any} Entry as much of a FileSystemEntry as is read */

/** @param {string} name @param {{isLost?: boolean}} [how] @returns {Entry} */
const aFile = (name, { isLost = false } = {}) => ({
  name,
  isFile: true,
  isDirectory: false,
  file: (/** @type {(file: File) => void} */ taken, /** @type {(error: Error) => void} */ failed) => {
    setTimeout(() => (isLost ? failed(new Error("NotFoundError")) : taken(new File(["x"], name))));
  },
});

/** @param {string} name @param {Entry[]} inside @param {{isLost?: boolean, onRead?: () => void}} [how] @returns {Entry} */
const aFolder = (name, inside, { isLost = false, onRead = () => {} } = {}) => ({
  name,
  isFile: false,
  isDirectory: true,
  createReader: () => {
    let at = 0;
    return {
      readEntries: (/** @type {(entries: Entry[]) => void} */ taken, /** @type {(error: Error) => void} */ failed) => {
        onRead();
        setTimeout(() => (isLost ? failed(new Error("NotReadableError")) : taken(inside.slice(at, at += PORTION))));
      },
    };
  },
});

/** @param {Entry[]} entries @returns {any} a DataTransfer that is empty when the event's handler has returned */
function transferOf(entries) {
  const items = entries.map((entry) => ({ kind: "file", webkitGetAsEntry: () => entry, getAsFile: () => new File(["x"], entry.name) }));
  const transfer = { items: [{ kind: "string" }, ...items] };
  queueMicrotask(() => { transfer.items = []; });
  return transfer;
}

/** @param {{items: {path: string}[]}} dropped */
const paths = ({ items }) => items.map(({ path }) => path).sort();

test("loose files are taken as they are", async () => {
  const dropped = await readDropped(transferOf([aFile("a.txt"), aFile("b.txt")]));
  assert.deepEqual(paths(dropped), ["a.txt", "b.txt"]);
});

test("a folder brings everything inside with its path, beside loose files", async () => {
  const folder = aFolder("scans", [aFile("1.pdf"), aFolder("old", [aFile("1.pdf"), aFolder("empty", [])])]);
  const dropped = await readDropped(transferOf([folder, aFile("a.txt")]));
  assert.deepEqual(paths(dropped), ["a.txt", "scans/1.pdf", "scans/old/1.pdf"]);
  assert.deepEqual(dropped.unreadable, []);
});

test("a folder is read to its end, and says how many files were found", async () => {
  const many = Array.from({ length: 1050 }, (_, at) => aFile(`${at}.txt`));
  /** @type {number[]} */
  const found = [];
  const dropped = await readDropped(transferOf([aFolder("many", many)]), { onFound: (files) => found.push(files) });
  assert.equal(dropped.items.length, 1050);
  assert.equal(found.at(-1), 1050);
});

test("folders are read at the same time", async () => {
  let running = 0;
  let most = 0;
  const slow = (/** @type {string} */ name) => {
    const folder = aFolder(name, [aFile("a.txt")], { onRead: () => { running += 1; most = Math.max(most, running); } });
    const { createReader } = folder;
    folder.createReader = () => {
      const { readEntries } = createReader();
      return { readEntries: (/** @type {any} */ taken, /** @type {any} */ failed) => readEntries((/** @type {any} */ some) => { running -= 1; taken(some); }, failed) };
    };
    return folder;
  };
  await readDropped(transferOf([aFolder("all", Array.from({ length: 8 }, (_, at) => slow(String(at))))]));
  assert.equal(most, 8);
});

test("what cannot be read is named, and does not stop the rest", async () => {
  const folder = aFolder("f", [aFile("gone.txt", { isLost: true }), aFile("good.txt"), aFolder("secret", [aFile("x")], { isLost: true })]);
  const dropped = await readDropped(transferOf([folder]));
  assert.deepEqual(paths(dropped), ["f/good.txt"]);
  assert.deepEqual(dropped.unreadable.sort(), ["f/gone.txt", "f/secret"]);
});

test("the reading of a folder without end can be cancelled", async () => {
  const cancel = new AbortController();
  const endless = aFolder("endless", []);
  endless.createReader = () => ({ readEntries: (/** @type {any} */ taken) => setTimeout(() => taken([endless])) });
  const reading = readDropped(transferOf([endless]), { signal: cancel.signal });
  setTimeout(() => cancel.abort(), 20);
  await assert.rejects(reading, /abort/i);
});

test("each file knows the handle of what was dropped, where the browser gives one", async () => {
  const handle = { kind: "directory", name: "f" };
  const transfer = transferOf([aFolder("f", [aFile("a.txt"), aFolder("g", [aFile("b.txt")])])]);
  transfer.items[1].getAsFileSystemHandle = async () => handle;
  globalThis.isSecureContext = true;
  const { items } = await readDropped(transfer);
  assert.deepEqual(await Promise.all(items.map(({ from }) => from)), [handle, handle]);
});

test("files are taken by handles where the browser gives them, and by their entries where it does not", async () => {
  /** @type {string[]} */
  const byEntry = [];
  const slow = (/** @type {string} */ name) => ({ ...aFile(name), file: (/** @type {any} */ taken) => { byEntry.push(name); taken(new File(["xx"], name)); } });
  const known = (/** @type {string} */ name) => async (/** @type {string} */ asked) => {
    if (asked !== name) throw new TypeError("Name is not allowed.");
    return { getFile: async () => new File(["x"], asked) };
  };
  const inner = { kind: "directory", getFileHandle: known("b.txt") };
  const outer = {
    kind: "directory", getFileHandle: known("a.txt"),
    getDirectoryHandle: async (/** @type {string} */ name) => { if (name === "g") return inner; throw new TypeError("Name is not allowed."); },
  };
  const folder = aFolder("f", [slow("a.txt"), slow("odd.lnk"), aFolder("g", [slow("b.txt")]), aFolder("h.", [slow("c.txt")])]);
  const transfer = transferOf([folder]);
  transfer.items[1].getAsFileSystemHandle = async () => outer;
  globalThis.isSecureContext = true;
  const dropped = await readDropped(transfer);
  assert.deepEqual(paths(dropped), ["f/a.txt", "f/g/b.txt", "f/h./c.txt", "f/odd.lnk"]);
  assert.deepEqual(byEntry.sort(), ["c.txt", "odd.lnk"]);
  assert.deepEqual(dropped.unreadable, []);
});

test("nothing waits for a handle that the browser has not given", async () => {
  const transfer = transferOf([aFolder("f", [aFile("a.txt")])]);
  transfer.items[1].getAsFileSystemHandle = () => new Promise(() => {});
  globalThis.isSecureContext = true;
  assert.deepEqual(paths(await readDropped(transfer)), ["f/a.txt"]);
});

test("on plain http no handle is asked for: some browsers end the page then", async () => {
  const transfer = transferOf([aFolder("f", [aFile("a.txt")])]);
  transfer.items[1].getAsFileSystemHandle = () => assert.fail("asked");
  globalThis.isSecureContext = false;
  const { items } = await readDropped(transfer);
  assert.deepEqual(items.map(({ path, from }) => [path, from]), [["f/a.txt", undefined]]);
});

test("no task of the browser hands over more than a few dozen files", async () => {
  /** @type {(() => void)[]} */
  const answers = [];
  let most = 0;
  const handOver = async () => { // as Chromium does: whatever is asked for in the task is answered in it
    let files = 0;
    for (let answer = answers.shift(); answer; answer = answers.shift()) {
      answer();
      files += 1;
      for (let turn = 0; turn < 10; turn += 1) await null; // what an answer causes without leaving the task
    }
    most = Math.max(most, files);
  };
  const late = (/** @type {number} */ n) => ({
    ...aFile(`${n}.txt`),
    file: (/** @type {(file: File) => void} */ taken) => {
      if (answers.push(() => taken(new File(["x"], `${n}.txt`))) === 1) setTimeout(handOver);
    },
  });
  const folder = aFolder("many", Array.from({ length: 500 }, (_, n) => late(n)));
  const dropped = await readDropped(transferOf([folder]));
  assert.equal(dropped.items.length, 500);
  assert.ok(most <= 64, `${most} files in one task`);
});
