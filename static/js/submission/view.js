// The view of one submission: connects model, rows, log and overall state to the live connection. The page that sends, a
// reloaded page and other tabs use the same view.

import { Problem, callJson, furtherFiles } from "../core/api.js";
import { api } from "../core/base.js";
import { count, visible } from "../core/format.js";
import { LogView } from "./log.js";
import { SubmissionModel } from "./model.js";
import { headline, pageTitle, safety, spoken, summary, sums } from "./overall.js";
import { announce, paced, part, setText } from "../core/page.js";
import { FILTERS } from "./row-text.js";
import { Rows } from "./rows.js";

/** @typedef {import("../core/live.js").Live} Live */
/** @typedef {import("./model.js").Entry} Entry */

const CLOCKS_EVERY_MS = 1000;
const POSITIONS_EVERY_MS = 2000; // queue positions are estimates and not pushed
const POLL_EVERY_MS = 3000; // while the socket is away

/** The view of one submission. */
export class SubmissionView {
  #root;
  #live;
  #rows;
  #log;
  #model;
  #topic;
  #skew = 0;
  /** @type {Set<string> | null} ids of entries changed since the last drawing; null: all */
  #changed = new Set();
  #askDraw = paced(() => this.#draw());
  /** @type {"going" | "held" | null} this page's sending; null: it sends nothing */
  #sending = null;
  #since = 0;

  /**
   * @param {HTMLElement} root
   * @param {Live} live
   * @param {SubmissionModel} model
   */
  constructor(root, live, model) {
    this.#root = root;
    this.#live = live;
    this.#model = model;
    this.#topic = `submission:${model.id}`;
    this.#rows = new Rows(part(root, "rows"), part(root, "more"), model, live);
    this.#log = new LogView(part(document, "log"));
    root.hidden = false;
    part(document, "log").hidden = false;
    model.addEventListener("change", (event) => this.#schedule(/** @type {CustomEvent<Set<string> | null>} */ (event).detail));
    root.addEventListener("row-action", (event) => this.#act(/** @type {CustomEvent} */ (event).detail));
    part(root, "retry-failed").addEventListener("click", () => this.#retryFailed());
    for (const button of root.querySelectorAll("[data-filter]")) {
      button.addEventListener("click", () => this.#filter(/** @type {HTMLElement} */ (button)));
    }
    this.#schedule(null);
  }

  /**
   * Follow the submission: the log shows all its events, the model folds those after `since`.
   * @param {number} since cursor of the model's state
   */
  follow(since) {
    this.#since = since;
    const live = this.#live;
    live.addEventListener("hello", (event) => {
      this.#skew = Date.parse(/** @type {CustomEvent} */ (event).detail.server_time) - Date.now();
    });
    live.addEventListener("events", (event) => this.#receive(/** @type {CustomEvent} */ (event).detail));
    live.addEventListener("progress", (event) => this.#model.progress(/** @type {CustomEvent} */ (event).detail));
    live.join(this.#topic, 0);
    setInterval(() => this.#rows.tick(Date.now() + this.#skew), CLOCKS_EVERY_MS);
    setInterval(() => this.#askPositions(), POSITIONS_EVERY_MS);
    setInterval(() => this.#poll(), POLL_EVERY_MS);
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
    const box = part(this.#root, "problem");
    box.hidden = sentence === "";
    setText(part(box, "problem-text"), sentence);
  }

  /** @param {import("../core/live.js").EventsMessage} message */
  #receive({ topic, events }) {
    if (topic !== this.#topic) return;
    this.#log.add(events);
    this.#model.fold(events.filter((event) => event.cursor > this.#since));
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
    if (changed === null) this.#rows.renderAll();
    else this.#rows.render(changed);
    this.#rows.tick(Date.now() + this.#skew);
    this.#drawOverall();
  }

  #drawOverall() {
    const model = this.#model;
    const { counts } = model;
    const total = model.entries.length;
    const { over, failed } = sums(counts);
    const size = model.bytes;
    const root = this.#root;
    root.dataset.settled = String(model.isSettled);
    setText(part(root, "headline"), headline(model));
    setText(part(root, "summary"), summary(model, this.#sending !== null));
    const isReceiving = this.#sending ? this.#sending === "going" : counts.receiving > 0;
    part(root, "wait").hidden = !isReceiving && counts.stored + counts.queued + counts.running === 0;
    const download = part(root, "download-results");
    download.hidden = !model.entries.some(({ job }) => job && job.result_count > 0);
    download.setAttribute("href", `${api}/submissions/${encodeURIComponent(model.id)}/results.zip`);
    part(root, "drop-more").hidden = this.#sending !== null; // leaving now would interrupt the sending

    const bar = part(root, "bar");
    bar.setAttribute("aria-valuemax", String(total));
    bar.setAttribute("aria-valuenow", String(over));
    bar.setAttribute("aria-valuetext", `${over} of ${total} files processed`);
    for (const [name, files] of Object.entries({ succeeded: counts.succeeded, failed, cancelled: counts.cancelled, running: counts.running })) {
      part(bar, name).style.setProperty("inline-size", `${total ? (files / total) * 100 : 0}%`);
    }
    part(bar, "sent").style.setProperty("inline-size", `${size.total ? (size.received / size.total) * 100 : 0}%`);

    setText(part(root, "safe"), safety(model, this.#sending));
    part(root, "retry-failed").hidden = counts.failed + counts.cancelled === 0;
    this.#drawFilters();
    this.#drawClient();
    const title = pageTitle(model);
    if (document.title !== title) document.title = title;
    if (total > 0) announce(spoken(model));
  }

  #drawFilters() {
    for (const button of this.#root.querySelectorAll("[data-filter]")) {
      const name = /** @type {HTMLElement} */ (button).dataset.filter ?? "all";
      setText(part(button, "filter-count"), count(this.#model.entries.filter(FILTERS[name]).length));
    }
  }

  #drawClient() {
    const { client } = this.#model;
    if (!client) return;
    const box = part(document, "client-note");
    box.hidden = false;
    setText(part(box, "ip"), visible(client.ip));
    part(box, "host-known").hidden = !client.host;
    setText(part(box, "host"), client.host ?? "");
    setText(part(box, "verified"), client.verified ? "confirmed" : "not confirmed");
    part(box, "domain-known").hidden = !client.domain;
    setText(part(box, "domain"), client.domain ?? "");
  }

  /** @param {HTMLElement} chosen */
  #filter(chosen) {
    for (const button of this.#root.querySelectorAll("[data-filter]")) button.setAttribute("aria-pressed", String(button === chosen));
    this.#rows.show(chosen.dataset.filter ?? "all");
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
    if (document.hidden || !this.#model.counts.queued) return;
    try {
      const page = await callJson("GET", `/submissions/${this.#model.id}/files?state=queued&limit=100`);
      this.#model.takePositions(new Map(page.items.map((/** @type {any} */ file) => [file.job?.id, file.job?.position ?? null])));
    } catch {
      // only an estimate; the next request follows soon
    }
  }

  async #poll() {
    if (this.#live.connection === "live" || this.#live.connection === "connecting" || this.#model.isSettled) return;
    try {
      await this.refresh();
    } catch {
      // the badge says that the server is away
    }
  }

  /**
   * Update the model from the API, in addition to the events.
   * @throws {Problem}
   */
  async refresh() {
    const isLive = () => this.#live.connection === "live";
    const submission = await callJson("GET", `/submissions/${this.#model.id}`);
    this.#model.take(submission, isLive());
    for await (const files of furtherFiles(submission)) this.#model.takeFiles(files, isLive());
  }
}
