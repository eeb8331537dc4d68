// The live connection: joins, resumes, delivers once; and polls where the socket is blocked.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Clock } from "../browser.js";

/** Timers of one test. The real ones stay away: what a test leaves behind would go on with them for ever. */
const clockOf = () => new Clock({ after() {} });

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

/** What is asked by HTTP. @type {{joins: any[], wait: number, resolve: (messages: any[]) => void, reject: () => void}[]} */
let polls = [];
/** What HTTP answers to a poll that does not wait. @type {any[] | null | "held"} null: nothing answers */
let answer = null;

let page = new EventTarget();
Object.assign(globalThis, {
  WebSocket: FakeSocket,
  document: Object.assign(new EventTarget(), {
    hidden: false,
    getElementById: () => null,
    documentElement: { dataset: {}, classList: { contains: () => false } },
  }),
  addEventListener: (/** @type {string} */ type, /** @type {() => void} */ listener) => page.addEventListener(type, listener),
  fetch: (/** @type {string} */ address, /** @type {any} */ { body, signal }) => new Promise((resolve, reject) => {
    assert.equal(address, "/api/v1/live");
    const { joins, wait } = JSON.parse(body);
    const done = (/** @type {any[]} */ messages) => resolve(new Response(JSON.stringify(messages)));
    const fail = () => reject(new TypeError("the connection broke"));
    polls.push({ joins, wait, resolve: done, reject: fail });
    signal?.addEventListener("abort", fail);
    if (wait > 0 || answer === "held") return;
    if (answer) done(answer);
    else fail();
  }),
});
const { Live } = await import("../../../static/js/core/live.js");
const { Session } = await import("../../../static/js/core/session.js");
await import("../../../static/js/core/polls.js");

const HELLO = { type: "hello", protocol: 1, heartbeat: 15, server_time: "2026-01-01T00:00:00Z", ledger: "l", version: "1", spread_s: 4 };

/** @type {InstanceType<typeof Live>} */
let live;
let session = new Session();
/** @type {[string, any][]} */
let heard;
/** @type {Map<string, string>} */
let kept;

beforeEach(() => {
  FakeSocket.all = [];
  polls = [];
  answer = null;
  page = new EventTarget();
  kept = new Map();
  live = made();
});

function made() {
  const store = { getItem: (/** @type {string} */ key) => kept.get(key) ?? null, setItem: (/** @type {string} */ key, /** @type {string} */ value) => { kept.set(key, value); } };
  session = new Session();
  const one = new Live("ws://server/api/v1/live", store, session);
  heard = [];
  for (const type of ["connection", "hello", "snapshot", "events", "progress", "output", "refused", "notice", "presence"]) {
    one.addEventListener(type, (event) => heard.push([type, /** @type {CustomEvent} */ (event).detail]));
  }
  return one;
}

/** @returns {FakeSocket} the newest socket */
const socket = () => FakeSocket.all[FakeSocket.all.length - 1];

/** Let promises run. What the page imports later comes from a thread of Node's loader, in order. */
const turns = async () => {
  await import("../../../static/js/core/polls.js");
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => { setImmediate(resolve); });
};

/** @param {import("node:test").TestContext} t @returns {Clock} */
function start(t) {
  t.mock.method(Math, "random", () => 1);
  const clock = clockOf();
  live.start();
  socket().says(HELLO);
  return clock;
}

/** A page whose socket is refused though HTTP works. @param {import("node:test").TestContext} t */
async function startBlocked(t) {
  t.mock.method(Math, "random", () => 1);
  const clock = clockOf();
  live.join("all", 0);
  answer = [HELLO, events(1), { type: "poll", seen: "s" }];
  live.start();
  socket().ends(1006);
  await turns();
  return clock;
}

/** @param {number[]} cursors */
const events = (...cursors) => ({ type: "events", topic: "all", cursor: cursors[cursors.length - 1], events: cursors.map((cursor) => ({ cursor })) });

const cursorsHeard = () => heard.filter(([type]) => type === "events").flatMap(([, { events: some }]) => some.map((/** @type {any} */ { cursor }) => cursor));

