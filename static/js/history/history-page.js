// /history: the list, filtered as the person types, and kept up to date.

import "../frame/frame-page.js";
import { callJson } from "../core/api.js";
import { api, base } from "../core/base.js";
import { shownCounts } from "../core/counts.js";
import { clientText, exactTime, visible } from "../core/format.js";
import { LivePage } from "../core/live-page.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, paced, part, setChildren, setText } from "../core/page.js";
import { released } from "../core/press.js";
import { pageData } from "../core/page-data.js";
import {
  TEXT_MIN, beginOf, byDay, dayLabel, doneOf, endOf, firstDay, folderOf, inLocalTime, isNarrow, lastDay, matchText, queryOf,
  searchOf, stateText, timeText, toneOf,
} from "./entries.js";

/** @typedef {import("./entries.js").Entry} Entry */
/** @typedef {import("./entries.js").HistoryPage} HistoryPage */
/** @typedef {import("./entries.js").Query} Query */

const TYPING_MS = 300; // after the last key: shorter asks for halves of words, longer is felt
const REFRESH_MS = 1000; // at most one update a second, however much happens
const CLOCK_MS = 30_000; // how often "5 minutes ago" is looked at

const { limit, running_limit: runningLimit, cursor, topic, is_refused: isRefused, ...first } = pageData();
const root = part(document, "history");
const form = /** @type {HTMLFormElement} */ (part(root, "search"));
const field = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name));

/** @type {Query} */
let query = queryOf(location.search);
/** @type {{running: HistoryPage | null, page: HistoryPage}} */
let shown = first.shown;
/** @type {Map<string, HTMLElement>} rows by the submission's id */
const rows = new Map();

// --- drawing -----------------------------------------------------------------------------------------------------------

/** @param {Entry} entry @returns {HTMLElement} its row, up to date */
function rowOf(entry) {
  const row = rows.get(entry.id) ?? cloneTemplate("entry-template");
  rows.set(entry.id, row);
  row.dataset.entry = entry.id;
  row.dataset.tone = toneOf(entry);
  const link = /** @type {HTMLAnchorElement} */ (part(row, "link"));
  link.href = `${base}/submissions/${entry.id}`;
  const file = entry.first_file;
  setText(part(row, "name"), file ? visible(file.name) : t("history.no_file"));
  setText(part(row, "folder"), file ? visible(folderOf(file)) : "");
  setText(part(row, "more"), entry.file_count > 1 ? t("history.and_more", { n: entry.file_count - 1 }) : "");
  const match = matchText(entry);
  setText(part(row, "match"), match);
  part(row, "match").hidden = !match;
  setText(part(row, "client"), clientText(entry.client));
  setText(part(row, "state"), stateText(entry));
  setText(part(row, "results"), entry.result_count ? t("history.results", { n: entry.result_count }) : "");
  const bar = /** @type {HTMLProgressElement} */ (part(row, "bar"));
  bar.hidden = entry.state === "settled" || entry.file_count === 0;
  bar.max = Math.max(1, entry.file_count);
  bar.value = doneOf(shownCounts(entry));
  const time = /** @type {HTMLTimeElement} */ (part(row, "time"));
  time.dateTime = entry.opened_at;
  time.title = exactTime(entry.opened_at);
  setText(time, timeText(entry));
  return row;
}

/** @param {HTMLElement} group @param {Entry[]} entries */
const fill = (group, entries) => setChildren(part(group, "entries"), entries.map(rowOf));

function drawDays() {
  const days = part(root, "days");
  const groups = new Map([...days.children].map((group) => [/** @type {HTMLElement} */ (group).dataset.day, /** @type {HTMLElement} */ (group)]));
  setChildren(days, byDay(shown.page.items).map(({ day, entries }) => {
    const group = groups.get(day) ?? cloneTemplate("day-template");
    groups.delete(day);
    group.dataset.day = day;
    setText(part(group, "day"), dayLabel(day));
    fill(group, entries);
    return group;
  }));
}

