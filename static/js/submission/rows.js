// One row per file: builds rows from the model's entries and redraws only what changed. Sends no requests; buttons dispatch
// `row-action` (CustomEvent<RowAction>).

import { api, base } from "../core/base.js";
import { bytes, counted, elapsed, visible } from "../core/format.js";
import { OutputPanel } from "../job/output.js";
import { cloneTemplate, part, setText } from "../core/page.js";
import { listResults } from "../job/result-list.js";
import { resultUrl } from "../job/results.js";
import { FILTERS, errorOf, isPartlySent, noteOf, processWords, uploadWords } from "./row-text.js";
import { stateLook, stateOf, stateWord } from "../core/words.js";

/** @typedef {import("./model.js").Entry} Entry */
/** @typedef {import("./model.js").SubmissionModel} SubmissionModel */
/** @typedef {import("../core/live.js").Live} Live */
/** @typedef {{action: "cancel" | "retry", jobId: string} | {action: "pause" | "resume" | "give-up", fileId: string}} RowAction */

const PAGE_SIZE = 500; // rows that a phone lays out without a noticeable pause
const CAN_RETRY = new Set(["failed", "cancelled"]);
/** @type {Set<string | null>} files that this page can stop sending; a running form is a single request and cannot drop one */
const CAN_GIVE_UP = new Set(["waiting", "sending", "paused", "retrying", "refused"]);

/** The list of rows. */
export class Rows {
  #list;
  #more;
  #model;
  #live;
  /** @type {Map<string, Row>} by the entry's id */
  #rows = new Map();
  #limit = PAGE_SIZE;
  #filter = FILTERS.all;

