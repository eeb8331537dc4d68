// What one attempt wrote, live: joins the stream `output:<job_id>` and shows its end.

import { api } from "./base.js";
import { paced, part, setText } from "./page.js";

/** @typedef {import("./live.js").Live} Live */
/** @typedef {import("./live.js").OutputMessage} OutputMessage */

const MAX_CHARACTERS = 400_000; // older text is one click away; a browser lays out no more without being felt
// eslint-disable-next-line no-control-regex
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g; // ECMA-48 colours and the like

/** Text as a terminal would leave it: a carriage return begins the line anew. No DOM. */
export class Screen {
  #settled = "";
  #line = "";

  /** @param {string} text */
  write(text) {
    for (const piece of text.replace(ESCAPES, "").split(/(?<=\n)|(?<=\r)(?!\n)/)) {
      if (this.#line.endsWith("\r") && piece !== "\n") this.#line = "";
      this.#line += piece;
      if (!this.#line.endsWith("\n")) continue;
      this.#settled += this.#line.replace(/\r+\n$/, "\n");
      this.#line = "";
    }
    if (this.#settled.length > MAX_CHARACTERS) {
      this.#settled = this.#settled.slice(this.#settled.indexOf("\n", this.#settled.length - MAX_CHARACTERS / 2) + 1);
    }
    if (this.#line.length > MAX_CHARACTERS) this.#line = this.#line.slice(-MAX_CHARACTERS / 2); // one without an end
  }

  /** @returns {string} */
  get text() {
    return this.#settled + this.#line.replace(/\r+$/, "");
  }
}

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

  /** @param {HTMLElement} panel @param {Live} live @param {string} jobId */
  constructor(panel, live, jobId) {
    this.#live = live;
    this.#jobId = jobId;
    this.#text = part(panel, "output-text");
    this.#hint = part(panel, "output-hint");
    part(panel, "output-link").setAttribute("href", `${api}/jobs/${encodeURIComponent(jobId)}/output`);
    live.addEventListener("output", this.#onOutput);
  }

  /** Show the newest attempt's output from its beginning. @param {number} attempt @param {string} state */
  follow(attempt, state) {
    setText(this.#hint, state === "running" ? "Live" : `Attempt ${attempt}`);
    this.#text.dataset.empty = state === "running" ? "No output yet." : "No output.";
    if (attempt === this.#attempt) return;
    this.#attempt = attempt;
    this.#screen = new Screen();
    this.#draw();
    this.#live.join(`output:${this.#jobId}`, 0);
  }

  close() {
    this.#live.removeEventListener("output", this.#onOutput);
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
