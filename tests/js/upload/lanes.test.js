// The lanes that send the files of one submission.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { FakeServer } from "../fake-server.js";
import { session } from "../../../static/js/core/session.js";
import { SubmissionModel } from "../../../static/js/submission/model.js";
import { Lanes } from "../../../static/js/upload/lanes.js";
import { Retrying } from "../../../static/js/upload/retrying.js";

/** @typedef {import("../../../static/js/upload/attempt.js").Send} Send */
/** @typedef {import("../../../static/js/submission/model.js").Entry} Entry */

const MIB = 1024 * 1024;

/** @type {FakeServer} */
let server;

beforeEach(() => {
  server = new FakeServer();
});

/** Lanes, and a keeper that does with the files what the lanes say. */
class Desk {
  model = new SubmissionModel("s");
  retrying = new Retrying(() => {});
  /** @type {Send[]} */
  sends = [];
  /** @type {[string, Entry["sending"], string][]} each change of a file */
  turns = [];
  /** @type {string[]} */
  dropped = [];
  /** @type {(number | undefined)[]} how long events may take, of each group that was renewed */
  renewed = [];
  working = 0;
  lanes = new Lanes(this.model, this.retrying, {
    turn: (send, sending, remark = "") => this.turn(send, sending, remark),
    renew: async (sends, eventsMs) => {
      this.renewed.push(eventsMs);
      for (const send of sends) if (this.onServer(send)?.state === "stored") this.turn(send, null, "");
    },
    dropUnreadable: (send) => {
      this.dropped.push(send.item.path);
      this.turn(send, null, "");
    },
    work: async (action) => {
      this.working += 1;
      await action();
      this.working -= 1;
    },
  });

  /** @param {{path: string, file: File}[]} items @param {boolean} inPieces */
  add(items, inPieces) {
    for (const { path, file } of items) server.announce(path, path, file.size);
    this.model.takeFiles(structuredClone(server.files), true);
    for (const item of items) {
      const entry = this.model.entries.find(({ path }) => path === item.path) ?? null;
      this.sends.push({ item, entry, replaces: null, inPieces, hasBegun: false, isBusy: false, transfer: null });
    }
    for (const send of this.sends.slice(-items.length)) this.turn(send, "waiting", "");
  }

  /** @param {Send} send @param {Entry["sending"]} sending @param {string} remark */
  turn(send, sending, remark) {
    if (!send.entry) throw new Error("it was announced");
    this.turns.push([send.item.path, sending, remark]);
    this.model.turn(send.entry, sending, remark);
    this.lanes.note(send);
  }

  /** @param {Send} send */
  onServer(send) {
    return server.files.find(({ id }) => id === send.entry?.id);
  }

  /** Send until every lane has ended; retries come without their delay. */
  async ended() {
    this.lanes.fill();
    for (let times = 0; this.working && times < 10_000; times += 1) { // about a minute
      await new Promise((resolve) => { setTimeout(resolve, 5); });
      this.retrying.now();
    }
    assert.equal(this.working, 0);
  }

  /** @param {string} path @returns {Entry["sending"][]} what the page did with a file, in order */
  of(path) {
    return this.turns.filter(([one]) => one === path).map(([, sending]) => sending);
  }
}

/** @param {string} path @param {number} [size] */
const item = (path, size = 10) => ({ path, file: new File([new Uint8Array(size)], path) });

test("small files go before large ones, a large one at a time in each of three lanes", async () => {
  const desk = new Desk();
  desk.add([1, 2, 3, 4].map((number) => item(`${number}.bin`, MIB)), true);
  desk.add([item("a.txt"), item("b.txt")], false);
  await desk.ended();
  assert.deepEqual(desk.turns.filter(([, sending]) => sending === "together").map(([path]) => path), ["a.txt", "b.txt"]);
  assert.equal(desk.turns.find(([, sending]) => sending !== "waiting")?.[0], "a.txt");
  assert.ok(server.files.every(({ state }) => state === "stored"));
  assert.equal(server.mostAtOnce, 3);
  assert.ok(desk.sends.every(({ isBusy, transfer }) => !isBusy && transfer === null));
});

