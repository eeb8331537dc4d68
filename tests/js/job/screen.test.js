// What a terminal would show of an output stream.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { Screen } from "../../../static/js/job/screen.js";

const RECORDED = new URL("../../processing/recorded/", import.meta.url);

/** @param {string[]} pieces @returns {{text: string, longest: number}} the text in the end, and its greatest length ever */
function shown(pieces) {
  const screen = new Screen();
  let longest = 0;
  for (const piece of pieces) {
    screen.write(piece);
    longest = Math.max(longest, screen.text.length);
  }
  return { text: screen.text, longest };
}

/** @param {string} text @param {number} size @returns {string[]} */
const cut = (text, size) => Array.from({ length: Math.ceil(text.length / size) }, (_, index) => text.slice(index * size, (index + 1) * size));

for (const size of [1, 5, 10_000]) {
  test(`redrawn lines replace each other in pieces of ${size}`, async () => {
    for (const [tool, lines] of /** @type {const} */ ([["tqdm", 2], ["curl_bar", 1]])) {
      const { text, longest } = shown(cut(await readFile(new URL(`${tool}.txt`, RECORDED), "utf8"), size));
      const found = text.trimEnd().split("\n");
      assert.equal(found.length, lines, text);
      assert.match(found[found.length - 1], /100/);
      assert.ok(longest < 400, String(longest));
    }
    const counter = Array.from({ length: 9999 }, (_, number) => `\r${number} of 9999`).join("");
    const { text, longest } = shown(cut(counter, size * 100));
    assert.equal(text, "9998 of 9999");
    assert.ok(longest < 30, String(longest));
  });
}

test("line ends of Windows are line ends, also when a piece ends between their characters", () => {
  assert.equal(shown(["one\r\ntwo\r", "\nthree\r\n"]).text, "one\ntwo\nthree\n");
});

test("colours, titles and cursor movements leave no text", () => {
  assert.equal(shown(["\x1b[31mred\x1b[0m \x1b]0;title\x07<b>\x1b[2J"]).text, "red <b>");
});

test("a trailing carriage return keeps the line until it is overwritten", () => {
  assert.equal(shown(["50 %\r"]).text, "50 %");
  assert.equal(shown(["50 %\r", "60"]).text, "60");
});

for (const end of ["", "\n"]) {
  test(`a flood of lines that end with ${JSON.stringify(end)} is bounded and shows its end`, () => {
    const { text, longest } = shown(Array.from({ length: 200 }, (_, number) => String(number).padStart(6, "0") + "x".repeat(9994) + end));
    assert.match(text, /000199xxx/);
    assert.ok(longest < 500_000, String(longest));
    if (end) assert.match(text.slice(0, 7), /^\d{6}x$/, "the first line is whole");
  });
}

test("nothing written is nothing shown", () => {
  assert.equal(shown([]).text, "");
  assert.equal(shown(["", ""]).text, "");
});
