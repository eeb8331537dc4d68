// /jobs/<id>: one file's job with each attempt, why it failed, what a retry would do, and what changed in the config since.

import "../frame/frame-page.js";
import { Problem, call, callJson, reasonOf } from "../core/api.js";
import { api, base, seesConfig } from "../core/base.js";
import { ago, duration, elapsed, exactTime, exitText, localDateTimeSeconds, percent, queuePosition, visible } from "../core/format.js";
import { LivePage } from "../core/live-page.js";
import { t } from "../core/messages.js";
import { OutputPanel } from "./output.js";
import { announce, cloneTemplate, paced, part, setText } from "../core/page.js";
import { released } from "../core/press.js";
import { pageData } from "../core/page-data.js";
import { problemText } from "../core/problem.js";
import { sentenceOf, wordsOf } from "./failure.js";
import { listResults } from "./result-list.js";
import { stateLook, stateWord } from "../core/words.js";

/**
 * @typedef {object} Attempt
 * @property {number} number
 * @property {string} state
 * @property {number | null} exit_code -n is signal n
 * @property {string} config_revision SHA-256
 * @property {string} started_at
 * @property {string | null} settled_at
 * @property {string} host
 */

const KEYS_SHOWN = 3; // of the changed keys that the button's hint names
const COPIED_MS = 3000;
const CAN_RETRY = new Set(["failed", "cancelled", "succeeded"]);

const data = pageData();
const path = `/jobs/${encodeURIComponent(data.job.id)}`;
const topic = `submission:${data.job.submission_id}`;
const root = part(document, "job");
const get = (/** @type {string} */ name) => part(root, name);

/** @type {Record<string, any>} Job of the API */
let job = data.job;
/** @type {string} SHA-256 of the newest revision; null for who may not see the config */
let newest = data.newest;
/** @type {number | null} the attempt whose config is compared with the newest */
let compared = null;
let comparisons = 0;
let questions = 0;
/** @type {{pair: string, keys: string[] | null}} the keys whose values differ between the last attempt's config and the newest; null: not known */
let changed = { pair: "", keys: null };

const page = new LivePage();
const output = new OutputPanel(get("panel"), page.live, job.id);

/** @returns {Attempt | undefined} */
const lastAttempt = () => job.attempts.at(-1);

function draw() {
  const look = stateLook(job.state);
  root.dataset.tone = look.tone;
  root.dataset.state = job.state;
  root.querySelector(".row-icon use")?.setAttribute("href", `#icon-${look.icon}`);
  setText(get("state"), stateWord(job.state));
  document.title = `${visible(data.name)}: ${stateWord(job.state)} · Dropmill`;
  get("cancel").hidden = job.state !== "queued" && job.state !== "running";
  get("retry").hidden = !CAN_RETRY.has(job.state) || !data.is_kept;
  drawFailure();
  drawBar();
  drawHint();
  drawAttempts();
  drawFacts();
  drawResults();
  const last = lastAttempt();
  get("output-part").hidden = !last;
  if (last) output.follow(last.number, job.state);
  tick();
}

function drawFailure() {
  get("error").hidden = job.state !== "failed";
  if (job.state !== "failed") return;
  const words = wordsOf(job.error);
  get("error-words").hidden = words === "";
  setText(get("error-words"), words);
  setText(get("error-sentence"), sentenceOf(job.error, job.exit_code));
}

/** @param {string} name of a `<time>` @param {string | null} iso shown as how long ago that was, exact as its tooltip */
function drawAgo(name, iso) {
  const element = /** @type {HTMLTimeElement} */ (get(name));
  if (iso) showAgo(element, iso);
}

/** @param {Element} element @param {string} iso */
function showAgo(element, iso) {
  element.setAttribute("datetime", iso);
  element.setAttribute("title", `${localDateTimeSeconds(iso)}\n${exactTime(iso)}`);
  setText(element, ago(iso));
}

