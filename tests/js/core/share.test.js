// One poll for all tabs: the leader, what it passes on, and who follows it.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Clock } from "../browser.js";

/** Timers of one test. The real ones stay away: what a test leaves behind would go on with them for ever. */
const clockOf = () => new Clock({ after() {} });

/** As navigator.locks, for one name. */
class FakeLocks {
  /** @type {{held: () => Promise<void>, resolve: () => void, reject: (error: Error) => void}[]} the first one holds it */
  queue = [];

  /** @param {string} _ @param {{steal?: boolean, signal?: AbortSignal}} options @param {() => Promise<void>} held @returns {Promise<void>} */
  request(_, { steal, signal }, held) {
    return new Promise((resolve, reject) => {
      const request = { held, resolve, reject };
      const [holder] = this.queue;
      if (steal && holder) {
        this.queue[0] = request;
        holder.reject(new Error("stolen"));
      } else this.queue.push(request);
      signal?.addEventListener("abort", () => {
        if (this.queue[0] === request) return;
        this.queue = this.queue.filter((one) => one !== request);
        reject(new Error("aborted"));
      });
      if (this.queue[0] === request) this.#grant();
    });
  }

  #grant() {
    const request = this.queue[0];
    if (!request) return;
    queueMicrotask(() => request.held().then(() => {
      request.resolve();
      if (this.queue[0] !== request) return;
      this.queue.shift();
      this.#grant();
    }));
  }

  /** The browser ends a tab that crashed. */
  crash() {
    this.queue.shift();
    this.#grant();
  }
}

/** As BroadcastChannel. */
class Air {
  /** @type {Set<any>} */
  channels = new Set();

  open() {
    const air = this;
    const channel = {
      isDeaf: false,
      onmessage: /** @type {((event: {data: any}) => void) | null} */ (null),
      /** @param {any} message */
      postMessage(message) {
        if (this.isDeaf) return;
        for (const other of air.channels) if (other !== channel && !other.isDeaf) queueMicrotask(() => other.onmessage?.({ data: structuredClone(message) }));
      },
      close() { air.channels.delete(channel); },
    };
    air.channels.add(channel);
    return channel;
  }
}

/** A server of one topic whose events are numbers. */
class Server {
  newest = 0;
  isAway = false;
  /** @type {{joins: any[], resolve: (value: any) => void}[]} */
  waiting = [];
  /** @type {{joins: any[], wait: number}[]} */
  polls = [];

  /** @param {any[]} joins */
  answer(joins) {
    const messages = [{ type: "hello", ledger: "l", heartbeat: 15 }];
    for (const { topic, after } of joins) {
      if (after === null) messages.push(/** @type {any} */ ({ type: "snapshot", topic, cursor: this.newest, state: null }));
      else if (after < this.newest) {
        const events = Array.from({ length: this.newest - after }, (_, index) => ({ cursor: after + 1 + index }));
        messages.push(/** @type {any} */ ({ type: "events", topic, cursor: this.newest, events }));
      }
    }
    return [...messages, { type: "poll", seen: "s" }];
  }

  /** @param {any[]} joins @param {number} wait @param {AbortSignal | undefined} signal */
  async poll(joins, wait, signal) {
    this.polls.push({ joins, wait });
    if (this.isAway) throw new TypeError("away");
    const answer = this.answer(joins);
    if (wait === 0 || answer.length > 2) return answer;
    return new Promise((resolve, reject) => {
      const one = { joins, resolve };
      this.waiting.push(one);
      signal?.addEventListener("abort", () => {
        this.waiting = this.waiting.filter((other) => other !== one);
        reject(new TypeError("aborted"));
      });
    });
  }

  happen() {
    this.newest += 1;
    for (const { joins, resolve } of this.waiting.splice(0)) resolve(this.answer(joins));
  }
}

let server = new Server();
Object.assign(globalThis, {
  fetch: async (/** @type {string} */ _, /** @type {any} */ { body, signal }) => {
    const { joins, wait } = JSON.parse(body);
    return new Response(JSON.stringify(await server.poll(joins, wait, signal)));
  },
});
const { SharedPolling } = await import("../../../static/js/core/share.js");
const { Positions } = await import("../../../static/js/core/positions.js");

let locks = new FakeLocks();
let air = new Air();

class Tab {
  positions = new Positions();
  /** @type {number[]} */
  cursors = [];
  failures = 0;
  isHidden = false;
  /** @type {any} */
  channel = null;

