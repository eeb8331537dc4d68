import assert from "node:assert/strict";
import { test } from "node:test";
import "../browser.js";

const { accountOf, joined, queryOf, searchOf, whatText, whoText } = await import("../../../static/js/audit/audit-words.js");

const CLIENT = { ip: "10.0.0.7", host: "pc7.lab.example", verified: true, domain: "lab.example", user_agent: "curl/8" };
const SUBJECT = { submission_id: null, file_id: null, job_id: null, attempt: null, name: null, account: null, client: CLIENT };

/** @param {string} name @param {Record<string, any>} data @param {Record<string, any>} [subject] @returns {any} */
const event = (name, data, subject = {}) => ({ cursor: 1, at: "2026-11-20T14:02:07.412Z", name, data, subject: { ...SUBJECT, ...subject } });

/** @param {number[]} cursors @param {number | null} next @returns {any} */
const page = (cursors, next) => ({ items: cursors.map((cursor) => ({ cursor })), next });

test("who changed an account is not whom it is about", () => {
  const change = { change: "role", role: "operator", token: null, by: "root" };
  const changed = event("account.changed", change, { account: "ada" });
  assert.equal(whoText(changed), "root");
  assert.equal(accountOf(changed), "root");
  assert.equal(whatText(changed), "Changed the role of ada: Operator");
  assert.equal(whoText(event("account.changed", { ...change, by: null }, { account: "ada", client: null })), "on the server");
  assert.equal(whoText(event("account.refused", { reason: "unknown_name", count: 1, route: null })), "not signed in");
});

test("a refusal says why, how often and at what", () => {
  const once = event("account.refused", { reason: "forbidden", count: 1, route: "GET accounts.index" });
  assert.equal(whatText(once), "Refused: not allowed · at GET accounts.index");
  assert.equal(whatText(event("account.refused", { reason: "wrong_password", count: 12, route: null })), "Refused: wrong password · 12 times");
});

test("texts of others cannot hide or turn what stands beside them", () => {
  assert.equal(whatText(event("notice.posted", { text: "a\u202eb" })), "Posted a notice: a⟨U+202E⟩b");
  assert.equal(whatText(event("job.cancel_requested", { count: 1 }, { name: "a\u200b.txt" })), "Cancelled a⟨U+200B⟩.txt");
  assert.equal(whatText(event("job.retry_requested", { count: 40 })), "Retried 40 jobs");
});

test("an event of a later server is shown by its name", () => {
  assert.equal(whatText(event("account.something", {})), "account.something");
});

test("what is asked for is in the address, and comes back from it", () => {
  const query = { kind: "refusals", who: "pc7 & co" };
  assert.deepEqual(queryOf(searchOf(query)), query);
  assert.equal(searchOf({ kind: "", who: "", before: null }), "");
});

test("the newest page is put before what is shown, and replaces it if something is missing between them", () => {
  const shown = page([9, 8, 7, 5], 5);
  assert.deepEqual(joined(shown, page([11, 10, 9], 9)), page([11, 10, 9, 8, 7, 5], 5));
  assert.deepEqual(joined(shown, page([9, 8], 8)), shown);
  assert.deepEqual(joined(shown, page([20, 19, 18], 18)), page([20, 19, 18], 18));
  assert.deepEqual(joined(shown, page([11], null)), page([11], null)); // older ones were removed
  assert.deepEqual(joined(page([], null), page([3, 2], 2)), page([3, 2], 2));
  assert.deepEqual(joined(page([], 40), page([], 38)), page([], 38));
});
