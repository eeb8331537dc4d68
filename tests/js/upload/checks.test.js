// Which files are not sent, and why.

import "../browser.js";

import assert from "node:assert/strict";
import { test } from "node:test";

import { check, isAccepted, rulesOf } from "../../../static/js/upload/checks.js";

/** @param {string} path @param {number} [size] @param {string} [type] */
function item(path, size = 10, type = "") {
  const file = new File([], path, { type });
  Object.defineProperty(file, "size", { value: size });
  return { path, file };
}

test("a page without limits has every file sent", () => {
  assert.deepEqual(check(rulesOf({}), [item("a.txt", 2 ** 50), item("b"), item("empty", 0)]), ["", "", ""]);
});

test("an extension, a media type and a family of them are accepted, by name or by the type that the browser says", () => {
  const rules = rulesOf({ accept: [".csv", "image/*", "application/pdf"], accept_extensions: [".jpg", ".pdf"] });
  const accepted = [item("A.CSV"), item("scan.PDF"), item("a.jpg"), item("x", 1, "image/heic"), item("y", 1, "application/pdf"), item("f/a.csv")];
  for (const one of accepted) assert.ok(isAccepted(rules, one), one.path);
  for (const one of [item("a.txt"), item("csv"), item("a.csv.exe", 1, "text/csv"), item("", 1, "video/mp4")]) assert.ok(!isAccepted(rules, one), one.path);
});

test("each file gets its own reason, sizes in binary units", () => {
  const rules = rulesOf({ accept: [".txt"], limits: { max_file_size: 1024 * 1024, max_files: null, max_submission_size: null } });
  assert.deepEqual(check(rules, [item("a.txt"), item("big.txt", 1024 * 1024 + 1), item("just.txt", 1024 * 1024), item("a.exe")]), [
    "", "Too large: at most 1 MiB", "", "This type is not accepted here",
  ]);
});

test("of two files with the same path the first is sent", () => {
  assert.deepEqual(check(rulesOf({}), [item("f/a.txt"), item("g/a.txt"), item("f/a.txt", 3)]), ["", "", "Another file in the list has the same path"]);
});

test("a limit of files and one of bytes count only what is sent", () => {
  const rules = rulesOf({ accept: [".txt"], limits: { max_files: 2, max_submission_size: 100 } });
  assert.deepEqual(check(rules, [item("a.exe", 90), item("a.txt", 60), item("b.txt", 60), item("c.txt", 40), item("d.txt", 0)]), [
    "This type is not accepted here", "", "Too much: at most 100 bytes together", "", "Too many: at most 2 files at a time",
  ]);
});

test("a path that the server cannot store is refused here already", () => {
  assert.deepEqual(check(rulesOf({}), [item("ä".repeat(2048)), item(`${"ä".repeat(2048)}a`), item("half \ud83d.txt"), item("whole \ud83d\ude00.txt")]), [
    "", "Its path is too long: at most 4,096 bytes", "Its name has half a character, which cannot be sent", "",
  ]);
});
