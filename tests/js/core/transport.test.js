// When a page polls, and when it tries the socket again.

import assert from "node:assert/strict";
import { test } from "node:test";

const { Choice } = await import("../../../static/js/core/transport.js");

/** @param {string | null} [value] */
const storeOf = (value = null) => ({ value, getItem() { return this.value; }, setItem(/** @type {string} */ _, /** @type {string} */ written) { this.value = written; } });
const broken = { code: 1006, isGreeted: false, isSilent: false };

test("the socket is blocked if HTTP answered before and after a handshake that failed", () => {
  const store = storeOf();
  const choice = new Choice(store);
  assert.equal(choice.socketEnded(broken), "ask");
  assert.equal(choice.httpAnswered(false), false);
  assert.equal(choice.socketEnded(broken), "ask");
  assert.equal(choice.httpAnswered(true), false, "the server may have come up in between");
  assert.equal(choice.socketEnded(broken), "ask");
  assert.equal(choice.httpAnswered(true), true);
  assert.equal(new Choice(store).beginsWithPolls, true);
});

test("a restart, an overload and a socket that worked are no reason to ask over HTTP", () => {
  const choice = new Choice(storeOf());
  for (const end of [{ ...broken, code: 1012 }, { ...broken, code: 1013 }, { ...broken, isGreeted: true }]) {
    assert.equal(choice.socketEnded(end), "wait");
    assert.equal(choice.socketEnded(broken), "ask");
    assert.equal(choice.httpAnswered(true), false);
  }
  for (const code of [4400, 4403]) assert.equal(choice.socketEnded({ ...broken, code }), "final");
  assert.equal(choice.socketEnded({ ...broken, code: 4401 }), "sign_in");
});

test("it is remembered for a day where the socket never worked, and not at all where it did", () => {
  const store = storeOf();
  const choice = new Choice(store);
  choice.socketWorks();
  choice.socketEnded(broken);
  assert.equal(choice.httpAnswered(true), true);
  assert.equal(new Choice(store).beginsWithPolls, false);
  assert.equal(new Choice(storeOf(String(Date.now() - 25 * 3600 * 1000))).beginsWithPolls, false);
  assert.equal(new Choice(storeOf("nonsense")).beginsWithPolls, false);
});

test("a page that polls tries the socket ever less where it never worked, and soon where it did", (t) => {
  t.mock.method(Math, "random", () => 1);
  const never = new Choice(storeOf());
  assert.deepEqual([never, never, never, never, never].map((choice) => choice.blockedDelay), [60_000, 120_000, 240_000, 480_000, 600_000]);
  const works = new Choice(storeOf("works"));
  assert.deepEqual([works, works].map((choice) => choice.blockedDelay), [15_000, 15_000]);
});

test("waits are random from zero up", (t) => {
  t.mock.method(Math, "random", () => 0);
  const choice = new Choice(null);
  assert.equal(choice.delay(), 0);
  assert.equal(choice.delay(1012), 0);
});

test("a browser that forbids storage remembers nothing and works", () => {
  const forbidden = { getItem() { throw new Error("no"); }, setItem() { throw new Error("no"); } };
  const choice = new Choice(forbidden);
  assert.equal(choice.beginsWithPolls, false);
  choice.socketWorks();
  choice.socketEnded(broken);
  assert.equal(choice.httpAnswered(true), true);
});
