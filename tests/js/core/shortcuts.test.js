import assert from "node:assert/strict";
import { test } from "node:test";

import { keyCaps } from "../../../static/js/core/shortcuts.js";

test("keys are shown as they are written on a keyboard", () => {
  assert.deepEqual(keyCaps("/"), ["/"]);
  assert.deepEqual(keyCaps("?"), ["?"]);
  assert.deepEqual(keyCaps("Control+S"), ["Ctrl", "S"]);
  assert.deepEqual(keyCaps("ArrowDown"), ["↓"]);
});

test("of several ways to press a shortcut the first is shown", () => {
  assert.deepEqual(keyCaps("Control+Enter Meta+Enter"), ["Ctrl", "Enter"]);
});
