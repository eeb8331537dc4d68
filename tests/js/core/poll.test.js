// Long polls, one after the other.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Clock } from "../browser.js";

/** @type {{joins: any[], wait: number, seen?: string, resolve: (messages: any[]) => void, reject: () => void}[]} */
let polls = [];
Object.assign(globalThis, {
  fetch: (/** @type {string} */ _, /** @type {any} */ { body, signal }) => new Promise((resolve, reject) => {
    const fail = () => reject(new TypeError("the connection broke"));
    polls.push({ ...JSON.parse(body), resolve: (/** @type {any} */ messages) => resolve(new Response(JSON.stringify(messages))), reject: fail });
    signal?.addEventListener("abort", fail);
  }),
});
const { Polling } = await import("../../../static/js/core/poll.js");
const { Positions } = await import("../../../static/js/core/positions.js");

const turns = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => { setImmediate(resolve); });
};

function started() {
  polls = [];
  const clock = new Clock({ after() {} });
  const positions = new Positions();
  positions.follow("config", 3);
  /** @type {number[]} */
  const failures = [];
  const polling = new Polling(positions, "me", (messages) => { for (const message of messages) positions.take(message); }, ({ status }) => failures.push(status));
  polling.start();
  return { clock, positions, polling, failures };
}

const ANSWER = [{ type: "hello", ledger: "l" }, { type: "poll", seen: "s" }];

test("the first poll does not wait, the next one waits for what the first had not", async () => {
  const { polling } = started();
  polls[0].resolve(ANSWER);
  await turns();
  assert.deepEqual(polls.map(({ wait, seen }) => [wait, seen]), [[0, undefined], [25, "s"]]);
  polling.stop();
  await turns();
  assert.equal(polls.length, 2);
});

test("an answer that comes while something else is joined says nothing about that", async () => {
  const { positions, polling } = started();
  polls[0].resolve(ANSWER);
  positions.follow("all", 0);
  polling.changed();
  await turns();
  assert.deepEqual([polls[1].joins.length, polls[1].wait, polls[1].seen], [2, 0, undefined]);
});

test("a failure is said and repeated after a random time, longer each time", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const { clock, failures } = started();
  for (const ms of [500, 1000, 2000]) {
    polls[polls.length - 1].reject();
    await turns();
    const before = polls.length;
    clock.tick(ms - 1);
    await turns();
    assert.equal(polls.length, before);
    clock.tick(1);
    await turns();
    assert.equal(polls.length, before + 1);
  }
  assert.deepEqual(failures, [0, 0, 0]);
});

test("where something cuts polls that wait, they wait less, and that is no failure", async (t) => {
  const { failures } = started();
  let now = Date.now();
  t.mock.method(Date, "now", () => now);
  polls[0].resolve(ANSWER);
  await turns();
  now += 10_000;
  polls[1].reject();
  await turns();
  assert.deepEqual([polls[2].wait, failures], [8, []]);
});