/** The words beside the state, and how long ago things were. */
function tick() {
  drawAgo("queued", job.queued_at);
  drawAgo("settled", job.settled_at);
  for (const row of get("attempts").children) {
    const started = part(row, "attempt-started");
    showAgo(started, started.getAttribute("datetime") ?? "");
  }
  const last = lastAttempt();
  let note = "";
  if (job.state === "queued") note = job.position ? queuePosition(job.position) : t("job.waiting");
  else if (job.state === "running" && last) {
    const seconds = Math.max(0, page.now - Date.parse(last.started_at)) / 1000;
    note = [
      job.progress?.label && visible(job.progress.label), t("job.attempt_note", { number: last.number }), t("job.for", { time: elapsed(seconds) }),
    ].filter(Boolean).join(" · ");
  } else {
    const took = job.duration === null ? "" : t("job.took", { time: duration(job.duration) });
    const attempt = last && last.number > 1 ? t("job.attempt_note", { number: last.number }) : "";
    note = [job.exit_code ? exitText(job.exit_code) : "", attempt, took].filter(Boolean).join(" · ");
  }
  setText(get("note"), note);
}

function drawBar() {
  const bar = get("bar");
  const { value = 0, total = null } = job.progress ?? {};
  const isMeasured = total !== null && total > 0;
  bar.hidden = job.state !== "running";
  bar.classList.toggle("indeterminate", !isMeasured);
  const fraction = isMeasured ? Math.min(1, value / total) : 0;
  get("fill").style.setProperty("--fraction", fraction.toFixed(4));
  if (isMeasured) {
    bar.setAttribute("aria-valuenow", String(Math.floor(fraction * 100)));
    bar.setAttribute("aria-valuetext", percent(fraction));
  } else {
    bar.removeAttribute("aria-valuenow");
    bar.removeAttribute("aria-valuetext");
  }
}

/** @param {string} revision @returns {boolean} whether there is a newer one that the person may see */
const isOlder = (revision) => seesConfig && revision !== newest;

/** The retry button, and what a retry would do otherwise than the last attempt. */
function drawHint() {
  const last = lastAttempt();
  const isNew = last !== undefined && isOlder(last.config_revision);
  setText(get("retry"), t(isNew && job.state !== "succeeded" ? "job.retry_new" : "job.retry"));
  // The one sensible step: another config first, unless there is one already.
  get("retry").classList.toggle("primary", job.state === "cancelled" || (isNew && job.state === "failed"));
  get("fix").classList.toggle("primary", !isNew && data.is_kept);
  if (!data.is_kept) return; // the template says that the file was removed
  let hint = "";
  if (last && CAN_RETRY.has(job.state) && job.state !== "succeeded" && seesConfig) hint = isNew ? changeText(last) : t("job.hint.same", { number: last.number });
  setText(get("hint"), hint);
}

/** @param {Attempt} last @returns {string} */
function changeText({ number, config_revision: revision }) {
  const pair = `${revision} ${newest}`;
  if (changed.pair !== pair) {
    changed = { pair, keys: null };
    void askChangedKeys(pair, revision);
  }
  if (changed.keys === null) return t("job.hint.changed", { number });
  if (changed.keys.length === 0) return t("job.hint.no_keys", { number });
  const more = changed.keys.length - KEYS_SHOWN;
  const keys = changed.keys.slice(0, KEYS_SHOWN).map(visible).join(", ");
  return more > 0 ? t("job.hint.keys_more", { n: more, keys, number }) : t("job.hint.keys", { keys, number });
}

/** @param {string} pair @param {string} revision of the last attempt */
async function askChangedKeys(pair, revision) {
  try {
    const { keys } = await callJson("GET", `/config/changes?from=${revision}&to=${newest}`);
    if (changed.pair !== pair) return;
    changed.keys = keys;
    drawHint();
  } catch {
    // Purged, or the server is away: the hint says that something changed, and the button beside the attempt shows what.
  }
}

function drawAttempts() {
  /** @type {Attempt[]} */
  const attempts = job.attempts;
  get("attempts-part").hidden = attempts.length === 0;
  const body = get("attempts");
  const known = new Map([...body.children].map((row) => [/** @type {HTMLElement} */ (row).dataset.attempt, row]));
  for (const attempt of attempts) {
    const number = String(attempt.number);
    let row = /** @type {HTMLElement | undefined} */ (known.get(number));
    if (!row) {
      row = attemptRow(number);
      body.prepend(row);
    }
    drawAttempt(row, attempt);
  }
}

