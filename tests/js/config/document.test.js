// The config being edited, while others save.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import "../browser.js";
import { Problem } from "../../../static/js/core/api.js";
import { ConfigDocument } from "../../../static/js/config/document.js";

const sha = (/** @type {number} */ number) => String(number).repeat(64);

/** What the server holds, and how it answers. */
const server = {
  text: "a: 1\r\n",
  number: 1,
  tag: (/** @type {string} */ etag) => etag,
  /** @type {any[]} */
  puts: [],
  isAway: false,
};

/** @param {string} text someone else saves it */
function othersSave(text) {
  server.text = text;
  server.number += 1;
}

/** @type {ConfigDocument} */
let config;
/** @type {[string, any][]} */
let heard;

beforeEach(() => {
  Object.assign(server, { text: "a: 1\r\n", number: 1, tag: (/** @type {string} */ etag) => etag, puts: [], isAway: false });
  globalThis.fetch = async (_, options = {}) => {
    if (server.isAway) throw new TypeError("away");
    const headers = /** @type {Record<string, string>} */ (options.headers);
    const etag = `"${sha(server.number)}"`;
    if (options.method === "GET") return new Response(server.text, { headers: { ETag: server.tag(etag) } });
    server.puts.push({ body: new TextDecoder("utf-8", { ignoreBOM: true }).decode(/** @type {Uint8Array} */ (options.body)), headers });
    if (headers["If-Match"] !== etag) {
      return new Response(JSON.stringify({ code: "config_conflict", current_etag: etag, current: server.text }), { status: 412 });
    }
    othersSave(server.puts[server.puts.length - 1].body);
    return new Response(JSON.stringify({ sha256: sha(server.number) }), { headers: { ETag: `"${sha(server.number)}"` } });
  };
  config = new ConfigDocument();
  /** @type {[string, any][]} */
  const own = [];
  heard = own; // what the document of an earlier test still dispatches goes to its own list
  for (const type of ["saved", "newer", "conflict", "focus"]) {
    config.addEventListener(type, (event) => own.push([type, /** @type {CustomEvent} */ (event).detail]));
  }
});

test("a save writes the file's own line ends and names the revision it replaces", async () => {
  await config.load();
  assert.deepEqual([config.text, config.isUnsaved], ["a: 1\n", false]);
  config.replaceText("a: 1\nb: 2\n");
  assert.equal(config.isUnsaved, true);
  await config.save("größer ✓");
  assert.deepEqual([server.puts[0].body, server.puts[0].headers["If-Match"]], ["a: 1\r\nb: 2\r\n", `"${sha(1)}"`]);
  const message = Uint8Array.from(server.puts[0].headers["Dropmill-Message"], (/** @type {string} */ one) => one.charCodeAt(0));
  assert.equal(new TextDecoder().decode(message), "größer ✓");
  assert.deepEqual([heard.map(([type]) => type), config.isUnsaved, config.etag], [["saved"], false, `"${sha(2)}"`]);
});

test("a weak or coded entity tag is used as the plain one", async () => {
  for (const change of [(/** @type {string} */ etag) => `W/${etag}`, (/** @type {string} */ etag) => etag.replace(/"$/, '-gzip"')]) {
    server.tag = change;
    await config.load();
    assert.equal(config.etag, `"${sha(1)}"`);
  }
});

test("without edits there is nothing to save", async () => {
  await config.load();
  await config.save();
  assert.equal(server.puts.length, 0);
});

test("a save never overwrites someone else's", async () => {
  await config.load();
  config.replaceText("mine: 1\n");
  othersSave("theirs: 1\n");
  await config.save();
  assert.deepEqual(heard.map(([type, { text }]) => [type, text]), [["conflict", "theirs: 1\n"]]);
  assert.deepEqual([server.text, config.text, config.isUnsaved], ["theirs: 1\n", "mine: 1\n", true]);
});

test("what is typed during a save stays, unsaved", async () => {
  await config.load();
  config.replaceText("a: 2\n");
  const saving = config.save();
  assert.equal(config.isSaving, true);
  config.replaceText("a: 23\n");
  await config.save();
  await saving;
  assert.equal(server.puts.length, 1, "one save at a time");
  assert.deepEqual([server.text, config.text, config.isUnsaved, config.isSaving], ["a: 2\r\n", "a: 23\n", true, false]);
});

test("a document without edits follows the others", async () => {
  await config.load();
  othersSave("theirs: 2\n");
  await config.follow();
  assert.deepEqual([heard.map(([type]) => type), config.text, config.isUnsaved], [["newer"], "theirs: 2\n", false]);
  await config.follow();
  assert.equal(heard.length, 1, "the same revision is no news");
});

test("a document with edits reports the conflict and keeps them", async () => {
  await config.load();
  config.replaceText("mine: 1\n");
  othersSave("theirs: 2\n");
  await config.follow();
  assert.deepEqual([heard.map(([type]) => type), config.text], [["conflict"], "mine: 1\n"]);
});

test("its own save is no news, even if the event comes during the save", async () => {
  await config.load();
  config.replaceText("a: 2\n");
  await Promise.all([config.save(), config.follow()]);
  await config.follow();
  assert.deepEqual(heard.map(([type]) => type), ["saved"]);
});

test("an answer that was read before a save does not bring the older revision back", async (t) => {
  await config.load();
  const fetched = globalThis.fetch;
  /** @type {() => void} */
  let release = () => {};
  let isHeld = true;
  globalThis.fetch = async (address, options) => {
    const answer = await fetched(address, options);
    if (options?.method === "GET" && isHeld) {
      isHeld = false;
      await new Promise((/** @type {(_: void) => void} */ resolve) => { release = resolve; });
    }
    return answer;
  };
  t.after(() => { globalThis.fetch = fetched; });
  const following = config.follow();
  await new Promise((resolve) => { setTimeout(resolve, 5); });
  config.replaceText("a: 2\n");
  await config.save();
  release();
  await following;
  assert.deepEqual([config.text, config.etag, heard.map(([type]) => type)], ["a: 2\n", `"${sha(2)}"`, ["saved"]]);
});

test("a server that is away delays following and fails a save, without losing the text", async () => {
  await config.load();
  config.replaceText("mine: 1\n");
  server.isAway = true;
  await config.follow();
  await assert.rejects(config.save(), (error) => error instanceof Problem && error.status === 0);
  assert.deepEqual([config.text, config.isUnsaved, config.isSaving], ["mine: 1\n", true, false]);
});

test("a merge is based on their revision and remains to be saved", async () => {
  await config.load();
  config.replaceText("mine: 1\n");
  othersSave("theirs: 2\n");
  await config.follow();
  config.adopt(heard[0][1], "theirs: 2\nmine: 1\n");
  assert.equal(config.isUnsaved, true);
  await config.save();
  assert.equal(server.text, "theirs: 2\nmine: 1\n");
});

test("nothing is followed before the first load", async () => {
  await config.follow();
  assert.deepEqual([heard, config.isUnsaved], [[], false]);
});

test("a config that is not UTF-8 cannot be loaded", async (t) => {
  t.mock.method(globalThis, "fetch", async () => new Response(new Uint8Array([0xff, 0xfe])));
  await assert.rejects(config.load(), TypeError);
  assert.equal(config.isLoaded, false);
});
