// The last submissions that this browser has sent: their ids are kept in the browser, the rest comes from the server. Before the
// first one, the page explains what happens to a file.

import { Problem, callJson } from "../core/api.js";
import { base } from "../core/base.js";
import { shownCounts, totalOf } from "../core/counts.js";
import { ago, exactTime, visible } from "../core/format.js";
import { t } from "../core/messages.js";
import { cloneTemplate, part, setChildren, setText } from "../core/page.js";
import { released } from "../core/press.js";

const KEY = `dropmill-submissions:${base}`;
const KEPT = 10; // more than are shown, since some may be gone
const SHOWN = 3;
const AGAIN_MS = 5000; // while one of them is not settled

/** @returns {string[]} ids, the newest first */
function ids() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((id) => typeof id === "string") : [];
  } catch {
    return []; // storage is disabled, or holds something else
  }
}

/** @param {string[]} kept */
function keep(kept) {
  try {
    localStorage.setItem(KEY, JSON.stringify(kept.slice(0, KEPT)));
  } catch {
    // storage is disabled or full: the page explains the steps again next time
  }
}

/** @param {string} id of a submission that this browser has opened */
export const remember = (id) => keep([id, ...ids().filter((other) => other !== id)]);

/**
 * @param {Record<string, any>} submission as the API gives it
 * @returns {string} how it goes
 */
export function stateText({ state, ...submission }) {
  const counts = shownCounts(/** @type {any} */ (submission));
  const total = totalOf(counts);
  const sent = total - counts.announced - counts.receiving;
  if (state === "open") return t("upload.recent.open", { n: total, sent: sent - counts.aborted - counts.cancelled });
  const done = sent - counts.queued - counts.running;
  if (state !== "settled") return t("upload.recent.processing", { n: total, done });
  const parts = [];
  for (const name of /** @type {const} */ (["succeeded", "failed", "cancelled", "aborted"])) {
    if (counts[name]) parts.push(t(`upload.recent.${name}`, { n: counts[name] }));
  }
  return parts.join(", ");
}

/** @param {Record<string, any>} submission @returns {string} its first file, and how many more */
export function nameText({ files, ...submission }) {
  if (files.length === 0) return t("upload.recent.none");
  const more = totalOf(shownCounts(/** @type {any} */ (submission))) - 1;
  const name = visible(files[0].path || files[0].name);
  return more > 0 ? t("upload.recent.more", { name, n: more }) : name;
}

/**
 * @returns {Promise<Record<string, any>[]>} the newest that the server still has; others are forgotten
 */
async function found() {
  const submissions = [];
  for (const id of ids()) {
    if (submissions.length === SHOWN) break;
    try {
      submissions.push(await callJson("GET", `/submissions/${encodeURIComponent(id)}`));
    } catch (error) {
      if (error instanceof Problem && error.status === 404) keep(ids().filter((other) => other !== id));
      else if (error instanceof Problem && error.status === 0) throw error;
    }
  }
  return submissions;
}

/** What this browser remembers. */
const REMEMBERED = { find: found, isEmpty: () => ids().length === 0, stateText };

/**
 * Show the last submissions, and keep what is shown true.
 * @param {typeof REMEMBERED} [source] of the submissions
 * @returns {() => void} ends that
 */
export function mountRecent({ find, isEmpty, stateText: textOf } = REMEMBERED) {
  const section = part(document, "recent");
  const explanation = document.querySelector("[data-part=explanation]");
  /** @type {Map<string, HTMLElement>} */
  let rows = new Map();
  let timer = 0;
  let isOver = false;

  const show = async () => {
    clearTimeout(timer);
    explanation?.classList.toggle("shown", isEmpty());
    if (document.hidden || isOver || isEmpty()) return;
    try {
      const submissions = await find();
      await released();
      rows = new Map(submissions.map((submission) => [submission.id, rows.get(submission.id) ?? cloneTemplate("recent-template")]));
      for (const submission of submissions) fill(/** @type {HTMLElement} */ (rows.get(submission.id)), submission, textOf);
      setChildren(part(section, "recent-list"), [...rows.values()]);
      section.hidden = rows.size === 0;
      explanation?.classList.toggle("shown", isEmpty());
      if (submissions.every(({ state }) => state === "settled")) return;
    } catch {
      // the badge says that the server is away
    }
    if (!isOver) timer = window.setTimeout(show, AGAIN_MS);
  };

  document.addEventListener("visibilitychange", () => void show());
  addEventListener("pageshow", ({ persisted }) => { if (persisted) void show(); });
  void show();
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}

/** @param {HTMLElement} row @param {Record<string, any>} submission @param {typeof stateText} textOf */
function fill(row, submission, textOf) {
  part(row, "link").setAttribute("href", `${base}/submissions/${encodeURIComponent(submission.id)}`);
  setText(part(row, "name"), nameText(submission));
  setText(part(row, "state"), textOf(submission));
  const time = /** @type {HTMLTimeElement} */ (part(row, "time"));
  time.dateTime = submission.opened_at;
  time.title = exactTime(submission.opened_at);
  setText(time, ago(submission.opened_at));
}