/** @param {string} number @returns {HTMLElement} */
function attemptRow(number) {
  const row = cloneTemplate("attempt-template");
  row.dataset.attempt = number;
  return row;
}

/** @param {HTMLElement} row @param {Attempt} attempt */
function drawAttempt(row, attempt) {
  const { number, state, exit_code: exitCode, config_revision: revision, started_at: started, settled_at: settled } = attempt;
  row.dataset.tone = stateLook(state).tone;
  setText(part(row, "number"), String(number));
  setText(part(row, "attempt-word"), t("output.attempt", { number }));
  setText(part(row, "attempt-state"), stateWord(state));
  setText(part(row, "exit"), exitCode ? exitText(exitCode) : "");
  showAgo(part(row, "attempt-started"), started);
  setText(part(row, "took"), settled ? duration((Date.parse(settled) - Date.parse(started)) / 1000) : t("job.running"));
  setText(part(row, "host"), t("job.host", { host: visible(attempt.host) }));
  part(row, "revision").setAttribute("href", `${base}/config?revision=${revision}`);
  setText(part(row, "revision"), t("job.revision_id", { id: revision.slice(0, 8) }));
  setText(part(row, "age"), t(isOlder(revision) ? "job.older" : "job.newest"));
  const button = part(row, "compare");
  button.hidden = !isOlder(revision);
  button.setAttribute("aria-expanded", String(compared === number));
  button.setAttribute("aria-label", t("job.compare_since", { number }));
  part(row, "attempt-output").setAttribute("href", `${api}${path}/output?attempt=${number}`);
  part(row, "attempt-output").setAttribute("aria-label", t("job.output_of", { number }));
}

function drawFacts() {
  get("settled-row").hidden = job.settled_at === null;
  const waited = job.started_at === null ? 0 : (Date.parse(job.started_at) - Date.parse(job.queued_at)) / 1000;
  get("waited-row").hidden = waited <= 0;
  setText(get("waited"), waited > 0 ? duration(waited) : "");
  get("duration-row").hidden = job.duration === null;
  setText(get("duration"), job.duration === null ? "" : duration(job.duration));
  get("value-row").hidden = job.value === null;
  setText(get("value"), job.value === null ? "" : visibleLines(JSON.stringify(job.value, null, 2)));
}

/** @param {string} text @returns {string} with invisible characters made visible, except line ends */
const visibleLines = (text) => text.split("\n").map(visible).join("\n");

let listed = "";

function drawResults() {
  get("results-part").hidden = job.result_count === 0;
  const wanted = JSON.stringify([job.attempts.length, job.result_count]);
  if (wanted === listed) return;
  listed = wanted;
  void listResults(get("results"), /** @type {any} */ (job));
}

/** Show what changed in the config since an attempt. @param {Attempt} attempt */
async function compare({ number, config_revision: revision }) {
  const question = ++comparisons;
  compared = number;
  drawAttempts();
  const box = get("changes");
  const isOpening = box.hidden;
  setText(get("changes-title"), t("job.changes_title", { number }));
  let sentence = "";
  try {
    const [before, after, { mountDiff }] = await Promise.all([
      configText(`/config/revisions/${revision}`), configText("/config"), import("../config/diff.js"),
    ]);
    if (question !== comparisons) return;
    mountDiff(get("changes-diff"), { before, after, beforeLabel: t("job.changes_before", { number }), afterLabel: t("job.changes_after") });
  } catch (error) {
    if (question !== comparisons) return;
    get("changes-diff").replaceChildren();
    sentence = error instanceof Problem && error.status === 410
      ? t("job.changes_purged")
      : t("job.changes_failed", { reason: reasonOf(error) });
  }
  setText(get("changes-text"), sentence);
  box.hidden = false;
  if (isOpening) box.focus();
}

