// /audit: who did what, and who was refused; the newest first, as it happens. For admins.

import "../frame/frame-page.js";
import { say } from "../account/form.js";
import { callJson, reasonOf } from "../core/api.js";
import { base } from "../core/base.js";
import { exactTime, localDateTimeSeconds, visible } from "../core/format.js";
import { LivePage } from "../core/live-page.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, part, setChildren, setText } from "../core/page.js";
import { pageData } from "../core/page-data.js";
import { released } from "../core/press.js";
import { accountOf, deviceText, joined, placeText, queryOf, searchOf, whatText, whoText } from "./audit-words.js";

/** @typedef {import("./audit-words.js").AuditPage} AuditPage */
/** @typedef {import("./audit-words.js").LiveEvent} LiveEvent */

const REFRESH_MS = 1000; // at most one update a second, however much happens
const LIMIT = 50;
const SEARCHES = 10; // in one go for rare events; then the person decides whether to search on

const root = part(document, "audit");
const form = /** @type {HTMLFormElement} */ (part(root, "form"));
const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("who"));
const older = part(root, "older");
/** @type {Map<number, HTMLElement>} by the event's cursor */
const rows = new Map();
let query = queryOf(location.search);
/** @type {AuditPage} */
let shown = { items: [], next: null };
let asked = 0; // number of the newest question: the answer to an earlier one is not shown

// --- drawing -----------------------------------------------------------------------------------------------------------

/** @param {LiveEvent} event @returns {HTMLElement} */
function rowOf(event) {
  const known = rows.get(event.cursor);
  if (known) return known;
  const row = cloneTemplate("record-template");
  rows.set(event.cursor, row);
  row.dataset.kind = event.name;
  const account = accountOf(event);
  setText(part(row, "name"), whoText(event));
  if (account) /** @type {HTMLAnchorElement} */ (part(row, "who")).href = `${base}/audit${searchOf({ who: account })}`;
  setText(part(row, "what"), whatText(event));
  const { submission_id: submission } = event.subject;
  if (submission) part(row, "what").append(" · ", linkTo(submission));
  setText(part(row, "place"), placeText(event));
  setText(part(row, "device"), deviceText(event));
  part(row, "device").title = visible(event.subject.client?.user_agent ?? "");
  const time = /** @type {HTMLTimeElement} */ (part(row, "time"));
  time.dateTime = event.at;
  time.title = exactTime(event.at);
  setText(time, localDateTimeSeconds(event.at));
  return row;
}

/** @param {string} submission @returns {HTMLElement} */
function linkTo(submission) {
  const link = document.createElement("a");
  link.href = `${base}/submissions/${submission}`;
  setText(link, t("audit.submission"));
  return link;
}

function draw() {
  const cursors = new Set(shown.items.map(({ cursor }) => cursor));
  for (const cursor of rows.keys()) if (!cursors.has(cursor)) rows.delete(cursor);
  setChildren(part(root, "records"), shown.items.map(rowOf));
  older.hidden = shown.next === null;
  setText(older, t(shown.items.length ? "audit.older" : "audit.search_on"));
  const none = shown.next === null ? t(query.kind || query.who ? "audit.none_match" : "audit.none") : t("audit.none_yet");
  setText(part(root, "none"), none);
  part(root, "none").hidden = shown.items.length > 0;
}

function drawQuery() {
  field.value = query.who;
  for (const link of root.querySelectorAll("a[data-kind]")) {
    if (!(link instanceof HTMLAnchorElement)) continue;
    const { kind = "" } = link.dataset;
    link.href = `${base}/audit${searchOf({ kind, who: query.who })}`;
    if (kind === query.kind) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

// --- reading -----------------------------------------------------------------------------------------------------------

/**
 * Read a page: as many requests as it takes to find something, up to a number, because the server searches so far in each.
 * @param {number | null} before
 * @returns {Promise<AuditPage>}
 */
async function pageBefore(before) {
  /** @type {AuditPage} */
  let page = { items: [], next: before };
  for (let tries = 0; tries < SEARCHES && !page.items.length; tries += 1) {
    page = await callJson("GET", `/audit${searchOf({ ...query, before: page.next, limit: LIMIT })}`);
    if (page.next === null) break;
  }
  return page;
}

/**
 * Read something, and show what becomes of it; says what went wrong.
 * @param {() => Promise<AuditPage>} get what is shown then
 * @returns {Promise<boolean>} whether it is shown
 */
async function show(get) {
  const number = ++asked;
  root.setAttribute("aria-busy", "true");
  try {
    const found = await get();
    await released();
    if (number !== asked) return false;
    shown = found;
    draw();
    say(part(root, "problem"), "");
    return true;
  } catch (error) {
    if (number === asked) say(part(root, "problem"), t("audit.not_updated", { reason: reasonOf(error) }));
    return false;
  } finally {
    if (number === asked) root.removeAttribute("aria-busy");
  }
}

const readNewest = () => show(async () => joined(shown, await pageBefore(null)));

/** @param {Partial<import("./audit-words.js").AuditQuery>} changed what the person asks for now */
async function ask(changed) {
  query = { ...query, ...changed };
  history.pushState(null, "", `${base}/audit${searchOf(query)}`);
  drawQuery();
  await begin();
}

async function begin() {
  if (!await show(() => pageBefore(null))) return;
  const words = part(root, "none");
  announce(words.hidden ? t("audit.shown", { n: shown.items.length }) : words.textContent ?? "");
}

let refreshing = 0;
let refreshed = -Infinity;

/** Something has happened: read the newest page again, but not too often. */
function refresh() {
  refreshing ||= window.setTimeout(async () => {
    refreshed = performance.now();
    refreshing = 0; // what happens from here on is read once more
    await readNewest();
  }, Math.max(0, refreshed + REFRESH_MS - performance.now()));
}

// --- the person --------------------------------------------------------------------------------------------------------

older.addEventListener("click", async () => {
  const { length } = shown.items;
  if (!await show(async () => {
    const page = await pageBefore(shown.next);
    return { items: [...shown.items, ...page.items], next: page.next };
  })) return;
  const found = shown.items.length - length;
  announce(found ? t("audit.shown_more", { n: found }) : t("audit.none_further"));
  if (older.hidden) rows.get(shown.items.at(length)?.cursor ?? 0)?.focus(); // the button is gone
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  void ask({ who: field.value.trim() });
});
field.addEventListener("change", () => {
  if (field.value.trim() !== query.who) void ask({ who: field.value.trim() });
});
root.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a[data-kind], a[data-part=who]") : null;
  if (!(link instanceof HTMLAnchorElement) || !link.href || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  void ask(queryOf(new URL(link.href).search));
});
addEventListener("popstate", () => {
  query = queryOf(location.search);
  drawQuery();
  void begin();
});

// --- beginning ---------------------------------------------------------------------------------------------------------

async function suggestPeople() {
  try {
    const { items } = await callJson("GET", "/accounts");
    setChildren(part(root, "people"), items.map((/** @type {{name: string}} */ { name }) => new Option(name)));
  } catch {
    // a name can be typed, too
  }
}

drawQuery();
void show(() => pageBefore(null));
void suggestPeople();
const livePage = new LivePage();
livePage.follow("audit", pageData().cursor, { events: refresh, snapshot: refresh });
