// Files that a person picks again.

import assert from "node:assert/strict";
import { test } from "node:test";

import "../browser.js";
import { fingerprintOf } from "../../../static/js/upload/fingerprint.js";
import { recognise } from "../../../static/js/upload/recognise.js";

/** @param {string} path @param {string} content @param {number} [lastModified] */
const item = (path, content, lastModified = 1000) => ({ path, file: new File([content], path.slice(path.lastIndexOf("/") + 1), { lastModified }) });

/**
 * @param {ReturnType<typeof item>} from
 * @param {object} [fields]
 * @returns {Promise<any>} as much of an entry as is asked for
 */
const entry = async ({ path, file }, fields = {}) => ({ id: path, path, size: file.size, received: 1, fingerprint: await fingerprintOf(file), ...fields });

/** @param {any} found */
const names = ({ same, changed, stored, other }) => ({
  same: same.map((/** @type {any} */ [{ path }, { id }]) => [path, id]), changed: changed.map((/** @type {any} */ [{ path }, { id }]) => [path, id]),
  stored: stored.map((/** @type {any} */ { path }) => path), other: other.map((/** @type {any} */ { path }) => path),
});
const nothing = { same: [], changed: [], stored: [], other: [] };
const unknown = () => undefined;

test("a file is recognised by its content, whatever it is called and wherever it lies", async () => {
  const wanted = [await entry(item("folder/a.txt", "one")), await entry(item("folder/b.txt", "two"))];
  const found = await recognise([item("renamed.txt", "two"), item("a.txt", "one")], wanted, [], unknown);
  assert.deepEqual(names(found), { ...nothing, same: [["a.txt", "folder/a.txt"], ["renamed.txt", "folder/b.txt"]] });
});

test("of files with the same content, each goes to its own row", async () => {
  const wanted = [await entry(item("x/1.txt", "same")), await entry(item("x/2.txt", "same")), await entry(item("y/2.txt", "same"))];
  const found = await recognise([item("y/2.txt", "same"), item("x/2.txt", "same"), item("x/1.txt", "same"), item("more.txt", "same")], wanted, [], unknown);
  assert.deepEqual(names(found), { ...nothing, same: [["y/2.txt", "y/2.txt"], ["x/2.txt", "x/2.txt"], ["x/1.txt", "x/1.txt"]], other: ["more.txt"] });
});

test("another content under the same name is a change, under another name it is another file", async () => {
  const wanted = [await entry(item("folder/a.txt", "one"))];
  assert.deepEqual(names(await recognise([item("folder/a.txt", "new")], wanted, [], unknown)), { ...nothing, changed: [["folder/a.txt", "folder/a.txt"]] });
  assert.deepEqual(names(await recognise([item("a.txt", "longer")], wanted, [], unknown)), { ...nothing, changed: [["a.txt", "folder/a.txt"]] });
  assert.deepEqual(names(await recognise([item("other/a.txt", "new")], wanted, [], unknown)), { ...nothing, other: ["other/a.txt"] });
  assert.deepEqual(names(await recognise([item("b.txt", "new")], wanted, [], unknown)), { ...nothing, other: ["b.txt"] });
});

test("a file with a newer date does not go on, as its middle may have changed; one of which nothing has arrived may", async () => {
  const begun = [await entry(item("a.txt", "one"))];
  const untouched = [await entry(item("a.txt", "one"), { received: 0 })];
  const newer = item("a.txt", "one", 2000);
  assert.deepEqual(names(await recognise([newer], begun, [], () => 1000)), { ...nothing, changed: [["a.txt", "a.txt"]] });
  assert.deepEqual(names(await recognise([newer], begun, [], unknown)), { ...nothing, same: [["a.txt", "a.txt"]] });
  assert.deepEqual(names(await recognise([newer], untouched, [], () => 1000)), { ...nothing, same: [["a.txt", "a.txt"]] });
});

test("a file that another client announced is taken by name and size, if nothing of it has arrived", async () => {
  const announced = [await entry(item("a.txt", "one"), { fingerprint: null, received: 0 })];
  const begun = [await entry(item("a.txt", "one"), { fingerprint: null })];
  assert.deepEqual(names(await recognise([item("a.txt", "one")], announced, [], unknown)).same, [["a.txt", "a.txt"]]);
  assert.deepEqual(names(await recognise([item("b.txt", "one")], announced, [], unknown)).other, ["b.txt"]);
  assert.deepEqual(names(await recognise([item("a.txt", "one")], begun, [], unknown)).changed, [["a.txt", "a.txt"]]);
});

test("what the server has already is not sent again", async () => {
  const stored = [await entry(item("folder/a.txt", "one"))];
  const found = await recognise([item("folder/a.txt", "one"), item("folder/b.txt", "one"), item("folder/a.txt", "new")], [], stored, unknown);
  assert.deepEqual(names(found), { ...nothing, stored: ["folder/a.txt"], other: ["folder/b.txt", "folder/a.txt"] });
});