test("topics joined before the connection are joined after hello, with the ledger of their cursor", () => {
  clockOf();
  live.join("all", 7);
  live.start();
  assert.equal(live.connection, "connecting");
  socket().says(HELLO);
  assert.equal(live.connection, "live");
  assert.deepEqual(socket().sent.map(({ id, ...rest }) => rest), [{ type: "join", topic: "all", after: 7, ledger: "l" }]);
});

test("a reconnect resumes after the last cursor and delivers each event once", async (t) => {
  const clock = start(t);
  live.join("all", 0);
  socket().says(events(1, 2));
  socket().ends(1006);
  assert.equal(live.connection, "reconnecting");
  clock.tick(500);
  assert.equal(FakeSocket.all.length, 2);
  socket().says(HELLO);
  assert.equal(socket().sent[0].after, 2);
  socket().says(events(2, 3));
  socket().says(events(3));
  assert.deepEqual(cursorsHeard(), [1, 2, 3]);
});

test("after a restart it comes back at a random moment within the server's spread, and never polls for that", async (t) => {
  const clock = start(t);
  socket().says({ type: "tick", at: "", spread_s: 9 });
  answer = [HELLO];
  socket().ends(1012);
  clock.tick(8999);
  assert.equal(FakeSocket.all.length, 1);
  assert.ok(live.retryAt > Date.now());
  clock.tick(1);
  assert.equal(FakeSocket.all.length, 2);
  socket().ends(1006); // it is not up yet; HTTP answers a moment later
  await turns();
  assert.deepEqual([live.connection, polls.length], ["reconnecting", 1]);
  clock.tick(1000);
  socket().says(HELLO);
  assert.equal(live.connection, "live");
});

test("a server that answers neither has the page wait, ever longer, at least every 15 seconds", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const clock = clockOf();
  live.start();
  const waits = [];
  for (let times = 0; times < 8; times += 1) {
    const before = FakeSocket.all.length;
    socket().ends(1006);
    await turns();
    let waited = 0;
    for (; FakeSocket.all.length === before && waited < 60_000; waited += 100) clock.tick(100);
    waits.push(waited);
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
  assert.equal(live.connection, "reconnecting");
  socket().says(HELLO);
  const before = FakeSocket.all.length;
  socket().ends(1006);
  clock.tick(500);
  assert.equal(FakeSocket.all.length, before + 1, "a connection that worked resets the delay");
});

test("an old portion of events does not move the position back, and a gap goes on where its snapshot is", (t) => {
  const clock = start(t);
  live.join("all", 0);
  socket().says(events(4, 5));
  socket().says(events(1));
  socket().says({ type: "snapshot", topic: "all", cursor: 9, state: null });
  socket().says({ type: "gap", topic: "all", cursor: 9 });
  socket().says(events(8, 10));
  assert.deepEqual(cursorsHeard(), [4, 5, 10]);
  assert.equal(socket().sent.length, 1);
  socket().ends(1006);
  clock.tick(500);
  socket().says(HELLO);
  assert.equal(socket().sent[0].after, 10);
});

