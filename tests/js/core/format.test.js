// Numbers, sizes, times and names as text.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ago, bytes, clientText, count, counted, duration, elapsed, exactTime, exitText, percent, queuePosition, roughly, visible,
} from "../../../static/js/core/format.js";

test("sizes are in binary units, with three significant digits", () => {
  const texts = [0, 1, 1023, 1024, 1536, 1023 * 1024, 200 * 1024 ** 2, 1.25 * 1024 ** 3, 5 * 1024 ** 6].map(bytes);
  assert.deepEqual(texts, ["0 bytes", "1 byte", "1,023 bytes", "1 KiB", "1.5 KiB", "1,023 KiB", "200 MiB", "1.25 GiB", "5,120 PiB"]);
});

test("100 % is shown only for the whole", () => {
  assert.deepEqual([0, 0.999999, 1, 1.5].map(percent), ["0 %", "99 %", "100 %", "100 %"]);
});

test("durations have the precision that their length deserves", () => {
  const texts = [0, 0.0004, 0.0994, 0.1, 9.96, 59.4, 59.6, 3599.4, 3599.6, 90_061].map(duration);
  assert.deepEqual(texts, ["1 ms", "1 ms", "99 ms", "0.1 s", "10.0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "25 h 1 min"]);
});

test("a running time counts whole seconds and never runs ahead", () => {
  assert.deepEqual([0.99, 59.9, 60, 119.9].map(elapsed), ["0 s", "59 s", "1 min 0 s", "1 min 59 s"]);
});

test("estimates are rounded", () => {
  const texts = [0, 9.9, 14, 89, 90, 5399, 5400, 86_400].map(roughly);
  assert.deepEqual(texts, [
    "a few seconds left", "a few seconds left", "about 10 s left", "about 90 s left", "about 2 min left", "about 90 min left",
    "about 2 h left", "about 24 h left",
  ]);
});

test("a queue position is an English ordinal", () => {
  const texts = [1, 2, 3, 10, 11, 12, 13, 21, 22, 23, 111, 1001].map(queuePosition);
  assert.deepEqual(texts, ["next", "2nd", "3rd", "10th", "11th", "12th", "13th", "21st", "22nd", "23rd", "111th", "1,001st"]
    .map((word) => `${word} in the queue`));
});

test("one is singular", () => {
  assert.deepEqual([counted(0, "file"), counted(1, "file"), counted(10_000, "file"), counted(2, "entry", "entries"), count(1e6)],
    ["0 files", "1 file", "10,000 files", "2 entries", "1,000,000"]);
});

test("the past is told in its largest unit, and a clock that is ahead does not show the future", (t) => {
  t.mock.method(Date, "now", () => Date.parse("2026-03-10T12:00:00Z"));
  const texts = ["2026-03-10T12:00:05Z", "2026-03-10T11:59:01Z", "2026-03-10T11:58:59Z", "2026-03-10T09:00:00Z", "2026-03-09T11:00:00Z", "2026-02-08T12:00:00Z"].map(ago);
  assert.deepEqual(texts, ["just now", "just now", "1 minute ago", "3 hours ago", "yesterday", "30 days ago"]);
});

test("times are shown in UTC whatever their offset", () => {
  assert.equal(exactTime("2026-11-20T14:02:07.412+02:00"), "2026-11-20 12:02:07.412 UTC");
});

test("a negative exit code is a signal", () => {
  assert.deepEqual([exitText(3), exitText(-9)], ["exit 3", "signal 9"]);
});

test("characters that hide or turn text are made visible, and no others", () => {
  assert.equal(visible("a\nb\x7f\u202ec\u200bé"), "a\u240ab\u2421\u27e8U+202E\u27e9c\u27e8U+200B\u27e9é");
  assert.equal(visible("\u0000\u001f"), "\u2400\u241f");
  assert.equal(visible("\u2028\u{e0001}"), "\u27e8U+2028\u27e9\u27e8U+E0001\u27e9");
  const harmless = "Größe 写真 🙂 שלום";
  assert.equal(visible(harmless), harmless);
});

test("a client is its address, with the host name if there is one", () => {
  assert.deepEqual([clientText({ ip: "10.0.0.7", host: "pc7.lab" }), clientText({ ip: "10.0.0.7", host: null }), clientText(null)], ["10.0.0.7 pc7.lab", "10.0.0.7", ""]);
});
