// The WebSocket: joins, resumes, delivers once.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Clock } from "../browser.js";

/** A socket whose server is the test. */
class FakeSocket extends EventTarget {
  static OPEN = 1;
  /** @type {FakeSocket[]} */
  static all = [];
  readyState = 0;
  /** @type {any[]} */
  sent = [];

  constructor() {
    super();
    FakeSocket.all.push(this);
  }

  /** @param {string} text */
  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {}

  /** @param {Record<string, any>} message */
  says(message) {
    this.readyState = FakeSocket.OPEN;
    this.dispatchEvent(Object.assign(new Event("message"), { data: JSON.stringify(message) }));
  }

  /** @param {number} code */
  ends(code) {
    this.dispatchEvent(Object.assign(new Event("close"), { code }));
  }
}

let page = new EventTarget();
Object.assign(globalThis, {
  WebSocket: FakeSocket,
  addEventListener: (/** @type {string} */ type, /** @type {() => void} */ listener) => page.addEventListener(type, listener),
});
const { Live } = await import("../../../static/js/core/live.js");

const HELLO = { type: "hello", protocol: 1, heartbeat: 15, server_time: "2026-01-01T00:00:00Z" };

/** @type {InstanceType<typeof Live>} */
let live;
/** @type {[string, any][]} */
let heard;

beforeEach(() => {
  FakeSocket.all = [];
  page = new EventTarget();
  live = new Live("ws://server/api/v1/live");
  heard = [];
  for (const type of ["connection", "hello", "snapshot", "events", "progress", "output", "refused"]) {
    live.addEventListener(type, (event) => heard.push([type, /** @type {CustomEvent} */ (event).detail]));
  }
});

/** @returns {FakeSocket} the newest socket */
const socket = () => FakeSocket.all[FakeSocket.all.length - 1];

/** @param {import("node:test").TestContext} t @returns {Clock} */
function start(t) {
  const clock = new Clock(t);
  live.start();
  socket().says(HELLO);
  return clock;
}

/** @param {number[]} cursors */
const events = (...cursors) => ({ type: "events", topic: "all", cursor: cursors[cursors.length - 1], events: cursors.map((cursor) => ({ cursor })) });

const cursorsHeard = () => heard.filter(([type]) => type === "events").flatMap(([, { events: some }]) => some.map((/** @type {any} */ { cursor }) => cursor));

test("topics joined before the connection are joined after hello", (t) => {
  new Clock(t);
  live.join("all", 7);
  live.start();
  assert.equal(live.connection, "connecting");
  socket().says(HELLO);
  assert.equal(live.connection, "live");
  assert.deepEqual(socket().sent.map(({ id, ...rest }) => rest), [{ type: "join", topic: "all", after: 7 }]);
});

test("a reconnect resumes after the last cursor and delivers each event once", (t) => {
  const clock = start(t);
  live.join("all", 0);
  socket().says(events(1, 2));
  socket().ends(1012);
  assert.equal(live.connection, "reconnecting");
  clock.tick(500);
  assert.equal(FakeSocket.all.length, 2);
  socket().says(HELLO);
  assert.equal(socket().sent[0].after, 2);
  socket().says(events(2, 3));
  socket().says(events(3));
  assert.deepEqual(cursorsHeard(), [1, 2, 3]);
});

test("an old portion of events does not move the position back", (t) => {
  start(t);
  live.join("all", 0);
  socket().says(events(4, 5));
  socket().says(events(1));
  socket().says({ type: "gap", topic: "all", cursor: 9 });
  assert.equal(socket().sent[1].after, 5);
});

test("a snapshot sets the position, and a gap joins again from there", (t) => {
  start(t);
  live.join("all", null);
  assert.equal(socket().sent[0].after, null);
  socket().says({ type: "snapshot", topic: "all", cursor: 10, state: null });
  socket().says(events(9, 11));
  assert.deepEqual(cursorsHeard(), [11]);
  socket().says({ type: "gap", topic: "all", cursor: 20 });
  assert.deepEqual([socket().sent[1].type, socket().sent[1].after], ["join", 11]);
});

test("events of a topic that was left are dropped", (t) => {
  start(t);
  live.join("all", 0);
  live.leave("all");
  assert.deepEqual(socket().sent.map(({ type }) => type), ["join", "leave"]);
  socket().says(events(1));
  assert.deepEqual(cursorsHeard(), []);
  live.leave("all");
  assert.equal(socket().sent.length, 2, "a topic is left once");
});