test("a cursor of another ledger is joined with its own, and the snapshot is what is followed then", (t) => {
  const clock = start(t);
  live.join("all", 0);
  socket().says(events(5));
  socket().ends(1006);
  clock.tick(500);
  socket().says({ ...HELLO, ledger: "restored" });
  assert.deepEqual([socket().sent[0].after, socket().sent[0].ledger], [5, "l"]);
  socket().says({ type: "snapshot", topic: "all", cursor: 2, state: null });
  socket().says(events(3));
  assert.deepEqual(cursorsHeard(), [5, 3]);
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

test("progress of several files comes as one message and is told file by file", (t) => {
  start(t);
  socket().says({ type: "progress", files: [{ file_id: "a", value: 1 }, { file_id: "b", value: 2 }] });
  assert.deepEqual(heard.filter(([type]) => type === "progress").map(([, { file_id: id }]) => id), ["a", "b"]);
});

test("a join that is refused for good is reported, shown until the topic is left, and not repeated", (t) => {
  const clock = start(t);
  live.join("submission:gone", 0);
  const error = { code: "not_found", detail: "There is none." };
  socket().says({ type: "reply", re: socket().sent[0].id, ok: false, error });
  assert.deepEqual(heard[heard.length - 1], ["refused", { topic: "submission:gone", error }]);
  assert.deepEqual([...live.refusals], [["submission:gone", error]]);
  socket().ends(1006);
  clock.tick(500);
  socket().says(HELLO);
  assert.deepEqual(socket().sent, []);
  live.leave("submission:gone");
  assert.equal(live.refusals.size, 0);
});

test("a join that is refused for now is shown and tried again", (t) => {
  const clock = start(t);
  live.join("all", 3);
  socket().says({ type: "reply", re: socket().sent[0].id, ok: false, error: { code: "unavailable", detail: "Later." } });
  assert.equal(live.refusals.size, 1);
  clock.tick(500);
  assert.deepEqual([socket().sent[1].topic, socket().sent[1].after], ["all", 3]);
  socket().says({ type: "reply", re: socket().sent[1].id, ok: true, error: null });
  assert.equal(live.refusals.size, 0);
  assert.equal(heard.filter(([type]) => type === "refused").length, 0);
});

test("replies that are fine, or to nothing, say nothing", (t) => {
  start(t);
  live.join("all", 0);
  const before = heard.length;
  socket().says({ type: "reply", re: socket().sent[0].id, ok: true, error: null });
  socket().says({ type: "reply", re: 999, ok: false, error: { code: "x", detail: null } });
  socket().says({ type: "tick", at: "2026-01-01T00:00:00Z", spread_s: 1 });
  socket().says({ type: "of a later protocol" });
  assert.equal(heard.length, before);
});

test("a silent connection is replaced, a ticking one is not", (t) => {
  const clock = start(t);
  for (let ticks = 0; ticks < 10; ticks += 1) {
    clock.tick(30_000);
    socket().says({ type: "tick", at: "2026-01-01T00:00:00Z", spread_s: 1 });
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

test("back online, or when asked, the page reconnects at once", (t) => {
  const clock = start(t);
  page.dispatchEvent(new Event("online"));
  live.tryNow();
  assert.equal(FakeSocket.all.length, 1, "a live connection stays");
  socket().ends(1006);
  page.dispatchEvent(new Event("online"));
  assert.equal(FakeSocket.all.length, 2);
  socket().says(HELLO);
  socket().ends(1006);
  live.tryNow();
  assert.equal(FakeSocket.all.length, 3);
  socket().says(HELLO);
  clock.tick(30_000);
  assert.equal(FakeSocket.all.length, 3, "the delayed retry was cancelled");
});

test("a refusal that would repeat is final", (t) => {
  const clock = start(t);
  socket().ends(4403);
  clock.tick(600_000);
  assert.deepEqual([live.connection, FakeSocket.all.length], ["refused", 1]);
});

test("a session that ended is said, tried again by nothing but a sign-in, and then goes on where it was", (t) => {
  session.canAsk = true;
  const clock = start(t);
  live.join("all", 0);
  socket().says(events(1));
  socket().ends(4401);
  assert.deepEqual([live.connection, session.isNeeded], ["signed_out", true]);
  page.dispatchEvent(new Event("online"));
  live.tryNow();
  clock.tick(600_000);
  assert.deepEqual([live.connection, FakeSocket.all.length], ["signed_out", 1]);
  session.decline();
  session.ask();
  assert.equal(live.connection, "signed_out");
  session.signedIn();
  assert.equal(FakeSocket.all.length, 2);
  socket().says(HELLO);
  assert.equal(live.connection, "live");
  assert.deepEqual(socket().sent.map(({ topic, after }) => [topic, after]), [["all", 1]]);
});

test("where nobody can sign in again, a session that ended is a refusal", (t) => {
  start(t);
  socket().ends(4401);
  assert.equal(live.connection, "refused");
});

test("offline is said at once, taken back by the next message, and ends with a new connection", (t) => {
  const clock = start(t);
  const first = socket();
  page.dispatchEvent(new Event("offline"));
  assert.equal(live.connection, "offline");
  first.says({ type: "tick", at: "2026-01-01T00:00:15Z", spread_s: 1 });
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

test("a server of another version says that the page is old", (t) => {
  const clock = start(t);
  assert.equal(live.isUpdated, false);
  socket().ends(1006);
  clock.tick(500);
  socket().says({ ...HELLO, version: "2" });
  assert.equal(live.isUpdated, true);
});

// --- polls -------------------------------------------------------------------------------------------------------------

test("where HTTP works and the socket does not, it polls, and remembers that", async (t) => {
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  await startBlocked(t);
  assert.equal(live.connection, "polling");
  assert.deepEqual(cursorsHeard(), [1]);
  assert.deepEqual(polls.map(({ wait }) => wait), [0, 0, 25], "the second brings what has no cursor");
  assert.deepEqual(polls[2].joins, [{ topic: "all", after: 1, ledger: "l" }]);
  polls[2].resolve([HELLO, events(1, 2), { type: "poll", seen: "t" }]);
  await turns();
  assert.deepEqual(cursorsHeard(), [1, 2]);
  assert.equal(heard.filter(([type]) => type === "hello").length, 1, "each answer has one, the page has one connection");
  assert.ok(Number(kept.get("dropmill-socket")) > 0);

  live = made(); // the next page begins with polls
  live.join("all", 2);
  live.start();
  await turns();
  assert.equal(live.connection, "polling");
});

test("a poll that fails is said and repeated; the next answer says that all is well", async (t) => {
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  const clock = await startBlocked(t);
  polls[2].reject();
  await turns();
  assert.equal(live.connection, "reconnecting");
  clock.tick(500);
  await turns();
  polls[3].resolve([HELLO, events(2), { type: "poll", seen: "t" }]);
  await turns();
  assert.equal(live.connection, "polling");
  assert.deepEqual(cursorsHeard(), [1, 2]);
});

test("a socket that comes through later ends the polls, and it is remembered that it works", async (t) => {
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  const clock = await startBlocked(t);
  clock.tick(60_000);
  assert.equal(FakeSocket.all.length, 2);
  socket().says(HELLO);
  assert.equal(live.connection, "live");
  assert.equal(socket().sent[0].after, 1);
  await turns();
  assert.equal(kept.get("dropmill-socket"), "works");
  const before = polls.length;
  clock.tick(60_000);
  assert.equal(polls.length, before);
});

test("a server that refuses HTTP as well is away, not blocked", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const clock = clockOf();
  live.start();
  socket().ends(1006);
  await turns();
  answer = [HELLO];
  clock.tick(500);
  socket().ends(1006); // refused while the server came up: HTTP has not answered before this attempt
  await turns();
  assert.equal(live.connection, "reconnecting");
  assert.equal(kept.size, 0);
});

test("a socket that is swallowed is given up, and that is said", async (t) => {
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  t.mock.method(Math, "random", () => 1);
  const clock = clockOf();
  answer = [HELLO, { type: "poll", seen: "" }];
  live.start();
  clock.tick(8000);
  await turns();
  assert.deepEqual([live.connection, live.isSwallowed], ["polling", true]);
});

test("polls of a session that ended stop until the sign-in", async (t) => {
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  session.canAsk = true;
  const clock = await startBlocked(t);
  assert.equal(live.connection, "polling");
  session.ask();
  const before = polls.length;
  clock.tick(600_000);
  await turns();
  assert.deepEqual([live.connection, polls.length], ["signed_out", before]);
  session.signedIn();
  socket().says(HELLO);
  assert.equal(live.connection, "live");
});

test("a refused join of a poll is reported like that of a socket", async (t) => {
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  await startBlocked(t);
  const error = { code: "not_found", detail: "There is none." };
  const refusal = { type: "reply", re: "submission:gone", ok: false, error };
  answer = [HELLO, refusal, { type: "poll", seen: "u" }];
  live.join("submission:gone", 0);
  await turns();
  assert.deepEqual(heard[heard.length - 1], ["refused", { topic: "submission:gone", error }]);
  assert.deepEqual(polls[polls.length - 1].joins.map(({ topic }) => topic), ["all"]);
});

// --- unsaved changes ---------------------------------------------------------------------------------------------------

test("unsaved changes are said once, and again after a reconnect", (t) => {
  const clock = start(t);
  const said = () => socket().sent.filter(({ type }) => type === "editing").map(({ topic, is_dirty: isDirty }) => [topic, isDirty]);
  live.editing(false);
  live.editing(true);
  live.editing(true);
  assert.deepEqual(said(), [["config", true]]);
  socket().ends(1006);
  clock.tick(500);
  socket().says(HELLO);
  assert.deepEqual(said(), [["config", true]]);
  live.editing(false);
  assert.deepEqual(said(), [["config", true], ["config", false]]);
});