  constructor() {
    const channel = () => {
      this.channel = air.open();
      return this.channel;
    };
    const sharing = { locks, channel, name: "n", client: "c", isHidden: () => this.isHidden };
    this.polling = new SharedPolling(/** @type {any} */ (sharing), this.positions, (messages) => {
      for (const message of messages) for (const { cursor } of this.positions.take(message)?.events ?? []) this.cursors.push(cursor);
    }, () => { this.failures += 1; });
  }

  /** @param {number | null} after */
  async open(after) {
    this.positions.follow("all", after);
    this.polling.start();
    await turns();
    return this;
  }
}

const turns = async () => {
  for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => { setImmediate(resolve); });
};

const numbers = (/** @type {number} */ first, /** @type {number} */ last) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

/** @param {Clock} clock @param {number} ms */
const pass = async (clock, ms) => {
  for (let passed = 0; passed < ms; passed += 500) {
    clock.tick(500);
    await turns();
  }
};

beforeEach(() => {
  server = new Server();
  locks = new FakeLocks();
  air = new Air();
});

test("one tab polls, and each tab gets each event once, wherever it began", async () => {
  clockOf();
  for (let count = 0; count < 3; count += 1) server.happen();
  const [first, second, third] = [await new Tab().open(0), await new Tab().open(2), await new Tab().open(null)];
  for (let count = 0; count < 5; count += 1) {
    server.happen();
    await turns();
  }
  assert.deepEqual([first.cursors, second.cursors, third.cursors], [numbers(1, 8), numbers(3, 8), numbers(4, 8)]);
  assert.deepEqual([first, second, third].map(({ polling }) => polling.isLeader), [true, false, false]);
  assert.equal(server.waiting.length, 1);
});

test("when the leader closes, another tab goes on and nothing is lost", async () => {
  clockOf();
  const [first, second] = [await new Tab().open(0), await new Tab().open(0)];
  server.happen();
  await turns();
  first.polling.stop();
  server.happen(); // before anybody polls
  await turns();
  server.happen();
  await turns();
  assert.deepEqual(second.cursors, [1, 2, 3]);
  assert.equal(second.polling.isLeader, true);
  assert.equal(server.waiting.length, 1);
});

test("when the leader crashes, the browser gives the lock to another tab", async () => {
  clockOf();
  const [first, second] = [await new Tab().open(0), await new Tab().open(0)];
  first.channel.isDeaf = true;
  locks.crash();
  await turns();
  server.happen();
  await turns();
  assert.deepEqual(second.cursors, [1]);
});

test("a leader that does not respond loses the lock to a visible tab, and follows when it wakes", async () => {
  const clock = clockOf();
  const [first, second, third] = [await new Tab().open(0), await new Tab().open(0), await new Tab().open(0)];
  third.isHidden = true;
  server.happen();
  await turns();
  first.channel.isDeaf = true; // frozen: it neither hears nor says anything
  await pass(clock, 20_000);
  assert.deepEqual([first, second, third].map(({ polling }) => polling.isLeader), [false, true, false]);
  server.happen();
  await turns();
  assert.deepEqual([second.cursors, third.cursors], [[1, 2], [1, 2]]);
  first.channel.isDeaf = false;
  server.happen();
  await turns();
  assert.deepEqual([first.cursors, third.cursors], [[1, 2, 3], [1, 2, 3]]);
});

test("a leader that responds is left alone, for however long nothing happens", async () => {
  const clock = clockOf();
  const [first, second] = [await new Tab().open(0), await new Tab().open(0)];
  await pass(clock, 30_000);
  assert.deepEqual([first, second].map(({ polling }) => polling.isLeader), [true, false]);
});

test("the leader follows what any tab follows, and stops when none does", async () => {
  const clock = clockOf();
  const [, second] = [await new Tab().open(0), await new Tab().open(0)];
  second.positions.follow("config", 0);
  second.polling.changed();
  await turns();
  assert.deepEqual(server.waiting[0].joins.map(({ topic }) => topic), ["all", "config"]);
  second.positions.leave("config");
  await pass(clock, 6000);
  server.happen();
  await turns();
  assert.deepEqual(server.waiting[0].joins.map(({ topic }) => topic), ["all"]);
});

test("every tab hears that polls fail, and gets what it missed", async () => {
  const clock = clockOf();
  const [first, second] = [await new Tab().open(0), await new Tab().open(0)];
  server.isAway = true;
  server.happen(); // the answer still comes; the next poll fails
  await turns();
  assert.ok(first.failures > 0);
  assert.ok(second.failures > 0);
  server.newest += 2;
  server.isAway = false;
  await pass(clock, 16_000);
  assert.deepEqual([first.cursors, second.cursors], [numbers(1, 3), numbers(1, 3)]);
});
