// Sends files into an open submission. No DOM. One multipart request carries them all, in their order; how the bytes
// travel is known here alone.

import { Problem, callJson } from "./api.js";

/** @typedef {{path: string, file: File}} Item */
/** @typedef {{index: number, sent: number, total: number, speed: number}} Sent the file being sent, its bytes so far, all bytes so far */

const SPEED_OVER_S = 3; // long enough to read the number, short enough to follow a change

/** @returns {Promise<Record<string, any>>} a new, open submission without files */
export const openSubmission = () => callJson("POST", "/submissions", { files: [] });

/** @param {string} id */
export const sealSubmission = (id) => callJson("POST", `/submissions/${id}/seal`);

/** Dispatches `progress` (CustomEvent<Sent>). */
export class Upload extends EventTarget {
  #url;
  #items;
  #request = new XMLHttpRequest(); // fetch does not tell how much of a body was sent
  #speed = 0;
  #last = { at: 0, loaded: 0 };

  /** @param {string} submissionId @param {Item[]} items */
  constructor(submissionId, items) {
    super();
    this.#url = `/api/v1/submissions/${submissionId}/files`;
    this.#items = items;
  }

  /**
   * @returns {Promise<Record<string, any>>} the Submission, once the server has answered that every file is stored
   * @throws {Problem} what was stored before stays stored; status 0: the connection broke or a file could not be read
   */
  send() {
    const form = new FormData();
    for (const { path, file } of this.#items) form.append("file", file, path);
    const request = this.#request;
    return new Promise((resolve, reject) => {
      request.upload.addEventListener("progress", (event) => this.#progress(event.loaded, event.total));
      request.addEventListener("load", () => {
        if (request.status < 300) resolve(JSON.parse(request.responseText));
        else reject(Problem.from(request.status, request.responseText));
      });
      request.addEventListener("error", () => {
        reject(new Problem(0, { detail: "The connection broke, or a file was changed or can no longer be read." }));
      });
      request.addEventListener("abort", () => reject(new Problem(0, { detail: "You stopped sending." })));
      request.open("POST", this.#url);
      request.setRequestHeader("Accept", "application/json");
      this.#last = { at: performance.now(), loaded: 0 };
      request.send(form);
    });
  }

  /** Stop sending. Files whose last byte has arrived stay. */
  abort() {
    this.#request.abort();
  }

  /** @param {number} loaded bytes of the body handed over @param {number} total bytes of the whole body */
  #progress(loaded, total) {
    const now = performance.now();
    const seconds = (now - this.#last.at) / 1000;
    if (seconds > 0) {
      const weight = this.#speed === 0 ? 1 : 1 - Math.exp(-seconds / SPEED_OVER_S);
      this.#speed += weight * ((loaded - this.#last.loaded) / seconds - this.#speed);
      this.#last = { at: now, loaded };
    }
    // The body is parts one after another, each a short header and its file.
    const size = this.#items.reduce((sum, { file }) => sum + file.size, 0);
    const header = (total - size) / (this.#items.length + 1);
    let begin = 0;
    let index = 0;
    while (index < this.#items.length - 1 && begin + header + this.#items[index].file.size < loaded) {
      begin += header + this.#items[index].file.size;
      index += 1;
    }
    const sent = Math.max(0, Math.min(this.#items[index].file.size, Math.floor(loaded - begin - header)));
    this.dispatchEvent(new CustomEvent("progress", { detail: { index, sent, total: Math.min(loaded, size), speed: this.#speed } }));
  }
}
