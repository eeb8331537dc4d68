// /jobs/<id>: one file's job with each attempt, its config revision, and what changed in the config since.

import { Problem, call, callJson } from "../core/api.js";
import { api, base } from "../core/base.js";
import { followConfigProblem } from "../core/config-problem.js";
import { mountConnectionBadge } from "../core/connection.js";
import { duration, elapsed, exitText, percent, queuePosition, visible } from "../core/format.js";
import { Live } from "../core/live.js";
import { OutputPanel } from "./output.js";
import { announce, cloneTemplate, paced, part, setText, setTime } from "../core/page.js";
import { pageData } from "../core/page-data.js";
import { listResults } from "./result-list.js";
import { stateLook, stateWord } from "../core/words.js";

/** @typedef {import("../core/live.js").EventsMessage} EventsMessage */

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

const CLOCKS_EVERY_MS = 1000;
const POLL_EVERY_MS = 3000; // while the socket is away, and for the queue position, which is not pushed
const CAN_RETRY = new Set(["failed", "cancelled", "succeeded"]);

const data = pageData();
const path = `/jobs/${encodeURIComponent(data.job.id)}`;
const topic = `submission:${data.job.submission_id}`;
const root = part(document, "job");
const get = (/** @type {string} */ name) => part(root, name);

/** @type {Record<string, any>} Job of the API */
let job = data.job;
/** @type {string} SHA-256 of the newest revision */
let newest = data.newest;
/** @type {number | null} the attempt whose config is compared with the newest */
let compared = null;
let comparisons = 0;
let questions = 0;
let skew = 0;

const live = new Live();
const output = new OutputPanel(get("panel"), live, job.id);

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
  get("retry").classList.toggle("primary", job.state !== "succeeded");
  get("error").hidden = job.state !== "failed";
  setText(get("error-text"), job.error ? visible(`${job.error.type}: ${job.error.message}`) : "The script gave no reason.");
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

