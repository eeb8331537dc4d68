// What the page of links says of one, and what its form asks the server for.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { optionWords, requestOf, resultOf, stateWords, usageWords } from "../../../static/js/links/link-words.js";

/** @param {object} [given] @returns {import("../../../static/js/links/link-words.js").Link} */
const link = (given) => ({
  id: "l", kind: "request", label: "Scans", submission_id: null, made_by: "ada", made_at: new Date().toISOString(), expires_at: "2026-05-01T12:00:00Z",
  revoked_at: null, state: "live", has_passphrase: false, asks_name: false, shows_results: false, max_files: null, max_size: null,
  max_submissions: null, files: 0, size: 0, submissions: 0, visits: 0, last_used_at: null, ...given,
});

test("a link says whether it works, and who made it", () => {
  assert.match(stateWords(link()), /^works until May 1, 2026.* · made just now by ada$/);
  assert.match(stateWords(link({ state: "expired", made_by: null })), /^expired May 1, 2026.* · made just now$/);
  assert.match(stateWords(link({ state: "revoked", revoked_at: "2026-04-01T12:00:00Z" })), /^revoked Apr 1, 2026/);
});

test("a link says how much of it is used", () => {
  assert.equal(usageWords(link()), "not opened yet");
  assert.equal(usageWords(link({ max_submissions: 2, max_size: 1024 })), "not opened yet · 0 submissions of 2 · 0 bytes of 1 KiB");
  assert.equal(usageWords(link({ visits: 1, submissions: 1, files: 12, max_files: 20, size: 2048 })), "opened in 1 browser · 1 submission · 12 files of 20 · 2 KiB");
  assert.equal(usageWords(link({ kind: "result", visits: 2, files: 3 })), "opened in 2 browsers");
});

test("what a link asks for is named, and of a result link not that it shows results", () => {
  assert.equal(optionWords(link({ has_passphrase: true, asks_name: true, shows_results: true })), "with a passphrase · asks for a name · shows results");
  assert.equal(optionWords(link({ kind: "result", shows_results: true })), "");
});

/** @param {Record<string, string>} given */
function fields(given) {
  const made = new FormData();
  for (const [name, value] of Object.entries({ label: " Scans ", text: "", days: "7", max_files: "", max_size: "", max_submissions: "", passphrase: "", ...given })) made.set(name, value);
  return made;
}

test("the form asks for what is filled in, and empty is no limit", () => {
  assert.deepEqual(requestOf(fields({})), {
    kind: "request", label: "Scans", text: null, expires_in: 604_800, max_files: null, max_size: null, max_submissions: null, passphrase: null,
    asks_name: false, shows_results: false,
  });
  const all = requestOf(fields({ max_files: "3", max_size: "2", max_submissions: "1", passphrase: " with spaces ", asks_name: "on", shows_results: "on", text: " two\nlines " }));
  assert.deepEqual([all.max_files, all.max_size, all.max_submissions, all.passphrase, all.text], [3, 2 * 1024 * 1024, 1, " with spaces ", "two\nlines"]);
  assert.deepEqual([all.asks_name, all.shows_results], [true, true]);
  for (const bad of ["0", "-1", "1.5", "many", "1e30"]) assert.throws(() => requestOf(fields({ max_files: bad })), /whole numbers/);
});

test("a result link is made for one submission", () => {
  assert.deepEqual(resultOf(fields({}), "s1"), { kind: "result", submission_id: "s1", label: "Scans", expires_in: 604_800 });
});
