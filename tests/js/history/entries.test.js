import assert from "node:assert/strict";
import { test } from "node:test";

process.env.TZ = "America/New_York"; // before any date is made
const {
  beginOf, byDay, dayLabel, dayOf, endOf, firstDay, folderOf, inLocalTime, isNarrow, lastDay, matchText, queryOf, searchOf, stateText,
  timeText, toneOf,
} = await import("../../../static/js/history/entries.js");

const NOW = new Date("2026-11-28T15:00:00Z"); // 10:00 in New York

/** @param {Record<string, any>} [given] @returns {any} an entry */
function entry(given = {}) {
  const counts = { announced: 0, receiving: 0, aborted: 0, queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0, ...given.counts };
  const total = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const file = { id: "f", name: "a.csv", path: "run 7/a.csv", state: "succeeded", job_id: "j", error: null };
  return {
    id: "s", state: "settled", outcome: null, opened_at: "2026-11-28T14:00:00.000Z", settled_at: null, client: null, first_file: file,
    file_count: total, result_count: 0, match: null, aborted_as: { cancelled: 0, replaced: 0 }, ...given, counts,
  };
}

test("a settled submission says how many files ended how, and a single file its state", () => {
  assert.equal(stateText(entry({ counts: { succeeded: 5, failed: 1, aborted: 2, cancelled: 3 } })), "5 succeeded, 1 failed, 2 not sent, 3 cancelled");
  assert.equal(stateText(entry({ counts: { succeeded: 1200, failed: 1 } })), "1,200 succeeded, 1 failed");
  assert.equal(stateText(entry({ counts: { failed: 1 } })), "Failed");
  assert.equal(stateText(entry({ counts: { aborted: 1 } })), "Not sent");
  assert.equal(stateText(entry({ counts: {} })), "No file arrived");
});

test("uploads that were cancelled count as cancelled, and those that were sent again do not count", () => {
  const counts = { succeeded: 5, aborted: 4, cancelled: 1 };
  assert.equal(stateText(entry({ counts, aborted_as: { cancelled: 2, replaced: 1 } })), "5 succeeded, 1 not sent, 3 cancelled");
  assert.equal(stateText(entry({ counts, aborted_as: { cancelled: 2, replaced: 2 } })), "5 succeeded, 3 cancelled");
  assert.equal(stateText(entry({ counts: { aborted: 1 }, aborted_as: { cancelled: 1, replaced: 0 } })), "Cancelled");
  const again = entry({ counts: { succeeded: 1, aborted: 1 }, aborted_as: { cancelled: 0, replaced: 1 }, file_count: 1 });
  assert.equal(stateText(again), "Succeeded");
});

test("one under way says how far it is, and what failed so far", () => {
  assert.equal(stateText(entry({ state: "processing", counts: { succeeded: 5, failed: 1, running: 2 } })), "Being processed, 6 of 8 done, 1 failed");
  assert.equal(stateText(entry({ state: "open", counts: { announced: 4 } })), "Being sent, 0 of 4 done");
  assert.equal(stateText(entry({ state: "open", counts: {} })), "Nothing has arrived yet");
});

test("the colour is that of the outcome, or of what happens now", () => {
  const tones = [["settled", "succeeded"], ["settled", "failed"], ["settled", "cancelled"], ["settled", null], ["open", null], ["processing", null]];
  assert.deepEqual(tones.map(([state, outcome]) => toneOf(entry({ state, outcome }))), ["good", "bad", "quiet", "quiet", "sending", "working"]);
});

test("a folder is what comes before the name, if the path ends with it", () => {
  assert.equal(folderOf(entry().first_file), "run 7/");
  assert.equal(folderOf({ ...entry().first_file, path: "a.csv" }), "");
  assert.equal(folderOf({ ...entry().first_file, path: "odd" }), "");
});

