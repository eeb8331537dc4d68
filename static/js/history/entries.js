// What the history says of a submission, in which group it stands, and what its address asks for. No DOM.

import { shownCounts } from "../core/counts.js";
import { ago, visible } from "../core/format.js";
import { language, t } from "../core/messages.js";
import { stateWord } from "../core/words.js";

/** @typedef {{id: string, name: string, path: string, state: string, job_id: string | null, error: string | null}} HistoryFile */
/** @typedef {import("../core/counts.js").Counts} Counts */
/**
 * @typedef {{id: string, state: string, outcome: string | null, opened_at: string, settled_at: string | null,
 *   client: {ip: string, host: string | null} | null, counts: Counts,
 *   aborted_as: {cancelled: number, replaced: number}, first_file: HistoryFile | null,
 *   file_count: number, result_count: number, match: HistoryFile | null}} Entry as the API answers it
 */
/** @typedef {{items: Entry[], previous: string | null, next: string | null}} HistoryPage */
/** @typedef {{q: string, state: string, from: string, to: string, before: string, after: string}} Query "" where nothing is asked for; from and to are days or times */

export const TEXT_MIN = 3;
const FIELDS = /** @type {const} */ (["q", "state", "from", "to", "before", "after"]);
const DAY = /^\d{4}-\d\d-\d\d$/;
const clock = new Intl.DateTimeFormat(language, { timeStyle: "short", hourCycle: "h23" });
const thisYear = new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long" });
const anyYear = new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long", year: "numeric" });

// --- entries -----------------------------------------------------------------------------------------------------------

/** @param {HistoryFile} file @returns {string} "" without folders */
export const folderOf = ({ name, path }) => (path.endsWith(`/${name}`) ? path.slice(0, -name.length) : "");

/** @param {Counts} counts @returns {number} files that are over, whatever their outcome */
export const doneOf = ({ succeeded, failed, cancelled, aborted }) => succeeded + failed + cancelled + aborted;

/** @param {Entry} entry @returns {string} how far it is, or how it ended */
export function stateText(entry) {
  const { state, file_count: total } = entry;
  const counts = shownCounts(entry);
  if (total === 0) return state === "open" ? t("history.nothing_yet") : t("history.none_came");
  const parts = [];
  if (state === "settled") {
    if (total === 1) return stateWord(/** @type {(keyof Counts)[]} */ (Object.keys(counts)).find((name) => counts[name]) ?? "");
    if (counts.succeeded) parts.push(t("history.succeeded", { n: counts.succeeded }));
  } else {
    parts.push(stateWord(state), t("history.progress", { done: doneOf(counts), total }));
  }
  if (counts.failed) parts.push(t("history.failed", { n: counts.failed }));
  if (counts.aborted) parts.push(t("history.aborted", { n: counts.aborted }));
  if (counts.cancelled) parts.push(t("history.cancelled", { n: counts.cancelled }));
  return parts.join(", ");
}

/** @type {Record<string, import("../core/words.js").Tone>} */
const TONES = { succeeded: "good", failed: "bad", open: "sending", processing: "working" };

/** @param {Entry} entry @returns {import("../core/words.js").Tone} */
export const toneOf = ({ state, outcome }) => TONES[outcome ?? state] ?? "quiet";

/** @param {Entry} entry @returns {string} where the search text was found, unless that is plain; "" without one */
export function matchText({ match, first_file: first }) {
  if (!match || (match.id === first?.id && !match.error)) return "";
  const file = visible(match.path);
  return match.error ? t("history.found_error", { file, error: visible(match.error) }) : t("history.found_in", { file });
}

// --- days --------------------------------------------------------------------------------------------------------------

/** @param {Date} time @returns {string} its day in local time, as in `<input type="date">` */
export const dayOf = (time) =>
  [String(time.getFullYear()).padStart(4, "0"), time.getMonth() + 1, time.getDate()].map((part) => String(part).padStart(2, "0")).join("-");

/** @param {Date} time @param {number} days @returns {Date} midnight so many days later */
const midnight = (time, days) => new Date(time.getFullYear(), time.getMonth(), time.getDate() + days);

/** @param {string} day @param {Date} [now] @returns {string} */
export function dayLabel(day, now = new Date()) {
  if (day === dayOf(now)) return t("history.today");
  if (day === dayOf(midnight(now, -1))) return t("history.yesterday");
  return (day.slice(0, 4) === dayOf(now).slice(0, 4) ? thisYear : anyYear).format(new Date(`${day}T00:00:00`));
}

/**
 * @param {Entry[]} entries
 * @returns {{day: string, entries: Entry[]}[]} in the same order; a day comes twice only if a clock was set back
 */
export function byDay(entries) {
  /** @type {{day: string, entries: Entry[]}[]} */
  const groups = [];
  for (const entry of entries) {
    const day = dayOf(new Date(entry.opened_at));
    const last = groups.at(-1);
    if (last?.day === day) last.entries.push(entry);
    else groups.push({ day, entries: [entry] });
  }
  return groups;
}

/** @param {Entry} entry @param {Date} [now] @returns {string} how long ago it was opened; the time of an earlier day, whose heading has the day */
export function timeText({ state, opened_at: at }, now = new Date()) {
  const time = new Date(at);
  return state !== "settled" || dayOf(time) === dayOf(now) ? ago(at) : clock.format(time);
}

// --- addresses ---------------------------------------------------------------------------------------------------------

/** @param {string} search of an address @returns {Query} */
export function queryOf(search) {
  const given = new URLSearchParams(search);
  return /** @type {Query} */ (Object.fromEntries(FIELDS.map((name) => [name, given.get(name) ?? ""])));
}

/** @param {Partial<Query> & {limit?: string, format?: string}} query @returns {string} the search of its address, "" for everything */
export function searchOf(query) {
  const given = Object.entries(query).filter(([, value]) => value);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** @param {Query} query @returns {boolean} whether it asks for less than everything */
export const isNarrow = ({ q, state, from, to }) => Boolean(q || state || from || to);

/** @param {string} day @returns {string} when it begins in local time; "" for "" */
export const beginOf = (day) => (DAY.test(day) ? new Date(`${day}T00:00:00`).toISOString() : day);

/** @param {string} day @returns {string} when the next one begins in local time; "" for "" */
export const endOf = (day) => (DAY.test(day) ? midnight(new Date(`${day}T00:00:00`), 1).toISOString() : day);

/** @param {Query} query @returns {Query} with its days, which are the server's, as those of the person */
export const inLocalTime = (query) => ({ ...query, from: beginOf(query.from), to: endOf(query.to) });

/** @param {string} from of a query @returns {string} the local day that contains it; "" for "" */
export const firstDay = (from) => (from ? dayOf(new Date(beginOf(from))) : "");

/** @param {string} to of a query @returns {string} the last local day before it; "" for "" */
export const lastDay = (to) => (to ? dayOf(new Date(Date.parse(endOf(to)) - 1)) : "");