test("each form takes a third of what waits, but not a few only", async () => {
  const desk = new Desk();
  desk.add(Array.from({ length: 300 }, (_, number) => item(`${number}.txt`)), false);
  /** @type {number[]} */
  const forms = [];
  server.intercept = ({ body }) => {
    if (body instanceof FormData) forms.push([...body].length);
    return null;
  };
  await desk.ended();
  assert.deepEqual(forms, [100, 67, 50, 50, 33]);
});

test("a file that has stopped waiting is not sent", async () => {
  const desk = new Desk();
  desk.add([item("a.txt"), item("b.txt")], false);
  desk.turn(desk.sends[0], "paused", "");
  await desk.ended();
  assert.deepEqual(server.files.map(({ state }) => state), ["announced", "stored"]);
  desk.turn(desk.sends[0], "waiting", "");
  await desk.ended();
  assert.deepEqual(server.files.map(({ state }) => state), ["stored", "stored"]);
});

test("a form that failed for the moment is sent again when its files are known", async () => {
  const desk = new Desk();
  desk.add([item("a.txt")], false);
  let failures = 0;
  server.intercept = () => {
    failures += 1;
    return failures < 3 ? { status: 503, body: { detail: "The server is stopping." } } : null;
  };
  await desk.ended();
  const once = ["together", "retrying", "waiting"];
  assert.deepEqual(desk.of("a.txt"), ["waiting", ...once, ...once, "together", null]);
  assert.deepEqual(desk.turns.filter(([, sending]) => sending === "retrying")[0][2], "The server is stopping.");
  assert.ok(desk.renewed.length === 3 && desk.renewed.every((eventsMs) => eventsMs !== undefined));
  assert.equal(desk.retrying.trouble, "");
});

test("what the server refuses is not sent again", async () => {
  const desk = new Desk();
  desk.add([item("large.bin", MIB)], true);
  server.intercept = () => ({ status: 413, body: { detail: "Too large." } });
  await desk.ended();
  assert.deepEqual(desk.turns.at(-1), ["large.bin", "refused", "Too large."]);
  assert.deepEqual(desk.renewed, []);
  assert.equal(server.running, 0);
});

test("files whose session ended wait for the sign-in, and then go on", async (t) => {
  session.canAsk = true;
  t.after(() => { session.canAsk = false; });
  const desk = new Desk();
  desk.add([item("a.txt")], false);
  desk.add([item("large.bin", MIB)], true);
  let isSignedIn = false;
  server.intercept = () => (isSignedIn ? null : { status: 401, body: { code: "sign_in_required", detail: "Sign in first." } });
  session.addEventListener("needed", () => setTimeout(() => {
    assert.deepEqual(desk.sends.map(({ entry }) => entry?.sending), ["retrying", "retrying"]);
    isSignedIn = true;
    session.signedIn();
  }, 20), { once: true });
  await desk.ended();
  assert.ok(server.files.every(({ state }) => state === "stored"));
});

test("files whose sender does not want to sign in are held", async (t) => {
  session.canAsk = true;
  t.after(() => {
    session.signedIn();
    session.canAsk = false;
  });
  const desk = new Desk();
  desk.add([item("large.bin", MIB)], true);
  server.intercept = () => ({ status: 401, body: { code: "sign_in_required", detail: "Sign in first." } });
  session.addEventListener("needed", () => setTimeout(() => session.decline(), 20), { once: true });
  await desk.ended();
  assert.deepEqual(desk.of("large.bin"), ["waiting", "sending", "retrying", "refused"]);
});

test("a file that cannot be read any more is dropped, and the others of its form are sent again", async () => {
  const desk = new Desk();
  const gone = item("gone.txt");
  gone.file.slice = () => Object.assign(new Blob(), { arrayBuffer: () => Promise.reject(new DOMException("gone", "NotFoundError")) });
  desk.add([gone, item("a.txt")], false);
  let isFirst = true;
  server.intercept = () => {
    const answer = isFirst ? "break" : null;
    isFirst = false;
    return answer;
  };
  await desk.ended();
  assert.deepEqual(desk.dropped, ["gone.txt"]);
  const [{ state }, other] = server.files;
  assert.ok(["announced", "receiving"].includes(state), state); // its part may have begun when the form broke
  assert.equal(other.state, "stored");
});