test("output resumes by bytes and attempt, and pieces read before are dropped", (t) => {
  const clock = start(t);
  live.join("output:j", 0);
  const piece = (/** @type {number} */ attempt, /** @type {number} */ offset, /** @type {number} */ end) => ({ type: "output", job_id: "j", attempt, offset, end, text: `${attempt}:${offset}` });
  socket().says(piece(1, 0, 5));
  socket().ends(1006);
  clock.tick(500);
  socket().says(HELLO);
  assert.deepEqual([socket().sent[0].after, socket().sent[0].attempt], [5, 1]);
  socket().says(piece(1, 0, 5));
  socket().says(piece(1, 5, 9));
  socket().says(piece(2, 0, 3)); // a retry begins anew
  socket().says({ ...piece(1, 0, 1), job_id: "other" });
  assert.deepEqual(heard.filter(([type]) => type === "output").map(([, { text }]) => text), ["1:0", "1:5", "2:0"]);
});

test("a refused join is reported and not repeated", (t) => {
  const clock = start(t);
  live.join("submission:gone", 0);
  socket().says({ type: "reply", re: socket().sent[0].id, ok: false, error: { code: "not_found", detail: "There is none." } });
  assert.deepEqual(heard[heard.length - 1], ["refused", { topic: "submission:gone", error: { code: "not_found", detail: "There is none." } }]);
  socket().ends(1006);
  clock.tick(500);
  socket().says(HELLO);
  assert.deepEqual(socket().sent, []);
});

test("replies that are fine, or to nothing, say nothing", (t) => {
  start(t);
  live.join("all", 0);
  const before = heard.length;
  socket().says({ type: "reply", re: socket().sent[0].id, ok: true, error: null });
  socket().says({ type: "reply", re: 999, ok: false, error: { code: "x", detail: null } });
  socket().says({ type: "tick", at: "2026-01-01T00:00:00Z" });
  socket().says({ type: "of a later protocol" });
  assert.equal(heard.length, before);
});

test("a silent connection is replaced, a ticking one is not", (t) => {
  const clock = start(t);
  for (let ticks = 0; ticks < 10; ticks += 1) {
    clock.tick(30_000);
    socket().says({ type: "tick", at: "2026-01-01T00:00:00Z" });
  }
  assert.equal(live.connection, "live");
  clock.tick(37_500);
  assert.equal(live.connection, "reconnecting");
  clock.tick(500);
  assert.equal(FakeSocket.all.length, 2);
  socket().says(HELLO);
  FakeSocket.all[0].ends(1006); // its close event comes late
  assert.equal(live.connection, "live");
});

test("failing connections are retried ever less often, at least every 15 seconds", (t) => {
  t.mock.method(Math, "random", () => 1);
  const clock = new Clock(t);
  live.start();
  const waits = [];
  for (let times = 0; times < 8; times += 1) {
    const before = FakeSocket.all.length;
    socket().ends(1006);
    let waited = 0;
    for (; FakeSocket.all.length === before; waited += 100) clock.tick(100);
    waits.push(waited);
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
  socket().says(HELLO);
  const before = FakeSocket.all.length;
  socket().ends(1006);
  clock.tick(500);
  assert.equal(FakeSocket.all.length, before + 1, "a connection that worked resets the delay");
});

test("back online, the page reconnects at once", (t) => {
  const clock = start(t);
  page.dispatchEvent(new Event("online"));
  assert.equal(FakeSocket.all.length, 1, "a live connection stays");
  socket().ends(1006);
  page.dispatchEvent(new Event("online"));
  assert.equal(FakeSocket.all.length, 2);
  clock.tick(60_000 - 22_500);
  assert.equal(FakeSocket.all.length, 2, "the delayed retry was cancelled");
});

test("a refusal that would repeat is final", (t) => {
  const clock = start(t);
  socket().ends(4403);
  clock.tick(600_000);
  assert.deepEqual([live.connection, FakeSocket.all.length], ["refused", 1]);
});

test("offline is said at once, taken back by the next message, and ends with a new connection", (t) => {
  const clock = start(t);
  const first = socket();
  page.dispatchEvent(new Event("offline"));
  assert.equal(live.connection, "offline");
  first.says({ type: "tick", at: "2026-01-01T00:00:15Z" });
  assert.equal(live.connection, "live", "a server on the same device needs no network");
  page.dispatchEvent(new Event("offline"));
  page.dispatchEvent(new Event("online"));
  assert.equal(FakeSocket.all.length, 2, "the old connection may be dead without saying so");
  first.ends(1006);
  clock.tick(1000);
  assert.equal(FakeSocket.all.length, 2);
  socket().says(HELLO);
  assert.equal(live.connection, "live");
});

test("a connection that is lost offline is tried again, and said to be offline", (t) => {
  start(t);
  page.dispatchEvent(new Event("offline"));
  Object.defineProperty(globalThis, "navigator", { value: { onLine: false }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  socket().ends(1006);
  assert.equal(live.connection, "offline");
  page.dispatchEvent(new Event("online"));
  assert.equal(FakeSocket.all.length, 2);
});