/** @param {string} address @returns {Promise<string>} */
async function configText(address) {
  return (await call("GET", address, { headers: { Accept: "application/yaml" } })).text();
}

function closeComparison() {
  const button = get("attempts").querySelector(`[data-attempt="${compared}"] [data-part="compare"]`);
  comparisons += 1;
  compared = null;
  get("changes").hidden = true;
  get("changes-diff").replaceChildren();
  drawAttempts();
  if (button instanceof HTMLElement) button.focus();
}

/** @param {string} sentence "" hides the box */
function sayProblem(sentence) {
  get("problem").hidden = sentence === "";
  setText(get("problem"), sentence);
}

async function refresh() {
  const question = ++questions;
  let fresh;
  try {
    fresh = await callJson("GET", path);
  } catch {
    return; // the badge says that the server is away
  }
  await released();
  if (question !== questions) return; // a newer request is running
  const before = job.state;
  job = fresh;
  draw();
  if (job.state !== before) announce(`${stateWord(job.state)}.`);
}

const askRefresh = paced(() => void refresh());
const askDraw = paced(draw);

/** @param {"cancel" | "retry"} action */
async function act(action) {
  const isFocused = document.activeElement === get(action);
  try {
    await callJson("POST", `${path}/${action}`);
    sayProblem("");
  } catch (error) {
    // 409: the job ended, or someone else retried it, before this request; the page is about to show it.
    if (error instanceof Problem && error.status !== 409) sayProblem(error.message);
  }
  await refresh();
  if (isFocused && get(action).hidden) get("state-line").focus(); // the button is gone; what it did is said there
}

async function copyFailure() {
  const button = get("copy");
  const lines = [visible(data.name), wordsOf(job.error), sentenceOf(job.error, job.exit_code), t("job.failure.id", { id: job.id }), location.href];
  try {
    await navigator.clipboard.writeText(lines.filter(Boolean).join("\n"));
    setText(button, t("job.failure.copied"));
    announce(t("job.failure.copied"));
    setTimeout(() => setText(button, t("job.failure.copy")), COPIED_MS);
  } catch {
    sayProblem(t("job.failure.not_copied")); // also on plain http, where browsers have no clipboard
  }
}

get("cancel").addEventListener("click", () => act("cancel"));
get("retry").addEventListener("click", () => act("retry"));
get("copy").addEventListener("click", copyFailure);
get("changes-close").addEventListener("click", closeComparison);
get("attempts").addEventListener("click", (event) => {
  const button = /** @type {Element} */ (event.target).closest('[data-part="compare"]');
  if (!button) return;
  const number = Number(/** @type {HTMLElement} */ (button.closest("[data-attempt]")).dataset.attempt);
  const attempt = job.attempts.find((/** @type {Attempt} */ one) => one.number === number);
  if (number === compared) closeComparison();
  else if (attempt) void compare(attempt);
});

page.follow(topic, data.cursor, {
  events({ events }) {
    if (events.some(({ subject }) => subject.job_id === job.id)) askRefresh();
  },
});
if (seesConfig) page.follow("config", data.cursor, {
  events({ events }) {
    const saved = events.filter(({ name }) => name === "config.saved").at(-1);
    if (saved) newest = saved.data.sha256;
    askDraw();
    const attempt = job.attempts.find((/** @type {Attempt} */ one) => one.number === compared);
    if (attempt) void compare(attempt);
  },
});
page.onProgress(({ file_id: fileId, stage, value, total, label }) => {
  if (fileId !== job.file_id || stage !== "process" || job.state !== "running") return;
  job.progress = { value, total, label };
  drawBar();
  tick();
});
page.live.addEventListener("refused", (event) => {
  const { topic: refused, error } = /** @type {CustomEvent<{topic: string, error: {detail: string}}>} */ (event).detail;
  if (!refused.startsWith("output:")) sayProblem(t("job.not_followed", { reason: problemText(error) })); // the panel says the other
});
page.everySecond(tick);
// While the connection is away, and for the queue position, which is not pushed.
page.poll(refresh, () => (page.isAway && !CAN_RETRY.has(job.state)) || (job.state === "queued" && !document.hidden));
draw();
