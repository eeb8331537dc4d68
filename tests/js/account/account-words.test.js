// What the pages of accounts say.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { deviceOf, expirySeconds, inOrder, isExpired, keptWords, newPassword, personState, scopeWords, tokenName, tokenTimes } from "../../../static/js/account/account-words.js";

const CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
const TOKEN = { id: "t", name: null, scopes: ["send"], prefix: "dmill_ab", created_at: "2026-01-02T00:00:00Z", expires_at: null, last_used_at: null };
const PERSON = { id: "a", name: "ada", role: "admin", created_at: "2026-01-02T00:00:00Z", disabled_at: null, removed_at: null, last_seen_at: null, quota: { limits: { storage: null }, usage: { storage: 0 } } };

test("a device is a browser and a system, as people call them", () => {
  assert.equal(deviceOf(CHROME), "Chrome on Linux");
  assert.equal(deviceOf(`${CHROME} Edg/131.0`), "Edge on Linux");
  assert.equal(deviceOf("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0"), "Firefox on Windows");
  assert.equal(deviceOf("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Mobile/15E148 Safari/604.1"), "Safari on iPhone");
  assert.equal(deviceOf("Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/131.0 Mobile Safari/537.36"), "Chrome on Android");
  assert.equal(deviceOf("curl/8.0"), "Unknown browser");
  assert.equal(deviceOf(null), "Unknown browser");
});

test("a token says what it may do, and whether it is still good", () => {
  assert.equal(tokenName(TOKEN), "Token without a name");
  assert.equal(scopeWords(["send", "config"]), "sends, config");
  assert.match(tokenTimes(TOKEN), /^made .* · never used · never expires$/);
  assert.match(tokenTimes({ ...TOKEN, expires_at: "2020-01-01T00:00:00Z", last_used_at: new Date().toISOString() }), / · used just now · expired /);
  assert.equal(isExpired({ ...TOKEN, expires_at: "2020-01-01T00:00:00Z" }), true);
  assert.equal(isExpired(TOKEN), false);
});

test("an expiry is a number of seconds, or none", () => {
  assert.equal(expirySeconds("7"), 7 * 24 * 3600);
  assert.equal(expirySeconds(""), null);
});

test("people are sorted by name; those that are gone come last and say so", () => {
  const gone = { ...PERSON, name: "abe", removed_at: "2026-02-03T00:00:00Z" };
  const people = [gone, { ...PERSON, name: "bob" }, PERSON];
  assert.deepEqual(inOrder(people).map(({ name }) => name), ["ada", "bob", "abe"]);
  assert.equal(personState(PERSON), "never signed in");
  assert.match(personState(gone), /^removed /);
  assert.match(personState({ ...PERSON, disabled_at: "2026-02-03T00:00:00Z" }), /^disabled since /);
  assert.equal(personState({ ...PERSON, last_seen_at: new Date().toISOString() }), "last seen just now");
});

test("what is kept of somebody's files stands beside their limit, if they have one", () => {
  assert.equal(keptWords({ limits: { storage: null }, usage: { storage: 3 * 1024 ** 3 } }), "3 GiB of files are kept here.");
  assert.equal(keptWords({ limits: { storage: 20 * 1024 ** 3 }, usage: { storage: 12.3 * 1024 ** 3 } }), "12.3 GiB of 20 GiB of files are kept here.");
});

test("a made password is long enough, and never the same", () => {
  const made = new Set(Array.from({ length: 50 }, newPassword));
  assert.equal(made.size, 50);
  for (const password of made) assert.match(password, /^[a-z2-9]{5}(-[a-z2-9]{5}){3}$/);
});