/** The words beside the state; they change while the job waits or runs. */
function tick() {
  const last = lastAttempt();
  let note = "";
  if (job.state === "queued") note = job.position ? queuePosition(job.position) : "queued";
  else if (job.state === "running" && last) {
    const seconds = Math.max(0, Date.now() + skew - Date.parse(last.started_at)) / 1000;
    note = [job.progress?.label && visible(job.progress.label), `attempt ${last.number}`, `for ${elapsed(seconds)}`].filter(Boolean).join(" · ");
  } else {
    const took = job.duration === null ? "" : `in ${duration(job.duration)}`;
    note = [job.exit_code ? exitText(job.exit_code) : "", last && last.number > 1 ? `attempt ${last.number}` : "", took].filter(Boolean).join(" · ");
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

/** Says which config a retry would use. */
function drawHint() {
  const last = lastAttempt();
  if (!data.is_kept) return; // the template says that the file was removed
  let hint = "";
  if (CAN_RETRY.has(job.state) && last && job.state !== "succeeded") {
    hint = last.config_revision === newest
      ? "A retry would use the same config. "
      : `The config has changed since attempt ${last.number}; a retry uses the newest.`;
  }
  const box = get("hint");
  if (box.textContent === hint) return;
  box.textContent = hint;
  if (hint && last?.config_revision === newest) {
    const link = document.createElement("a");
    link.href = `${base}/config`;
    link.textContent = "Fix the config";
    box.replaceChildren(hint, link);
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
  setText(part(row, "attempt-state"), stateWord(state));
  setText(part(row, "exit"), exitCode ? exitText(exitCode) : "");
  setTime(part(row, "attempt-started"), started);
  setText(part(row, "took"), settled ? duration((Date.parse(settled) - Date.parse(started)) / 1000) : "running");
  setText(part(row, "host"), attempt.host);
  part(row, "revision").setAttribute("href", `${base}/config?revision=${revision}`);
  setText(part(row, "sha"), revision.slice(0, 8));
  const isNewest = revision === newest;
  setText(part(row, "age"), isNewest ? "newest" : "older");
  const button = part(row, "compare");
  button.hidden = isNewest;
  button.setAttribute("aria-expanded", String(compared === number));
  button.setAttribute("aria-label", `What changed since attempt ${number}`);
  part(row, "attempt-output").setAttribute("href", `${api}${path}/output?attempt=${number}`);
  part(row, "attempt-output").setAttribute("aria-label", `Output of attempt ${number}`);
}

function drawFacts() {
  for (const name of ["queued", "started", "settled"]) {
    if (job[`${name}_at`]) setTime(get(name), job[`${name}_at`]);
    else setText(get(name), "–");
  }
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
  setText(get("changes-title"), `What changed in the config since attempt ${number}`);
  let sentence = "";
  try {
    const [before, after, { mountDiff }] = await Promise.all([
      configText(`/config/revisions/${revision}`), configText("/config"), import("../config/diff.js"),
    ]);
    if (question !== comparisons) return;
    mountDiff(get("changes-diff"), { before, after, beforeLabel: `Config of attempt ${number}`, afterLabel: "Newest config" });
  } catch (error) {
    if (question !== comparisons) return;
    get("changes-diff").replaceChildren();
    sentence = error instanceof Problem && error.status === 410
      ? "The text of this revision was removed for good, so it cannot be compared."
      : `It cannot be compared. ${error instanceof Error ? error.message : error}`;
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
  if (question !== questions) return; // a newer request is running
  const before = job.state;
  job = fresh;
  draw();
  if (job.state !== before) announce(`${stateWord(job.state)}.`);
}

const askRefresh = paced(() => void refresh());

/** @param {"cancel" | "retry"} action */
async function act(action) {
  try {
    await callJson("POST", `${path}/${action}`);
    sayProblem("");
  } catch (error) {
    // 409: the job ended, or someone else retried it, before this request; the page is about to show it.
    if (error instanceof Problem && error.status !== 409) sayProblem(error.message);
  }
  askRefresh();
}

get("cancel").addEventListener("click", () => act("cancel"));
get("retry").addEventListener("click", () => act("retry"));
get("changes-close").addEventListener("click", closeComparison);
get("attempts").addEventListener("click", (event) => {
  const button = /** @type {Element} */ (event.target).closest('[data-part="compare"]');
  if (!button) return;
  const number = Number(/** @type {HTMLElement} */ (button.closest("[data-attempt]")).dataset.attempt);
  const attempt = job.attempts.find((/** @type {Attempt} */ one) => one.number === number);
  if (number === compared) closeComparison();
  else if (attempt) void compare(attempt);
});

mountConnectionBadge(live);
followConfigProblem(live);
live.addEventListener("hello", (event) => {
  skew = Date.parse(/** @type {CustomEvent} */ (event).detail.server_time) - Date.now();
});
live.addEventListener("events", (event) => {
  const message = /** @type {CustomEvent<EventsMessage>} */ (event).detail;
  const saved = message.events.filter(({ name }) => name === "config.saved").at(-1);
  if (message.topic === "config") {
    if (saved) newest = saved.data.sha256;
    draw();
    const attempt = job.attempts.find((/** @type {Attempt} */ one) => one.number === compared);
    if (attempt) void compare(attempt);
  } else if (message.events.some(({ subject }) => subject.job_id === job.id)) askRefresh();
});
live.addEventListener("progress", (event) => {
  const { file_id: fileId, stage, value, total, label } = /** @type {CustomEvent<import("../core/live.js").ProgressMessage>} */ (event).detail;
  if (fileId !== job.file_id || stage !== "process" || job.state !== "running") return;
  job.progress = { value, total, label };
  drawBar();
  tick();
});
live.join(topic, data.cursor);
live.join("config", data.cursor);
live.start();
setInterval(tick, CLOCKS_EVERY_MS);
setInterval(() => {
  const isAway = live.connection !== "live" && live.connection !== "connecting" && !CAN_RETRY.has(job.state);
  if (isAway || (job.state === "queued" && !document.hidden)) void refresh();
}, POLL_EVERY_MS);
draw();
