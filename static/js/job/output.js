// The live output of one attempt: joins the stream `output:<job_id>` and shows its end.

import { api } from "../core/base.js";
import { t } from "../core/messages.js";
import { paced, part, setText } from "../core/page.js";
import { problemText } from "../core/problem.js";
import { Screen } from "./screen.js";

/** @typedef {import("../core/live.js").Live} Live */
/** @typedef {import("../core/live.js").OutputMessage} OutputMessage */

/** The panel below a row. */
export class OutputPanel {
  #live;
  #jobId;
  #text;
  #hint;
  #screen = new Screen();
  #attempt = 0;
  #askDraw = paced(() => this.#draw());
  /** @param {Event} event */
  #onOutput = (event) => this.#receive(/** @type {CustomEvent<OutputMessage>} */ (event).detail);

  /** The server lets nobody follow this output: nothing shown is not nothing written. @param {Event} event */
  #onRefused = (event) => {
    const { topic, error } = /** @type {CustomEvent<{topic: string, error: {detail: string}}>} */ (event).detail;
    if (topic !== `output:${this.#jobId}`) return;
    this.#text.dataset.empty = "";
    setText(this.#hint, t("output.refused", { reason: problemText(error) }));
  };

  /** @param {HTMLElement} panel @param {Live} live @param {string} jobId */
  constructor(panel, live, jobId) {
    this.#live = live;
    this.#jobId = jobId;
    this.#text = part(panel, "output-text");
    this.#hint = part(panel, "output-hint");
    part(panel, "output-link").setAttribute("href", `${api}/jobs/${encodeURIComponent(jobId)}/output`);
    live.addEventListener("output", this.#onOutput);
    live.addEventListener("refused", this.#onRefused);
  }

  /** Show the newest attempt's output from its beginning. @param {number} attempt @param {string} state */
  follow(attempt, state) {
    setText(this.#hint, state === "running" ? t("output.live") : t("output.attempt", { number: attempt }));
    this.#text.dataset.empty = t(state === "running" ? "output.none_yet" : "output.none");
    if (attempt === this.#attempt) return;
    this.#attempt = attempt;
    this.#screen = new Screen();
    this.#draw();
    this.#live.join(`output:${this.#jobId}`, 0);
  }

  close() {
    this.#live.removeEventListener("output", this.#onOutput);
    this.#live.removeEventListener("refused", this.#onRefused);
    this.#live.leave(`output:${this.#jobId}`);
    this.#text.textContent = "";
  }

  /** @param {OutputMessage} message */
  #receive(message) {
    if (message.job_id !== this.#jobId || message.attempt < this.#attempt) return;
    if (message.offset === 0) this.#screen = new Screen();
    this.#screen.write(message.text);
    this.#askDraw();
  }

  #draw() {
    const box = this.#text;
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    setText(box, this.#screen.text);
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }
}