test("where a text was found is said unless it is plain", () => {
  const first = entry().first_file;
  const other = { ...first, id: "g", name: "b.csv", path: "run 7/b\u202ecsv" };
  assert.equal(matchText(entry()), "");
  assert.equal(matchText(entry({ match: first })), "");
  assert.equal(matchText(entry({ match: { ...first, error: "no column" } })), "Found in run 7/a.csv: no column");
  assert.equal(matchText(entry({ match: other })), "Found in run 7/b⟨U+202E⟩csv");
  assert.equal(matchText(entry({ match: other, first_file: null })), "Found in run 7/b⟨U+202E⟩csv");
});

test("days are those of the person's clock", () => {
  const times = ["2026-11-28T05:30:00Z", "2026-11-28T05:00:00Z", "2026-11-28T04:59:59Z", "2026-11-01T12:00:00Z"];
  const groups = byDay(times.map((opened_at) => entry({ opened_at })));
  assert.deepEqual(groups.map(({ day, entries }) => [day, entries.length]), [["2026-11-28", 2], ["2026-11-27", 1], ["2026-11-01", 1]]);
  assert.deepEqual(byDay([]), []);
});

test("a day is called by its date, the last two by their names", () => {
  assert.equal(dayLabel("2026-11-28", NOW), "Today");
  assert.equal(dayLabel("2026-11-27", NOW), "Yesterday");
  assert.equal(dayLabel("2026-11-26", NOW), "Thursday, November 26");
  assert.equal(dayLabel("2025-11-26", NOW), "Wednesday, November 26, 2025");
  assert.equal(dayLabel("2026-11-30", new Date("2026-12-01T12:00:00Z")), "Yesterday");
});

test("a time is relative on the same day and while something runs, else the time of that day", () => {
  const recent = new Date(Date.now() - 3 * 60_000);
  const isToday = dayOf(recent) === dayOf(new Date()); // not in the three minutes after midnight
  if (isToday) assert.equal(timeText(entry({ opened_at: recent.toISOString() })), "3 minutes ago");
  const old = new Date(Date.now() - 3 * 86_400_000 - 1000).toISOString();
  assert.equal(timeText(entry({ opened_at: old, state: "processing" })), "3 days ago");
  assert.equal(timeText(entry({ opened_at: "2026-11-27T14:05:00Z" }), NOW).replace(/\s/, " "), "09:05");
});

test("an address and what it asks for lead to each other", () => {
  const asked = { q: "a & b=c", state: "failed", from: "2026-11-27", to: "", before: "9", after: "" };
  assert.equal(searchOf(asked), "?q=a+%26+b%3Dc&state=failed&from=2026-11-27&before=9");
  assert.deepEqual(queryOf(searchOf(asked)), asked);
  assert.equal(searchOf(queryOf("")), "");
  assert.equal(isNarrow(queryOf("?before=9")), false);
  for (const search of ["?q=abc", "?state=failed", "?from=2026-11-27", "?to=2026-11-27"]) assert.equal(isNarrow(queryOf(search)), true);
});

test("days are asked for as the times at which they begin and end here, and shown as days again", () => {
  assert.equal(beginOf("2026-11-27"), "2026-11-27T05:00:00.000Z");
  assert.equal(endOf("2026-11-27"), "2026-11-28T05:00:00.000Z");
  assert.equal(endOf("2026-11-01"), "2026-11-02T05:00:00.000Z"); // a day of 25 hours
  assert.equal(beginOf("2026-11-01"), "2026-11-01T04:00:00.000Z");
  for (const day of ["2026-11-27", "2026-11-01", "2026-03-08", "2026-12-31"]) {
    assert.equal(firstDay(beginOf(day)), day);
    assert.equal(lastDay(endOf(day)), day);
    assert.equal(firstDay(day), day);
    assert.equal(lastDay(day), day);
  }
  assert.deepEqual([beginOf(""), endOf(""), firstDay(""), lastDay("")], ["", "", "", ""]);
  const local = inLocalTime(queryOf("?from=2026-11-27&to=2026-11-27"));
  assert.deepEqual([local.from, local.to], ["2026-11-27T05:00:00.000Z", "2026-11-28T05:00:00.000Z"]);
  assert.deepEqual(inLocalTime(local), local);
});
