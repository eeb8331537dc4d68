// The view of one submission: connects model, rows, log and overall state to the live connection. The page that sends, a
// reloaded page and other tabs use the same view.

import { Problem, callJson, furtherFiles } from "../core/api.js";
import { api, canControl } from "../core/base.js";
import { ago, count, exactTime, visible } from "../core/format.js";
import { t } from "../core/messages.js";
import { announce, paced, part, setText } from "../core/page.js";
import { whenReleased } from "../core/press.js";
import { countOf } from "./arrange.js";
import { Estimate } from "./estimate.js";
import { LogView } from "./log.js";
import { SubmissionModel } from "./model.js";
import { mountShare } from "../links/share.js";
import * as overall from "./overall.js";
import { errorOf } from "./row-text.js";
import { Rows } from "./rows.js";

/** @typedef {import("../core/live-page.js").LivePage} LivePage */
/** @typedef {import("./model.js").Entry} Entry */
/** @typedef {import("./arrange.js").Filter} Filter */
/** @typedef {import("./arrange.js").Sort} Sort */
/** @typedef {Pick<typeof overall, "verdict" | "summary" | "safety" | "pageTitle" | "spoken">} Words what is said of the whole */

const POSITIONS_EVERY_MS = 2000; // queue positions are estimates and not pushed
const POLL_EVERY_MS = 3000; // while the socket is away
const POLL_LONG_EVERY_MS = 15_000; // a submission whose files take many answers
const MANY_FILES = 1000;
const FEW_FILES = 10; // are seen at once

/** The view of one submission. */
export class SubmissionView {
  #root;
  #page;
  #rows;
  #log;
  #model;
  #topic;
  #words;
  #estimate = new Estimate();
  /** @type {Set<string> | null} ids of entries changed since the last drawing; null: all */
  #changed = new Set();
  #askDraw = paced(() => this.#draw());
  /** @type {"going" | "held" | null} this page's sending; null: it sends nothing */
  #sending = null;
  #since = 0;
  #polledAt = 0;
  #said = "";
  /** @type {Map<string, HTMLElement>} */
  #parts = new Map();

  /**
   * @param {HTMLElement} root
   * @param {LivePage} page
   * @param {SubmissionModel} model
   * @param {Words} [words]
   */
  constructor(root, page, model, words = overall) {
    this.#root = root;
    this.#page = page;
    this.#model = model;
    this.#words = words;
    this.#topic = `submission:${model.id}`;
    this.#rows = new Rows(this.#part("rows"), model, page);
    const log = optional("log");
    this.#log = log && new LogView(log, this.#topic);
    root.hidden = false;
    if (log) log.hidden = false;
    if (document.activeElement?.closest("[hidden]")) this.#focusHead(); // Submit was pressed
    model.addEventListener("change", (event) => this.#schedule(/** @type {CustomEvent<Set<string> | null>} */ (event).detail));
    root.addEventListener("row-action", (event) => this.#act(/** @type {CustomEvent} */ (event).detail));
    this.#part("retry-failed").addEventListener("click", () => this.#retryFailed());
    this.#part("jump-failed").addEventListener("click", () => this.#jumpToFailed());
    for (const button of root.querySelectorAll("[data-filter]")) {
      button.addEventListener("click", () => this.#filter(/** @type {HTMLElement} */ (button)));
    }
    this.#part("search").addEventListener("input", (event) => {
      this.#rows.arrangement.query = /** @type {HTMLInputElement} */ (event.target).value;
      this.#arrange();
    });
    this.#part("sort").addEventListener("change", (event) => {
      this.#rows.arrangement.sort = /** @type {Sort} */ (/** @type {HTMLSelectElement} */ (event.target).value);
      this.#arrange();
    });
    const share = optional("share");
    if (share) mountShare(share, model.id, () => this.#name());
    model.tick(page.now);
    this.#schedule(null);
  }

