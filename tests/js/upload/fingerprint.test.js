// By what a file is recognised.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import "../browser.js";
import { fingerprintOf } from "../../../static/js/upload/fingerprint.js";

const KIB = 1024;

/** @param {Uint8Array<ArrayBuffer> | string} content */
const file = (content) => new File([content], "name");

/** As docs/api.md says it. @param {Uint8Array} content */
function expected(content) {
  const parts = [new TextEncoder().encode(`${content.length}\n`), content.subarray(0, 64 * KIB), content.subarray(Math.max(0, content.length - 64 * KIB))];
  return createHash("sha256").update(new Uint8Array(parts.flatMap((part) => [...part]))).digest("hex");
}

test("the examples of the documentation", async () => {
  assert.equal(await fingerprintOf(file("")), "9a271f2a916b0b6ee6cecb2426f0b3206ef074578be55d9bc94f6f3fe3ab86aa");
  assert.equal(await fingerprintOf(file("abc")), "1e0ff07aca747fe26f9e2feaf98eef590f2bc17afae5e626e398712920643055");
});

test("size, beginning and end count, whatever the size", async () => {
  for (const size of [1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, 128 * KIB + 1, 1000 * KIB]) {
    const content = new Uint8Array(size).map((_, index) => index % 251);
    assert.equal(await fingerprintOf(file(content)), expected(content), `${size} bytes`);
  }
});

test("a page without crypto.subtle computes the same", async (t) => {
  const { crypto } = globalThis;
  Object.defineProperty(globalThis, "crypto", { value: {}, configurable: true });
  t.after(() => Object.defineProperty(globalThis, "crypto", { value: crypto, configurable: true }));
  const content = new Uint8Array(200 * KIB).map((_, index) => index % 251);
  assert.equal(await fingerprintOf(file(content)), expected(content));
});

test("a file is read once, and one that cannot be read has none until it can", async () => {
  const one = file("abc");
  let reads = 0;
  const { arrayBuffer } = one;
  one.arrayBuffer = async () => {
    reads += 1;
    if (reads === 1) throw new Error("NotReadableError");
    return arrayBuffer.call(one);
  };
  assert.equal(await fingerprintOf(one), null);
  assert.equal(await fingerprintOf(one), await fingerprintOf(file("abc")));
  await fingerprintOf(one);
  assert.equal(reads, 2);
});
