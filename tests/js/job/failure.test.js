// Why a job failed, in the script's words and in a plain sentence.

import assert from "node:assert/strict";
import { test } from "node:test";

import { sentenceOf, wordsOf } from "../../../static/js/job/failure.js";

/** @param {string} type @param {string} message @param {number | null} [code] @returns {[string, string]} */
const told = (type, message, code = null) => [wordsOf({ type, message }), sentenceOf({ type, message }, code)];

test("what the script said comes first, and how it ended is a sentence", () => {
  assert.deepEqual(told("ValueError", "cannot read\nline 2\u202e"), ["cannot read\nline 2\u27e8U+202E\u27e9", "The script raised ValueError."]);
  assert.deepEqual(told("SystemExit", "The file has no column size."), ["The file has no column size.", "With these words the script stopped."]);
  assert.deepEqual(told("exit_code", "no space left", 2), ["no space left", "The script printed this last, then ended with exit code 2."]);
});

test("a script that said nothing has no words put into its mouth", () => {
  assert.deepEqual(told("exit_code", "exited with code 3", 3), ["", "The script printed no reason and ended with exit code 3."]);
  assert.deepEqual(told("KeyError", ""), ["", "The script raised KeyError."]);
  assert.deepEqual([wordsOf(null), sentenceOf(null, null)], ["", "The script gave no reason."]);
});

test("what the server found is its own sentence", () => {
  assert.deepEqual(told("signal", "killed by SIGKILL (signal 9)", -9), ["", "The script was ended from outside: killed by SIGKILL (signal 9)."]);
  assert.deepEqual(told("out_of_memory", "used more than 1 GiB of memory (--memory)"), ["", "The script used more than 1 GiB of memory (--memory)."]);
  assert.deepEqual(told("lost", "x")[0], "");
});

test("a type called like a property of all objects is the script's own", () => {
  assert.deepEqual(told("constructor", "words"), ["words", "The script raised constructor."]);
});
