// The list before Submit.

import "../browser.js";

import assert from "node:assert/strict";
import { test } from "node:test";

import { rulesOf } from "../../../static/js/upload/checks.js";
import { Chosen } from "../../../static/js/upload/chosen.js";

/** @param {string} path @param {number} [size] @param {number} [lastModified] */
const item = (path, size = 10, lastModified = 1) => ({ path, file: new File([new Uint8Array(size)], path, { lastModified }) });

/** @param {Chosen} chosen */
const listed = ({ rows }) => rows.map(({ item: { path } }) => path);

/** @param {string[]} paths @param {Record<string, any>} [page] */
function choose(paths, page = {}) {
  const chosen = new Chosen(rulesOf(page));
  chosen.add(paths.map((path) => item(path)));
  return chosen;
}

test("files are listed by folder and name, numbers by value", () => {
  const chosen = choose(["b/2.txt", "page 10.txt", "page 9.txt", "b/10.txt", "a/z.txt", "Äpfel.txt", "b.txt"]);
  assert.deepEqual(listed(chosen), ["Äpfel.txt", "b.txt", "page 9.txt", "page 10.txt", "a/z.txt", "b/2.txt", "b/10.txt"]);
  assert.deepEqual(chosen.items.map(({ path }) => path), listed(chosen));
});

test("by size the largest comes first", () => {
  const chosen = new Chosen(rulesOf({}));
  chosen.add([item("a", 1), item("b", 3), item("c", 2), item("d", 3)]);
  chosen.order = "size";
  assert.deepEqual(listed(chosen), ["b", "d", "c", "a"]);
});

test("what cannot be sent is listed first, whatever the order, and is not among the items", () => {
  const chosen = choose(["a.txt", "z.exe", "b.txt"], { accept: [".txt"] });
  assert.deepEqual(listed(chosen), ["z.exe", "a.txt", "b.txt"]);
  assert.deepEqual(chosen.items.map(({ path }) => path), ["a.txt", "b.txt"]);
  assert.equal(chosen.size, 20);
  chosen.order = "size";
  assert.equal(listed(chosen)[0], "z.exe");
  chosen.remove(chosen.bad);
  assert.deepEqual(listed(chosen), ["a.txt", "b.txt"]);
});

test("the same file chosen again is reported, and listed once", () => {
  const chosen = choose(["a.txt", "f/a.txt"]);
  assert.deepEqual(chosen.add([item("a.txt"), item("c.txt"), item("c.txt")]), ["a.txt", "c.txt"]);
  assert.deepEqual(listed(chosen), ["a.txt", "c.txt", "f/a.txt"]);
  assert.deepEqual(chosen.bad, []);
});

test("another file with the same path is listed as one that cannot be sent, until the first is removed", () => {
  const chosen = choose(["a.txt"]);
  assert.deepEqual(chosen.add([item("a.txt", 11, 2)]), []);
  assert.deepEqual(chosen.rows.map(({ problem }) => problem !== ""), [true, false]);
  chosen.remove(chosen.good);
  assert.deepEqual(chosen.rows.map(({ problem, item: { file } }) => [problem, file.size]), [["", 11]]);
});

test("pasted pictures, which all have one name, get names of their own", () => {
  const chosen = choose(["f/image.png"]);
  chosen.add([item("image.png", 1, 2)], true);
  chosen.add([item("image.png", 1, 3)], true);
  chosen.add([item("image.png", 1, 4), item("README", 1, 4)], true);
  chosen.add([item("README", 1, 5)], true);
  assert.deepEqual(listed(chosen), ["image (2).png", "image (3).png", "image.png", "README", "README (2)", "f/image.png"]);
});

test("a limit counts in the order of adding, not in the listed one", () => {
  const chosen = choose(["b.txt"], { limits: { max_files: 2 } });
  chosen.add([item("a2.txt"), item("a1.txt")]);
  assert.deepEqual(chosen.items.map(({ path }) => path), ["a1.txt", "b.txt"]);
  assert.deepEqual(chosen.bad.map(({ name }) => name), ["a2.txt"]);
  chosen.remove(chosen.good.filter(({ name }) => name === "b.txt"));
  assert.deepEqual(chosen.items.map(({ path }) => path), ["a1.txt", "a2.txt"]);
});
