// Calls of the HTTP API.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Problem, call, callJson, furtherFiles } from "../../../static/js/core/api.js";

/** @param {import("node:test").TestContext} t @param {(address: string, options: any) => Response | Promise<Response>} answer */
const answerWith = (t, answer) => t.mock.method(globalThis, "fetch", async (/** @type {string} */ address, /** @type {any} */ options) => answer(address, options));

test("a problem says its detail, else its title, else its status", () => {
  const messages = [
    Problem.from(409, '{"detail": "The job has ended.", "title": "T"}'), Problem.from(409, '{"title": "Not possible"}'),
    Problem.from(502, "<html>Bad Gateway"), Problem.from(500, ""),
  ].map(({ message }) => message);
  assert.deepEqual(messages, ["The job has ended.", "Not possible", "The server answered 502.", "The server answered 500."]);
});

test("a body that is JSON but no object is no crash", () => {
  assert.equal(Problem.from(500, '"text"').message, "The server answered 500.");
  assert.equal(Problem.from(500, "null").message, "The server answered 500.");
});

test("an answer from 400 on is thrown with its document", async (t) => {
  answerWith(t, () => new Response('{"code": "not_found", "detail": "There is no such job."}', { status: 404 }));
  await assert.rejects(call("GET", "/jobs/x"), (error) => error instanceof Problem && error.status === 404 && error.body.code === "not_found");
});

test("a server that cannot be reached is a problem with status 0", async (t) => {
  answerWith(t, () => { throw new TypeError("fetch failed"); });
  await assert.rejects(call("GET", "/jobs/x"), (error) => error instanceof Problem && error.status === 0);
});

test("JSON goes both ways, and an empty answer is null", async (t) => {
  const fetched = answerWith(t, (_, options) => new Response(options.method === "POST" ? options.body : ""));
  assert.deepEqual(await callJson("POST", "/x", { name: "ü" }), { name: "ü" });
  assert.equal(await callJson("DELETE", "/x"), null);
  const [post, remove] = fetched.mock.calls.map(({ arguments: [address, options] }) => ({ address, ...options }));
  assert.deepEqual([post.address, post.headers], ["/api/v1/x", { Accept: "application/json", "Content-Type": "application/json" }]);
  assert.deepEqual([remove.body, remove.headers], [undefined, { Accept: "application/json" }]);
});

test("every page of files is read, with its cursor encoded", async (t) => {
  const pages = [{ items: [1], next: "b&c" }, { items: [2, 3], next: null }];
  const fetched = answerWith(t, () => new Response(JSON.stringify(pages.shift())));
  const found = [];
  for await (const files of furtherFiles({ id: "s", files: [0], files_next: "a" })) found.push(...files);
  assert.deepEqual(found, [1, 2, 3]);
  assert.deepEqual(fetched.mock.calls.map(({ arguments: [address] }) => address.split("before=")[1]), ["a", "b%26c"]);
});