  /**
   * Follow the submission from a moment on.
   * @param {number} since cursor of the model's state
   */
  follow(since) {
    this.#since = since;
    const page = this.#page;
    const model = this.#model;
    this.#log?.begin(since);
    this.#log?.fold(since > 0 && model.isSettled);
    page.follow(this.#topic, since, {
      events: ({ events }) => {
        this.#log?.add(events);
        model.fold(events.filter(({ cursor }) => cursor > this.#since));
      },
      snapshot: (state, cursor) => this.#restart(state, cursor),
      sending: (fileIds) => model.takeSending(fileIds),
      presence: ({ watching }) => {
        const note = optional("watching");
        if (!note) return;
        note.hidden = watching === 0;
        setText(note, t("submission.watching", { n: watching }));
      },
    });
    page.onProgress((progress) => model.progress(progress));
    page.onConnection(() => this.#connectionChanged());
    page.everySecond((now) => {
      model.tick(now);
      this.#rows.tick(now);
      this.#drawTimes();
    });
    page.poll(() => this.#askPositions(), () => !document.hidden && model.counts.queued > 0, POSITIONS_EVERY_MS);
    page.poll(() => this.#poll(), () => page.isAway && !model.isSettled && navigator.onLine, POLL_EVERY_MS);
    this.#connectionChanged();
  }

  /** @param {"going" | "held" | null} sending whether this page is sending or waits for the person; null: neither */
  set sending(sending) {
    this.#sending = sending;
    this.#schedule(new Set());
  }

  /**
   * Show a problem of the whole submission.
   * @param {string} sentence "" hides it
   */
  set problem(sentence) {
    whenReleased(() => {
      this.#part("problem").hidden = sentence === "";
      setText(this.#part("problem-text"), sentence);
    });
  }

  /** Load the files behind the first ones of a long submission, while those are shown. @param {{id: string, files_next: string | null}} submission */
  async loadFiles(submission) {
    try {
      for await (const files of furtherFiles(/** @type {any} */ (submission))) this.#model.takeFiles(files);
    } catch (error) {
      this.problem = t("submission.not_listed", { reason: error instanceof Error ? error.message : String(error) });
    }
  }

  /** History before the page's cursor is gone, or this is another ledger: begin again with the state there. @param {any} state @param {number} cursor */
  #restart(state, cursor) {
    this.#since = cursor;
    this.#model.take(state);
    void this.loadFiles(state);
  }

  #connectionChanged() {
    const page = this.#page;
    if (page.live.connection === "offline") this.#model.stall();
    if (this.#log) this.#log.isConnected = page.isConnected;
    whenReleased(() => this.#rows.redraw()); // an open panel says whether its emptiness is known
    this.#schedule(new Set());
  }

  /** @param {Set<string> | null} keys */
  #schedule(keys) {
    if (keys === null || this.#changed === null) this.#changed = null;
    else for (const key of keys) this.#changed.add(key);
    this.#askDraw();
  }

  #draw() {
    const changed = this.#changed;
    this.#changed = new Set();
    if (changed === null) {
      this.#rows.forget();
      this.#rows.renderAll();
    } else this.#rows.render(changed);
    this.#drawOverall();
    this.#drawListNote();
  }

  #drawOverall() {
    const model = this.#model;
    const { counts, total, isSettled } = model;
    const { text, tone, icon } = this.#words.verdict(model, this.#sending);
    const root = this.#root;
    root.dataset.settled = String(isSettled);
    root.toggleAttribute("data-many", total > FEW_FILES);
    setText(this.#part("headline"), text);
    const mark = this.#part("verdict");
    mark.dataset.tone = tone;
    mark.dataset.icon = icon ?? "";
    if (icon && icon !== "wait") mark.querySelector("use")?.setAttribute("href", `#icon-${icon}`);
    setText(this.#part("summary"), this.#words.summary(model, this.#sending, this.#left()));
    setText(this.#part("safe"), this.#words.safety(model, this.#sending));
    this.#drawBar();
    this.#drawActions();
    this.#drawFilters();
    this.#drawClient();
    this.#drawTimes();
    const title = this.#words.pageTitle(model);
    if (document.title !== title) document.title = title;
    const sentence = total > 0 ? this.#words.spoken(model, this.#sending) : "";
    if (sentence !== this.#said) announce(sentence);
    this.#said = sentence;
    const failed = countOf(counts, "failed", total);
    this.#toggle(this.#part("jump-failed"), failed > 0 && total > FEW_FILES);
    setText(this.#part("jump-failed"), t("submission.n_failed", { n: failed }));
  }

  /** Show or hide a button. One that did its work hides, and the focus would jump to the top. @param {HTMLElement} button @param {boolean} isShown */
  #toggle(button, isShown) {
    if (!isShown && button === document.activeElement) this.#focusHead();
    button.hidden = !isShown;
  }

  #focusHead() {
    this.#part("headline").closest("h1")?.focus();
  }

  /** @returns {number | null} seconds until it settles, estimated */
  #left() {
    const { counts, bytes, total, running, isOpen } = this.#model;
    if (counts.broken || this.#sending === "held" || !this.#page.isConnected || (isOpen && !this.#sending)) return null;
    let files = overall.overOf(counts);
    for (const { job } of running) {
      const { value = 0, total: whole = null } = job?.progress ?? {};
      if (whole) files += Math.min(1, value / whole);
    }
    return this.#estimate.at(performance.now(), { bytes: bytes.received, bytesLeft: bytes.total - bytes.received, files, filesLeft: total - files });
  }

  #drawBar() {
    const { counts, total, bytes } = this.#model;
    const over = overall.overOf(counts);
    const bar = this.#part("bar");
    bar.setAttribute("aria-valuemax", String(total));
    bar.setAttribute("aria-valuenow", String(over));
    bar.setAttribute("aria-valuetext", t("submission.bar", { over, total }));
    const segments = { succeeded: counts.succeeded + counts.arrived, failed: counts.failed + counts.aborted, cancelled: counts.cancelled + counts.given_up, running: counts.running };
    for (const [name, files] of Object.entries(segments)) setShare(this.#part(`bar-${name}`), total ? files / total : 0);
    setShare(this.#part("bar-sent"), bytes.total ? bytes.received / bytes.total : 0);
  }

  #drawActions() {
    const { counts, isSettled, hasResults, id } = this.#model;
    const retry = this.#part("retry-failed");
    this.#toggle(retry, canControl && counts.failed + counts.cancelled > 0);
    setText(retry, t(counts.failed ? "submission.retry_failed" : "submission.retry_cancelled"));
    retry.classList.toggle("danger", counts.failed > 0);
    const download = this.#part("download-results");
    download.hidden = !hasResults;
    download.classList.toggle("primary", isSettled);
    download.setAttribute("href", `${api}/submissions/${encodeURIComponent(id)}/results.zip`);
    const more = optional("drop-more");
    if (more) more.hidden = this.#sending !== null; // leaving now would interrupt the sending
  }

  #drawFilters() {
    const { counts, total } = this.#model;
    for (const button of this.#root.querySelectorAll("[data-filter]")) {
      const filter = /** @type {Filter} */ (/** @type {HTMLElement} */ (button).dataset.filter);
      const files = countOf(counts, filter, total);
      setText(part(button, "filter-count"), count(files));
      const isRare = filter === "cancelled" || filter === "failed";
      /** @type {HTMLElement} */ (button).hidden = isRare && files === 0 && button.getAttribute("aria-pressed") === "false";
    }
  }

  #drawTimes() {
    const { openedAt } = this.#model;
    if (!openedAt) return;
    const time = /** @type {HTMLTimeElement} */ (this.#part("opened"));
    time.dateTime = openedAt;
    time.title = exactTime(openedAt);
    setText(time, this.#sending ? "" : ago(openedAt));
  }

  #drawListNote() {
    const { total, entries, isComplete } = this.#model;
    let note = "";
    if (!isComplete) note = t("submission.loading", { loaded: entries.length, total });
    else if (this.#rows.length === 0 && entries.length > 0) note = t("submission.no_match");
    setText(this.#part("list-note"), note);
    this.#part("list-note").hidden = note === "";
  }

  #drawClient() {
    const { client } = this.#model;
    const box = optional("client-note");
    if (!client || !box) return;
    if (this.#log) this.#log.client = client;
    box.hidden = false;
    setText(part(box, "ip"), visible(client.ip));
    part(box, "host-known").hidden = !client.host;
    setText(part(box, "host"), client.host ?? "");
    setText(part(box, "verified"), t(client.verified ? "submission.confirmed" : "submission.not_confirmed"));
    part(box, "domain-known").hidden = !client.domain;
    setText(part(box, "domain"), client.domain ?? "");
  }

  /** @returns {string} what the submission is called: its first file, and how many more */
  #name() {
    const { entries: [first], total } = this.#model;
    if (!first) return t("submission.title");
    return total > 1 ? t("upload.recent.more", { name: visible(first.path), n: total - 1 }) : visible(first.path);
  }

  /** @param {HTMLElement} chosen */
  #filter(chosen) {
    for (const button of this.#root.querySelectorAll("[data-filter]")) button.setAttribute("aria-pressed", String(button === chosen));
    this.#rows.arrangement.filter = /** @type {Filter} */ (chosen.dataset.filter);
    this.#arrange();
  }

  /** Draw the list in its new arrangement. */
  #arrange() {
    this.#rows.renderAll();
    this.#drawListNote();
    this.#drawFilters();
    announce(t("submission.shown", { n: this.#rows.length }));
  }

  /** Go to the failed file behind the one that has the focus; behind the last one to the first. */
  #jumpToFailed() {
    const files = this.#rows.arrangement.of(this.#model.entries);
    const at = files.findIndex(({ id }) => id === this.#rows.focused);
    const hasFailed = (/** @type {Entry} */ entry) => errorOf(entry) !== null;
    const found = files.slice(at + 1).find(hasFailed) ?? files.find(hasFailed);
    if (found) this.#rows.reveal(found.id);
    else this.#filter(/** @type {HTMLElement} */ (this.#root.querySelector('[data-filter="failed"]'))); // hidden by the filter
  }

  /** @param {import("./rows.js").RowAction} asked */
  async #act(asked) {
    if (!("jobId" in asked)) return; // about sending: upload-page.js handles it
    try {
      await callJson("POST", `/jobs/${asked.jobId}/${asked.action}`);
      this.problem = "";
    } catch (error) {
      // 409: the job ended, or someone else retried it, before this request; the row shows its state.
      if (error instanceof Problem && error.status !== 409) this.problem = error.message;
    }
  }

  async #retryFailed() {
    try {
      await callJson("POST", `/submissions/${this.#model.id}/retry`);
      this.problem = "";
    } catch (error) {
      if (error instanceof Problem) this.problem = error.message;
    }
  }

  async #askPositions() {
    const page = await callJson("GET", `/submissions/${this.#model.id}/files?state=queued&limit=100`);
    this.#model.takePositions(new Map(page.items.map((/** @type {any} */ file) => [file.job?.id, file.job?.position ?? null])));
  }

  async #poll() {
    const every = this.#model.total > MANY_FILES ? POLL_LONG_EVERY_MS : 0;
    if (performance.now() - this.#polledAt < every) return;
    await this.refresh();
    this.#polledAt = performance.now();
  }

  /**
   * Update the model from the API, in addition to the events.
   * @throws {Problem}
   */
  async refresh() {
    const isLive = () => this.#page.isConnected;
    const submission = await callJson("GET", `/submissions/${this.#model.id}`);
    this.#model.take(submission, isLive());
    for await (const files of furtherFiles(submission)) this.#model.takeFiles(files, isLive());
  }

  /** @param {string} name @returns {HTMLElement} a part of this view, which is looked up once */
  #part(name) {
    let found = this.#parts.get(name);
    if (!found) this.#parts.set(name, found = part(this.#root, name));
    return found;
  }
}

/** @param {string} name @returns {HTMLElement | null} a part that only some pages have */
const optional = (name) => document.querySelector(`[data-part="${name}"]`);

/** @param {HTMLElement} segment of a bar @param {number} share 0 to 1 */
function setShare(segment, share) {
  const text = `${(share * 100).toFixed(2)}%`;
  if (segment.style.getPropertyValue("inline-size") !== text) segment.style.setProperty("inline-size", text);
}
