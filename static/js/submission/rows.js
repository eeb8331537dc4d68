// The list of files: one row each, of which only those near the window are in the document. Sends no requests; buttons
// dispatch `row-action` (CustomEvent<RowAction>).

import { api, base, canControl, canSend, isOfLink, seesConfig } from "../core/base.js";
import { bytes, visible } from "../core/format.js";
import { t } from "../core/messages.js";
import { OutputPanel } from "../job/output.js";
import { cloneTemplate, part, setText } from "../core/page.js";
import { VirtualList } from "../core/virtual-list.js";
import { listResults } from "../job/result-list.js";
import { resultUrl } from "../job/results.js";
import { Arrangement } from "./arrange.js";
import { errorOf, isBusy, isPartlySent, noteOf, processWords, splitPath, timeOf, uploadWords } from "./row-text.js";
import { stateLook, stateOf, stateWord } from "../core/words.js";

/** @typedef {import("./model.js").Entry} Entry */
/** @typedef {import("./model.js").SubmissionModel} SubmissionModel */
/** @typedef {import("../core/live-page.js").LivePage} LivePage */
/** @typedef {{action: "cancel" | "retry", jobId: string} | {action: "pause" | "resume" | "give-up" | "continue" | "pick", fileId: string}} RowAction */

const CAN_RETRY = new Set(["failed", "cancelled"]);
/** @type {Set<string | null>} files that this page can stop sending; a running form is a single request and cannot drop one */
const CAN_GIVE_UP = new Set(["waiting", "sending", "paused", "retrying", "refused"]);
const COPIED_MS = 2000; // how long the button says so

/** The list. */
export class Rows {
  #list;
  #model;
  /** Its filter, search and order. */
  arrangement = new Arrangement();