  /** @param {HTMLElement} list @param {HTMLElement} more @param {SubmissionModel} model @param {Live} live */
  constructor(list, more, model, live) {
    this.#list = list;
    this.#more = more;
    this.#model = model;
    this.#live = live;
    more.addEventListener("click", () => {
      const firstNew = this.#limit;
      this.#limit += PAGE_SIZE;
      this.renderAll();
      /** @type {HTMLElement | undefined} */ (this.#list.children[firstNew])?.focus();
    });
  }

  /** @param {string} name of a filter */
  show(name) {
    this.#filter = FILTERS[name];
    this.#limit = PAGE_SIZE;
    this.renderAll();
  }

  /** Redraw all rows: which there are, their order and their content. */
  renderAll() {
    const wanted = this.#model.entries.filter(this.#filter);
    const shown = wanted.slice(0, this.#limit);
    const ids = new Set(shown.map((entry) => entry.id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    /** @type {Element | null} */
    let next = this.#list.firstElementChild;
    for (const entry of shown) {
      let row = this.#rows.get(entry.id);
      if (!row) {
        row = new Row(entry, this.#live);
        this.#rows.set(entry.id, row);
      }
      row.render();
      if (row.element === next) next = next.nextElementSibling;
      else this.#list.insertBefore(row.element, next);
    }
    this.#more.hidden = wanted.length <= shown.length;
    setText(this.#more, `Show ${counted(wanted.length - shown.length, "more file")}`);
  }

  /** @param {Set<string>} ids of the entries that changed */
  render(ids) {
    if (this.#filter !== FILTERS.all) {
      this.renderAll(); // a changed file may start or stop matching the filter
      return;
    }
    for (const id of ids) this.#rows.get(id)?.render();
  }

  /** Update the elapsed times of running jobs. @param {number} serverNow ms since 1970 by the server's clock */
  tick(serverNow) {
    for (const row of this.#rows.values()) row.tick(serverNow);
  }
}

/** One row. */
class Row {
  #entry;
  #live;
  #parts;
  /** @type {OutputPanel | null} */
  #output = null;
  element;

  /** @param {Entry} entry @param {Live} live */
  constructor(entry, live) {
    this.#entry = entry;
    this.#live = live;
    this.element = cloneTemplate("row-template");
    const get = (/** @type {string} */ name) => part(this.element, name);
    this.#parts = {
      icon: /** @type {Element} */ (this.element.querySelector("use")),
      name: get("name"), nameLink: get("name-link"), note: get("note"), size: get("size"), state: get("state"),
      uploadBar: get("upload-bar"), uploadFill: get("upload-fill"), uploadText: get("upload-text"),
      processBar: get("process-bar"), processFill: get("process-fill"), processText: get("process-text"),
      output: get("output"), cancel: get("cancel"), retry: get("retry"), pause: get("pause"), resume: get("resume"),
      result: get("result"), results: get("results"), resultList: get("result-list"),
      error: get("error"), errorText: get("error-text"), errorLink: get("error-link"), errorDetails: get("error-details"),
      panel: get("panel"),
    };
    const name = visible(entry.path);
    this.#parts.name.textContent = name;
    this.#parts.name.title = name;
    for (const [button, word] of /** @type {const} */ ([["output", "Output of"], ["result", "Result of"], ["results", "Results of"], ["cancel", "Cancel"], ["retry", "Retry"], ["pause", "Pause"], ["resume", "Resume"]])) {
      this.#parts[button].setAttribute("aria-label", `${word} ${name}`);
    }
    this.#parts.output.addEventListener("click", () => this.#toggleOutput());
    this.#parts.results.addEventListener("click", () => this.#toggleResults());
    this.#parts.cancel.addEventListener("click", () => this.#act("cancel"));
    this.#parts.retry.addEventListener("click", () => this.#act("retry"));
    this.#parts.pause.addEventListener("click", () => this.#dispatch({ action: "pause", fileId: entry.id }));
    this.#parts.resume.addEventListener("click", () => this.#dispatch({ action: "resume", fileId: entry.id }));
  }

  render() {
    const entry = this.#entry;
    const { job } = entry;
    const state = stateOf(entry);
    const look = stateLook(state);
    const parts = this.#parts;
    this.element.dataset.state = state;
    this.element.dataset.tone = look.tone;
    parts.icon.setAttribute("href", `#icon-${look.icon}`);
    setText(parts.state, stateWord(state));
    setText(parts.size, entry.size === null ? "" : bytes(entry.size));
    this.#renderUpload();
    this.#renderProcess();
    setText(parts.note, noteOf(entry));
    if (job) parts.nameLink.setAttribute("href", `${base}/jobs/${encodeURIComponent(job.id)}`);
    parts.output.hidden = !job || job.attempts === 0;
    const { sending } = entry;
    parts.cancel.hidden = !(state === "queued" || state === "running" || CAN_GIVE_UP.has(sending));
    parts.pause.hidden = sending !== "sending" && sending !== "retrying";
    parts.resume.hidden = sending !== "paused" && sending !== "refused";
    parts.retry.hidden = !CAN_RETRY.has(state);
    this.#renderResults();
    this.#renderError();
    this.#output?.follow(job?.attempts ?? 0, state);
  }

  /** @param {number} serverNow */
  tick(serverNow) {
    const job = this.#entry.job;
    if (job?.state !== "running" || !job.started_at) return;
    const seconds = Math.max(0, serverNow - Date.parse(job.started_at)) / 1000;
    if (seconds >= 1) setText(this.#parts.note, [job.progress?.label && visible(job.progress.label), `for ${elapsed(seconds)}`].filter(Boolean).join(" · "));
  }

  remove() {
    this.#output?.close();
    this.element.remove();
  }

  #renderUpload() {
    const { upload, received, size } = this.#entry;
    const { uploadBar, uploadFill, uploadText } = this.#parts;
    const isBegun = isPartlySent(this.#entry);
    uploadBar.classList.toggle("indeterminate", isBegun && !size);
    setFraction(uploadFill, upload === "stored" ? 1 : size ? received / size : 0);
    setText(uploadText, uploadWords(this.#entry));
  }

  #renderProcess() {
    const { job } = this.#entry;
    const { processBar, processFill, processText } = this.#parts;
    const { value = 0, total = null } = job?.progress ?? {};
    const isRunning = job?.state === "running";
    const isMeasured = isRunning && total !== null && total > 0;
    const isOver = job !== null && !isRunning && job.state !== "queued";
    processBar.classList.toggle("indeterminate", isRunning && !isMeasured);
    setFraction(processFill, isOver ? 1 : isMeasured ? Math.min(1, value / (total ?? 1)) : 0);
    setText(processText, processWords(this.#entry));
  }

  #renderResults() {
    const { job } = this.#entry;
    const { result, results, resultList } = this.#parts;
    const total = job?.result_count ?? 0;
    result.hidden = total !== 1;
    results.hidden = total < 2;
    if (job && total === 1) result.setAttribute("href", resultUrl(job.id, job.results[0]));
    if (total < 2 && !resultList.hidden) this.#toggleResults(); // a retry removed the results
  }

  #renderError() {
    const { job } = this.#entry;
    const parts = this.#parts;
    const isFailed = job?.state === "failed";
    parts.error.hidden = errorOf(this.#entry) === "";
    setText(parts.errorText, errorOf(this.#entry));
    if (isFailed) parts.errorLink.setAttribute("href", `${api}/jobs/${encodeURIComponent(job.id)}/output`);
    parts.errorLink.hidden = !isFailed || job.attempts === 0;
    parts.errorDetails.hidden = !isFailed;
    if (isFailed) parts.errorDetails.setAttribute("href", `${base}/jobs/${encodeURIComponent(job.id)}`);
  }

  #toggleOutput() {
    const { job } = this.#entry;
    const isOpen = this.#output === null && job !== null;
    this.#parts.output.setAttribute("aria-expanded", String(isOpen));
    this.#parts.panel.hidden = !isOpen;
    if (isOpen) {
      this.#output = new OutputPanel(this.#parts.panel, this.#live, job.id);
      this.#output.follow(job.attempts, job.state);
    } else {
      this.#output?.close();
      this.#output = null;
    }
  }

  #toggleResults() {
    const { job } = this.#entry;
    const { results, resultList } = this.#parts;
    const isOpen = resultList.hidden && job !== null;
    results.setAttribute("aria-expanded", String(isOpen));
    resultList.hidden = !isOpen;
    resultList.replaceChildren();
    if (isOpen) void listResults(resultList, job);
  }

  /** @param {"cancel" | "retry"} action */
  #act(action) {
    const { id, job } = this.#entry;
    if (job) this.#dispatch({ action, jobId: job.id });
    else this.#dispatch({ action: "give-up", fileId: id });
  }

  /** @param {RowAction} detail */
  #dispatch(detail) {
    this.element.dispatchEvent(new CustomEvent("row-action", { bubbles: true, detail }));
  }
}

/** @param {HTMLElement} fill of a bar @param {number} fraction 0 to 1 */
function setFraction(fill, fraction) {
  const text = fraction.toFixed(4);
  if (fill.style.getPropertyValue("--fraction") !== text) fill.style.setProperty("--fraction", text);
}
