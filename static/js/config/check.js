// Has the server check the text while it is typed: at most one check at a time, always of the newest text. No DOM.

import { call } from "../core/api.js";

/** @typedef {import("./document.js").ConfigDocument} ConfigDocument */
/** @typedef {{line: number, column: number, path: string, message: string}} Finding 1-based; the column counts UTF-16 units */
/** @typedef {{errors: Finding[], warnings: Finding[]}} Report */

const CHECK_AFTER_MS = 100; // after the last key; with a check of 1,000 lines that is within a quarter of a second

/** Dispatches `report` (CustomEvent<Report>, of the current text) and `unchecked` (CustomEvent<string>: why). */
export class ConfigCheck extends EventTarget {
  #document;
  /** @type {string | null} the text that was checked last */
  #checked = null;
  #isChecking = false;
  #timer = 0;

  /** @param {ConfigDocument} document */
  constructor(document) {
    super();
    this.#document = document;
    document.addEventListener("change", () => {
      clearTimeout(this.#timer);
      this.#timer = window.setTimeout(() => this.check(), CHECK_AFTER_MS);
    });
  }

  /** Check the text now, unless this text was checked before or a check is running. */
  async check() {
    const { text } = this.#document;
    // A running check is never aborted: the server would have to kill the process that parses the text.
    if (!this.#document.isLoaded || this.#isChecking || text === this.#checked) return;
    this.#isChecking = true;
    this.#checked = text;
    try {
      const response = await call("POST", "/config/check", {
        body: this.#document.bytes(), headers: { "Content-Type": "application/yaml" },
      });
      const detail = await response.json();
      if (text === this.#document.text) this.dispatchEvent(new CustomEvent("report", { detail }));
    } catch (error) {
      this.#checked = null;
      this.dispatchEvent(new CustomEvent("unchecked", { detail: error instanceof Error ? error.message : String(error) }));
      return; // the next change retries, and so does the page when the server is back
    } finally {
      this.#isChecking = false;
    }
    this.check(); // the text may have changed during the check
  }
}
