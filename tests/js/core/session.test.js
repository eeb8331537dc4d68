// What waits for a person to sign in again.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Problem, callJson } from "../../../static/js/core/api.js";
import { needsSignIn, session } from "../../../static/js/core/session.js";

const SIGN_IN = JSON.stringify({ code: "sign_in_required", detail: "Sign in first." });
let asked = 0;
session.addEventListener("needed", () => { asked += 1; });

beforeEach(() => {
  session.canAsk = true;
  session.ask();
  session.signedIn();
  asked = 0;
});

/**
 * A server that knows nobody until `isSignedIn`.
 * @param {import("node:test").TestContext} t
 */
function serverOf(t) {
  const server = { isSignedIn: false, requests: 0 };
  t.mock.method(globalThis, "fetch", async () => {
    server.requests += 1;
    return server.isSignedIn ? new Response('{"ok": true}') : new Response(SIGN_IN, { status: 401 });
  });
  return server;
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a refused request waits for the sign-in, and is sent again", async (t) => {
  const server = serverOf(t);
  const answers = Promise.all([callJson("GET", "/one"), callJson("PUT", "/two", { draft: 1 })]);
  await settled();
  assert.deepEqual([asked, session.isNeeded, server.requests], [1, true, 2], "the person is asked once for all that waits");
  server.isSignedIn = true;
  session.signedIn();
  assert.deepEqual(await answers, [{ ok: true }, { ok: true }]);
  assert.deepEqual([session.isNeeded, server.requests], [false, 4]);
});

test("who does not want to sign in now gets the refusal, and is not asked again by the next request", async (t) => {
  const server = serverOf(t);
  const answer = callJson("GET", "/one");
  await settled();
  session.decline();
  await assert.rejects(answer, (error) => error instanceof Problem && error.status === 401);
  await assert.rejects(callJson("GET", "/two"), (error) => error instanceof Problem && error.status === 401);
  assert.deepEqual([asked, session.isNeeded], [1, true]);
  session.ask();
  const later = callJson("GET", "/three");
  await settled();
  server.isSignedIn = true;
  session.signedIn();
  assert.deepEqual(await later, { ok: true });
});

test("a 401 without a body is one, too: HEAD has none", () => {
  assert.deepEqual([[401, ""], [401, SIGN_IN], [401, '{"code": "wrong_credentials"}'], [403, ""]].map(([status, text]) => needsSignIn(Problem.from(Number(status), String(text)))), [true, true, false, false]);
});

test("what was sent before a sign-in and is refused after it is sent again without a question", async (t) => {
  const server = serverOf(t);
  /** @type {(answer: Response) => void} */
  let answerFirst = () => {};
  t.mock.method(globalThis, "fetch", () => (server.isSignedIn ? Promise.resolve(new Response('{"ok": true}')) : new Promise((resolve) => { answerFirst = resolve; })));
  const answer = callJson("GET", "/one");
  session.ask();
  server.isSignedIn = true;
  session.signedIn();
  asked = 0;
  answerFirst(new Response(SIGN_IN, { status: 401 }));
  assert.deepEqual([await answer, asked], [{ ok: true }, 0]);
});

test("an aborted request waits no longer", async (t) => {
  serverOf(t);
  const asking = new AbortController();
  const answer = callJson("GET", "/one", undefined, asking.signal);
  await settled();
  asking.abort();
  await assert.rejects(answer, (error) => error instanceof Problem && error.status === 401);
});

test("a wrong password, and a page that cannot ask, get their answer at once", async (t) => {
  t.mock.method(globalThis, "fetch", async () => new Response('{"code": "wrong_credentials"}', { status: 401 }));
  await assert.rejects(callJson("POST", "/session", {}), (error) => error instanceof Problem && error.body.code === "wrong_credentials");
  serverOf(t);
  session.canAsk = false;
  await assert.rejects(callJson("GET", "/one"), (error) => error instanceof Problem && error.status === 401);
  assert.equal(asked, 0);
});
