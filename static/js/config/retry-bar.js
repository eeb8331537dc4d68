// The bar above the text that closes the loop of fail, fix, retry: why the file failed from whose page one came; after a save,
// the files that failed with an older config, and one button that queues them again.

import { base } from "../core/base.js";
import { visible } from "../core/format.js";
import { t } from "../core/messages.js";
import { announce, part, setText } from "../core/page.js";
import { released } from "../core/press.js";
import { failedInSubmission, failedRecently, retryAll } from "./failed-files.js";

/** @typedef {import("./document.js").ConfigDocument} ConfigDocument */
/** @typedef {import("./failed-files.js").FailedJob} FailedJob */
/** @typedef {{job_id: string, submission_id: string, name: string, is_failed: boolean, error: {message: string} | null}} Origin the job that one came from */

export class RetryBar {
  #root;
  #config;
  #origin;
  #button;
  /** @type {FailedJob[]} the offered ones */
  #jobs = [];
  #isBusy = false;
  #isDone = false; // it says what was queued again
  #questions = 0;

  /** @param {HTMLElement} root @param {ConfigDocument} config @param {Origin | null} origin */
  constructor(root, config, origin) {
    this.#root = root;
    this.#config = config;
    this.#origin = origin;
    this.#button = part(root, "retry-now");
    this.#button.addEventListener("click", () => this.#retry());
  }

  /**
   * Look for files that failed with a config older than the newest.
   * @param {string} [savedAt] when this page saved the newest one; without it, only the submission that one came from counts
   */
  async look(savedAt) {
    if (this.#isBusy || (!this.#origin && !savedAt)) return;
    const question = ++this.#questions;
    const newest = this.#config.etag.slice(1, -1); // an ETag is the quoted SHA-256
    try {
      const jobs = this.#origin ? await failedInSubmission(this.#origin.submission_id, newest) : await failedRecently(newest, savedAt ?? "");
      await released();
      if (question !== this.#questions || this.#isBusy) return;
      this.#jobs = jobs;
    } catch {
      return; // the server is away: the next save looks again
    }
    const wasOffered = !this.#button.hidden;
    if (savedAt) this.#isDone = false;
    if (this.#jobs.length) this.#say(t("config.retry.offer", { n: this.#jobs.length }));
    else if ((savedAt || wasOffered) && !this.#isDone) this.#root.hidden = true; // someone else has queued them again
    this.#drawButton();
  }

  /** @param {string} sentence */
  #say(sentence) {
    this.#root.hidden = false;
    setText(part(this.#root, "retry-text"), sentence);
  }

  #drawButton() {
    this.#button.hidden = this.#jobs.length === 0;
    if (this.#jobs.length) {
      setText(this.#button, t("config.retry.now", { n: this.#jobs.length }));
      this.#drawLinks(this.#jobs);
    }
  }

  /** Links back to what the jobs are part of. @param {FailedJob[]} jobs */
  #drawLinks(jobs) {
    const link = (/** @type {string} */ name, /** @type {string | null} */ address) => {
      const element = part(this.#root, name);
      element.hidden = address === null;
      if (address !== null) element.setAttribute("href", address);
    };
    const [first] = jobs;
    const isOneSubmission = jobs.every((job) => job.submission_id === first.submission_id);
    link("retry-file", jobs.length === 1 ? `${base}/jobs/${first.id}` : null);
    link("retry-submission", isOneSubmission ? `${base}/submissions/${first.submission_id}` : null);
    part(this.#root, "retry-history").hidden = isOneSubmission;
  }

  async #retry() {
    if (this.#isBusy) return;
    const jobs = this.#jobs;
    this.#isBusy = true;
    this.#button.setAttribute("aria-disabled", "true");
    const { left, reason } = await retryAll(jobs, (done) => {
      if (jobs.length > 1) this.#say(t("config.retry.going", { done, of: jobs.length }));
    });
    this.#isBusy = false;
    this.#isDone = true;
    this.#button.removeAttribute("aria-disabled");
    const sentence = left.length ? t("config.retry.partly", { n: left.length, reason: visible(reason) }) : t("config.retry.done", { n: jobs.length });
    this.#say(sentence);
    announce(sentence);
    this.#jobs = left;
    const hadFocus = document.activeElement === this.#button;
    this.#drawButton();
    if (hadFocus && this.#button.hidden) /** @type {HTMLElement | null} */ (this.#root.querySelector("a:not([hidden])"))?.focus();
  }
}