  /** @param {HTMLElement} list @param {SubmissionModel} model @param {LivePage} page */
  constructor(list, model, page) {
    this.#model = model;
    this.#list = new VirtualList(list, {
      keyOf: (/** @type {Entry} */ entry) => entry.id,
      kindOf: (entry) => `${isBusy(entry)} ${errorOf(entry) !== null}`,
      make: (entry) => new Row(entry, page),
    });
  }

  /** @returns {number} files that are listed, with the filter */
  get length() {
    return this.#list.length;
  }

  /** Redraw the list: which files it shows, and in which order. */
  renderAll() {
    this.#list.show(this.arrangement.of(this.#model.entries));
  }

  /** Entries came or went. */
  forget() {
    this.arrangement.forget();
  }

  /** @param {Set<string>} ids of the entries that changed */
  render(ids) {
    if (this.arrangement.isMoving) this.renderAll(); // a changed file may start or stop matching the filter
    this.#list.refresh(ids);
  }

  /** Update the elapsed times of running jobs. @param {number} now ms since 1970 by the server's clock */
  tick(now) {
    for (const row of this.#list.rows) /** @type {Row} */ (row).tick(now);
  }

  /** Draw every row in the document again: what all rows depend on has changed. */
  redraw() {
    for (const row of this.#list.rows) row.render();
  }

  /** Show the row of a file, and give it the focus. @param {string} id */
  reveal(id) {
    this.#list.reveal(id);
  }

  /** @returns {string | null} id of the file whose row has the focus */
  get focused() {
    return document.activeElement?.closest("[data-file]")?.getAttribute("data-file") ?? null;
  }
}

/** One row. */
class Row {
  #entry;
  #page;
  #parts;
  /** @type {OutputPanel | null} */
  #output = null;
  element;

  /** @param {Entry} entry @param {LivePage} page */
  constructor(entry, page) {
    this.#entry = entry;
    this.#page = page;
    this.element = cloneTemplate("row-template");
    this.element.dataset.file = entry.id;
    const get = (/** @type {string} */ name) => part(this.element, name);
    this.#parts = {
      icon: /** @type {Element} */ (this.element.querySelector("use")),
      nameLink: get("name-link"), note: get("note"), size: get("size"), state: get("state"), time: get("time"), bars: get("bars"),
      uploadBar: get("upload-bar"), uploadFill: get("upload-fill"), uploadText: get("upload-text"),
      processBar: get("process-bar"), processFill: get("process-fill"), processText: get("process-text"),
      output: get("output"), cancel: get("cancel"), retry: get("retry"), pause: get("pause"), resume: get("resume"),
      continue: get("continue"), pick: get("pick"),
      result: get("result"), results: get("results"), resultList: get("result-list"),
      error: get("error"), errorText: get("error-text"), errorWords: get("error-words"), errorJob: get("error-job"),
      errorId: get("error-id"), errorCopy: get("error-copy"), errorConfig: get("error-config"), errorOutput: get("error-output"),
      errorDetails: get("error-details"), panel: get("panel"),
    };
    const parts = this.#parts;
    const name = visible(entry.path);
    const { folder, stem, end } = splitPath(entry.path);
    setText(get("folder"), folder);
    setText(get("stem"), stem);
    setText(get("end"), end);
    parts.nameLink.title = name;
    for (const action of /** @type {const} */ (["output", "result", "results", "cancel", "retry", "pause", "resume", "continue", "pick"])) {
      parts[action].setAttribute("aria-label", t(`submission.label.${action}`, { name }));
    }
    parts.output.addEventListener("click", () => this.#toggleOutput());
    parts.results.addEventListener("click", () => this.#toggleResults());
    for (const action of /** @type {const} */ (["cancel", "retry"])) parts[action].addEventListener("click", () => this.#act(action));
    for (const action of /** @type {const} */ (["pause", "resume", "continue", "pick"])) {
      parts[action].addEventListener("click", () => this.#dispatch({ action, fileId: entry.id }));
    }
    parts.errorCopy.addEventListener("click", () => this.#copyError());
  }

  /** @returns {boolean} whether it shows more than its line */
  get isKept() {
    return this.#output !== null || !this.#parts.resultList.hidden;
  }

  render() {
    const entry = this.#entry;
    const { job, sending, isBroken, canContinue } = entry;
    const state = stateOf(entry);
    const look = stateLook(state);
    const parts = this.#parts;
    const focused = document.activeElement;
    this.element.dataset.state = state;
    this.element.dataset.tone = look.tone;
    parts.icon.setAttribute("href", `#icon-${look.icon}`);
    setText(parts.state, stateWord(state));
    setText(parts.size, entry.size === null ? "" : bytes(entry.size));
    this.#renderBars();
    setText(parts.note, noteOf(entry));
    parts.note.title = parts.note.textContent ?? "";
    setText(parts.time, timeOf(entry, this.#page.now));
    if (job && !isOfLink) {
      parts.nameLink.setAttribute("href", `${base}/jobs/${encodeURIComponent(job.id)}`);
      parts.nameLink.setAttribute("aria-label", parts.nameLink.title);
    }
    parts.output.hidden = !job || job.attempts === 0;
    parts.cancel.hidden = !(canControl && (state === "queued" || state === "running")) && !CAN_GIVE_UP.has(sending);
    parts.pause.hidden = sending !== "sending" && sending !== "retrying";
    parts.resume.hidden = sending !== "paused" && sending !== "refused";
    parts.retry.hidden = !canControl || !CAN_RETRY.has(state);
    parts.continue.hidden = !canSend || !isBroken || !canContinue;
    parts.pick.hidden = !canSend || !isBroken || canContinue;
    this.#renderResults();
    this.#renderError();
    this.#renderOutput(state);
    if (focused instanceof HTMLElement && this.element.contains(focused)) this.#keepFocus(focused);
  }

  /** @param {number} now */
  tick(now) {
    if (this.#entry.job?.state === "running") setText(this.#parts.time, timeOf(this.#entry, now));
  }

  remove() {
    this.#output?.close();
  }

  /** A button that did its work hides, and the focus would jump to the top of the page. @param {HTMLElement} focused */
  #keepFocus(focused) {
    if (focused.closest("[hidden]") === null) return;
    const next = this.element.querySelector(".row-actions > :not([hidden])");
    (next instanceof HTMLElement ? next : this.element).focus({ preventScroll: true });
  }

  #renderBars() {
    const entry = this.#entry;
    const { upload, received, size, job } = entry;
    const { bars, uploadBar, uploadFill, uploadText, processBar, processFill, processText } = this.#parts;
    bars.hidden = !isBusy(entry);
    this.element.classList.toggle("busy", !bars.hidden);
    if (bars.hidden) return;
    uploadBar.classList.toggle("indeterminate", isPartlySent(entry) && !size);
    setFraction(uploadFill, upload === "stored" ? 1 : size ? received / size : 0);
    setText(uploadText, uploadWords(entry));
    const { value = 0, total = null } = job?.progress ?? {};
    const isRunning = job?.state === "running";
    const isMeasured = isRunning && total !== null && total > 0;
    processBar.classList.toggle("indeterminate", isRunning && !isMeasured);
    setFraction(processFill, isMeasured ? Math.min(1, value / (total ?? 1)) : 0);
    setText(processText, processWords(entry));
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
    const error = errorOf(this.#entry);
    parts.error.hidden = error === null;
    if (error === null) return;
    setText(parts.errorText, error.sentence);
    parts.errorWords.hidden = error.words === "";
    setText(parts.errorWords, error.words);
    parts.errorJob.hidden = job?.state !== "failed";
    if (!job || parts.errorJob.hidden) return;
    const id = encodeURIComponent(job.id);
    setText(parts.errorId, job.id);
    if (seesConfig) parts.errorConfig.setAttribute("href", `${base}/config?job=${id}`);
    parts.errorDetails.hidden = isOfLink;
    if (!isOfLink) parts.errorDetails.setAttribute("href", `${base}/jobs/${id}`);
    parts.errorOutput.setAttribute("href", `${api}/jobs/${id}/output`);
    parts.errorOutput.hidden = job.attempts === 0;
  }

  async #copyError() {
    const { errorText, errorWords, errorId, errorCopy } = this.#parts;
    const text = [visible(this.#entry.path), errorText.textContent, errorWords.textContent, errorId.textContent].filter(Boolean).join("\n");
    let word = "submission.copied";
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      word = "submission.copy_failed"; // over plain http, browsers have no clipboard: the text can be selected
      getSelection()?.selectAllChildren(this.#parts.error);
    }
    setText(errorCopy, t(word));
    setTimeout(() => setText(errorCopy, t("submission.copy")), COPIED_MS);
  }

  /** @param {string} state */
  #renderOutput(state) {
    if (!this.#output) return;
    this.#output.follow(this.#entry.job?.attempts ?? 0, state);
    if (!this.#page.isConnected) part(this.#parts.panel, "output-text").dataset.empty = t("submission.output_unknown");
  }

  #toggleOutput() {
    const { job } = this.#entry;
    const isOpen = this.#output === null && job !== null;
    this.#parts.output.setAttribute("aria-expanded", String(isOpen));
    this.#parts.panel.hidden = !isOpen;
    if (isOpen) {
      this.#output = new OutputPanel(this.#parts.panel, this.#page.live, job.id);
      this.#renderOutput(job.state);
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