function draw() {
  const focused = document.activeElement?.closest("[data-entry]");
  const { running, page } = shown;
  const runningGroup = part(root, "running");
  runningGroup.hidden = !running?.items.length;
  fill(runningGroup, running?.items ?? []);
  part(runningGroup, "running-all").hidden = !running?.next;
  drawDays();
  const ids = new Set([...(running?.items ?? []), ...page.items].map((entry) => entry.id));
  for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id);
  drawWords(ids.size);
  for (const [name, key] of /** @type {const} */ ([["newer", "previous"], ["older", "next"]])) {
    const link = /** @type {HTMLAnchorElement} */ (part(root, name));
    link.hidden = !page[key];
    link.href = searchOf({ ...query, before: "", after: "", [key === "next" ? "before" : "after"]: page[key] ?? "" }) || "?";
  }
  part(root, "newest").hidden = !query.before && !query.after;
  part(root, "pager").hidden = !page.previous && !page.next && !query.before && !query.after;
  if (focused?.isConnected && !focused.contains(document.activeElement)) focused.querySelector("a")?.focus();
}

/** @param {number} count of the submissions that are listed */
function drawWords(count) {
  const isFirst = !query.before && !query.after;
  const isEmpty = count === 0;
  const isMore = Boolean(shown.page.next || shown.running?.next);
  const summary = isMore ? t("history.match_many", { n: count }) : t("history.match", { n: count });
  setText(part(root, "summary"), isNarrow(query) && isFirst && !isEmpty ? summary : "");
  part(root, "show-all").hidden = !isNarrow(query);
  part(root, "none").hidden = !isEmpty || isNarrow(query) || !isFirst;
  part(root, "none-match").hidden = !isEmpty || !isNarrow(query) || !isFirst || query.state === "running";
  part(root, "none-running").hidden = !isEmpty || query.state !== "running" || !isFirst;
  part(root, "none-here").hidden = !isEmpty || isFirst;
}

