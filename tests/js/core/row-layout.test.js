// Which rows of a long list belong in the document.

import assert from "node:assert/strict";
import { test } from "node:test";

import { RowLayout } from "../../../static/js/core/row-layout.js";
import { Random } from "../random.js";

const keys = (/** @type {number} */ count) => Array.from({ length: count }, (_, number) => `k${number}`);

/** @param {number} count @param {(index: number) => string} [kind] */
function layoutOf(count, kind = () => "plain") {
  const layout = new RowLayout();
  layout.arrange(keys(count), keys(count).map((_, index) => kind(index)));
  return layout;
}

test("the rows in sight and some around them are in the document, however many there are", () => {
  const layout = layoutOf(10_000);
  layout.measure("k0", 40);
  assert.deepEqual(layout.range(0, 900, 18), { first: 0, end: 41 });
  assert.deepEqual(layout.range(200_000, 200_900, 18), { first: 4982, end: 5041 });
  assert.deepEqual(layout.range(399_100, 500_000, 18), { first: 9959, end: 10_000 });
  assert.equal(layout.top(10_000), 400_000);
});

test("above the list, below it and without rows there is no error", () => {
  const layout = layoutOf(100);
  layout.measure("k0", 40);
  assert.deepEqual(layout.range(-5000, -4000, 5), { first: 0, end: 6 });
  assert.deepEqual(layout.range(9000, 9900, 5), { first: 94, end: 100 });
  assert.deepEqual(new RowLayout().range(0, 900, 5), { first: 0, end: 0 });
  assert.equal(layoutOf(0).top(0), 0);
});

test("one row measured is expected of all of its kind; another height is that row's", () => {
  const layout = layoutOf(10, (index) => (index % 2 ? "high" : "low"));
  assert.equal(layout.measure("k0", 40), true);
  assert.equal(layout.measure("k1", 100), true);
  assert.equal(layout.top(10), 700);
  assert.equal(layout.measure("k2", 40), false, "as expected");
  assert.equal(layout.measure("k4", 240), true);
  assert.equal(layout.top(10), 900);
  assert.equal(layout.measure("k4", 0), false, "it is not displayed");
  assert.equal(layout.measure("gone", 10), false);
});

test("a row that becomes another kind has the height of that kind", () => {
  const layout = layoutOf(3, (index) => (index ? "low" : "high"));
  layout.measure("k0", 100);
  layout.measure("k1", 40);
  layout.measure("k2", 70);
  assert.equal(layout.top(3), 210);
  layout.change(2, "high");
  assert.equal(layout.top(3), 240);
  layout.change(2, "low");
  assert.equal(layout.top(3), 180, "what was measured of it before is over");
});

test("heights stay with their rows in another order, and are forgotten with another width", () => {
  const layout = layoutOf(3);
  layout.measure("k0", 40);
  layout.measure("k2", 140);
  layout.arrange(["k2", "k0"], ["plain", "plain"]);
  assert.deepEqual([layout.top(1), layout.top(2), layout.indexOf("k1"), layout.indexOf("k0"), layout.keyAt(0)], [140, 180, -1, 1, "k2"]);
  layout.forget();
  layout.measure("k0", 60);
  assert.equal(layout.top(2), 120);
});

test("the row at a height is the one whose top and end are around it", (t) => {
  const random = new Random(t);
  const layout = layoutOf(200);
  for (const key of keys(200)) layout.measure(key, 1 + random.below(300));
  for (let times = 0; times < 500; times += 1) {
    const y = random.below(layout.top(200));
    const index = layout.at(y);
    assert.ok(layout.top(index) <= y && y < layout.top(index + 1), `${y}`);
  }
});
