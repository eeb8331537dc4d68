// Which files the list shows, and in which order.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { Arrangement, FILTER_STATES, countOf, filterOf } from "../../../static/js/submission/arrange.js";
import { noCounts } from "../../../static/js/submission/model.js";

/** @param {string} path @param {Record<string, any>} [more] @returns {any} an entry of the model */
const entry = (path, more = {}) => ({ path, upload: "stored", size: 1, received: 1, sending: null, isBroken: false, isStalled: false, job: null, ...more });

/** @param {string} state @param {number | null} [duration] */
const job = (state, duration = null) => ({ job: { state, duration } });

/** @param {any[]} entries @param {Partial<Arrangement>} how */
const shown = (entries, how) => Object.assign(new Arrangement(), how).of(entries).map(({ path }) => path);

test("each state of a file is in exactly one filter", () => {
  assert.deepEqual(Object.values(FILTER_STATES).flat().sort(), Object.keys(noCounts()).sort());
  assert.equal(filterOf(entry("a", job("cancelled"))), "cancelled", "neither failed nor succeeded");
  assert.equal(countOf({ ...noCounts(), failed: 2, aborted: 1, running: 7 }, "failed", 10), 3);
  assert.equal(countOf(noCounts(), "all", 10), 10);
});

test("a search finds a part of the path, whatever its case and however its letters are stored", () => {
  const entries = ["Bilder/Größe.png", "notes.txt", "gro\u0308ße/x"].map((path) => entry(path));
  assert.deepEqual(shown(entries, { query: " GRÖ " }), ["Bilder/Größe.png", "gro\u0308ße/x"]);
  assert.deepEqual(shown(entries, { query: "" }).length, 3);
  assert.deepEqual(shown([...entries, entry("grö.txt", job("failed"))], { query: "grö", filter: "failed" }), ["grö.txt"]);
});

test("names are in natural order, and equal ones in the submission's", () => {
  const entries = ["b10.txt", "b9.txt", "a2/x", "a10/x"].map((path) => entry(path));
  assert.deepEqual(shown(entries, { sort: "name" }), ["a2/x", "a10/x", "b9.txt", "b10.txt"]);
  assert.deepEqual(shown(entries, { sort: "sent" }), ["b10.txt", "b9.txt", "a2/x", "a10/x"]);
  assert.deepEqual(shown(entries, { sort: "size" }), ["b10.txt", "b9.txt", "a2/x", "a10/x"]);
  assert.deepEqual(shown(entries, { sort: "name", query: "b" }), ["b9.txt", "b10.txt"]);
});

test("the order by name follows entries that come", () => {
  const arrangement = Object.assign(new Arrangement(), { sort: "name" });
  const entries = [entry("b"), entry("c")];
  arrangement.of(entries);
  entries.push(entry("a"));
  arrangement.forget();
  assert.deepEqual(arrangement.of(entries).map(({ path }) => path), ["a", "b", "c"]);
});

test("the largest, the longest and the failed files come first when asked for", () => {
  const entries = [
    entry("small", { size: 1, ...job("succeeded", 1) }), entry("unknown", { size: null }), entry("large", { size: 9, ...job("failed", 5) }),
    entry("stopped", { size: 2, ...job("cancelled", 7) }), entry("broken", { size: 2, upload: "aborted" }),
  ];
  assert.deepEqual(shown(entries, { sort: "size" }), ["large", "stopped", "broken", "small", "unknown"]);
  assert.deepEqual(shown(entries, { sort: "duration" }).slice(0, 3), ["stopped", "large", "small"]);
  assert.deepEqual(shown(entries, { sort: "failed" }), ["large", "broken", "stopped", "unknown", "small"]);
});

test("10,000 files are arranged within a moment", () => {
  const entries = Array.from({ length: 10_000 }, (_, number) => entry(`folder/${(number * 7919) % 10_000}.txt`));
  const arrangement = Object.assign(new Arrangement(), { sort: "name" });
  arrangement.of(entries);
  const before = performance.now();
  for (let times = 0; times < 20; times += 1) arrangement.of(entries);
  assert.ok(performance.now() - before < 50, "names are sorted once, not for each drawing");
});