/** Draw what the person has asked for: fields, links. */
function drawQuery() {
  if (document.activeElement !== field("q")) field("q").value = query.q;
  field("state").value = query.state;
  field("from").value = firstDay(query.from);
  field("to").value = lastDay(query.to);
  for (const link of root.querySelectorAll("[data-state]")) {
    if (!(link instanceof HTMLAnchorElement)) continue;
    const state = link.dataset.state ?? "";
    link.href = addressOf({ ...query, state });
    if (state === query.state) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  const { q, state, from, to } = query;
  for (const format of ["csv", "json"]) {
    /** @type {HTMLAnchorElement} */ (part(root, format)).href = `${api}/history${searchOf({ q, state, from, to, format })}`;
  }
}

/** @param {Query} asked @returns {string} the address of its first page */
const addressOf = (asked) => `${base}/history${searchOf({ ...asked, before: "", after: "" })}`;

// --- reading -----------------------------------------------------------------------------------------------------------

let newest = 0; // number of the newest reading: an older one that is answered later is not shown

/** Read the page that the person asks for, and show it. */
async function read() {
  const number = ++newest;
  const asked = query;
  const problem = part(root, "problem");
  root.setAttribute("aria-busy", "true");
  try {
    const { q, from, to, before, after } = asked;
    const isGrouped = !asked.state && !before && !after;
    // Read first: what settles in between is then in both, never in neither.
    const running = isGrouped ? await callJson("GET", `/history${searchOf({ q, from, to, state: "running", limit: runningLimit })}`) : null;
    const state = asked.state || "settled";
    const page = await callJson("GET", `/history${searchOf({ q, from, to, state, before, after, limit })}`);
    await released();
    if (number !== newest) return;
    const settled = new Set(page.items.map((/** @type {Entry} */ entry) => entry.id));
    if (running) running.items = running.items.filter((/** @type {Entry} */ entry) => !settled.has(entry.id));
    shown = { running, page };
    problem.hidden = true;
    draw();
  } catch (error) {
    await released();
    if (number !== newest) return;
    setText(problem, t("history.not_updated", { reason: error instanceof Error ? error.message : String(error) }));
    problem.hidden = false;
  } finally {
    if (number === newest) root.removeAttribute("aria-busy");
  }
}

let refreshing = 0;
let refreshed = -Infinity;

let isStale = false;

/** Read again soon: something has happened. What happens while it is read may be missing in the answer, so it is read once more. */
function refresh() {
  isStale = true;
  if (refreshing) return;
  refreshing = window.setTimeout(async () => {
    isStale = false;
    await read();
    refreshed = performance.now();
    refreshing = 0;
    if (isStale) refresh();
  }, Math.max(0, refreshed + REFRESH_MS - performance.now()));
}

/**
 * Show what the person asks for now.
 * @param {Partial<Query>} changed
 * @param {boolean} isStep whether the browser's Back leads to what was asked for before
 */
async function show(changed, isStep) {
  const asked = { ...query, ...changed, before: "", after: "" };
  if (searchOf(asked) === searchOf(query)) return;
  query = asked;
  history[isStep ? "pushState" : "replaceState"](null, "", addressOf(query));
  drawQuery();
  await read();
  const words = ["summary", "none-match-words", "none-running"].map((name) => part(root, name));
  announce(words.find((one) => one.textContent && !one.closest("[hidden]"))?.textContent ?? "");
}

// --- the person --------------------------------------------------------------------------------------------------------

/** @returns {boolean} whether the text can be searched; otherwise the page says what it needs */
function showText() {
  const text = field("q").value.trim();
  const isShort = text.length > 0 && text.length < TEXT_MIN;
  part(root, "too-short").hidden = !isShort;
  return !isShort;
}

let typing = 0;
field("q").addEventListener("input", () => {
  clearTimeout(typing);
  if (showText()) typing = window.setTimeout(() => show({ q: field("q").value.trim() }, false), TYPING_MS);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  if (showText()) show({ q: field("q").value.trim(), from: beginOf(field("from").value), to: endOf(field("to").value) }, true);
});
for (const name of ["from", "to"]) {
  field(name).addEventListener("change", () => {
    show({ from: beginOf(field("from").value), to: endOf(field("to").value) }, true);
  });
}
root.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a[data-state], a[data-part=show-all], a[data-part=running-all]") : null;
  if (!(link instanceof HTMLAnchorElement) || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (link.dataset.part === "show-all") {
    field("q").value = "";
    part(root, "too-short").hidden = true;
    field("q").focus(); // the link goes away
    show({ q: "", state: "", from: "", to: "" }, true);
  } else if (link.dataset.part === "running-all") {
    part(root, "state-running").focus();
    show({ state: "running" }, true);
  } else {
    show({ state: link.dataset.state ?? "" }, true);
  }
});
addEventListener("popstate", () => {
  query = queryOf(location.search);
  drawQuery();
  read();
});

// --- beginning ---------------------------------------------------------------------------------------------------------

for (const row of root.querySelectorAll("[data-entry]")) {
  if (row instanceof HTMLElement && row.dataset.entry) rows.set(row.dataset.entry, row);
}
const given = searchOf(query);
const typed = field("q").value;
query = inLocalTime(query);
if (!showText()) query.q = ""; // the page says that it is too short
drawQuery();
field("q").value = typed;
if (!isRefused) draw();
if (searchOf(query) !== given) read();
setInterval(paced(draw), CLOCK_MS);

const livePage = new LivePage();
livePage.follow(topic, cursor, { events: () => refresh(), snapshot: () => refresh() });
// A page that nobody sees needs no events.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) livePage.live.leave(topic);
  else livePage.live.join(topic, null);
});
