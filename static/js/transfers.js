// How bytes travel: a large file piece by piece (tus 1.0.0), small ones together in one form. No DOM. Each transfer is
// one attempt, which ends well or with a Problem; whether and when there is another is the queue's business.

import { DefaultHttpStack, Upload } from "../vendor/tus.js";
import { Problem } from "./api.js";
import { api } from "./base.js";

/** @typedef {{path: string, file: File}} Item */
/** @typedef {Item & {id: string}} Part a file with the id that the server gave it when it was announced */

const MIB = 1024 * 1024;
const PIECE_SECONDS = 4; // what a cut costs at most: a piece counts only when it has come whole
const PIECE_MIN = 1 * MIB;
const PIECE_FIRST = 4 * MIB;
const PIECE_MAX = 16 * MIB; // is held in memory while its fingerprint is made
const STALL_MS = 60_000; // longer than the server waits for a byte, and than it takes to store a file

/** Whether browsers let this page compute SHA-256: only on https or loopback. */
export const canFingerprint = globalThis.crypto?.subtle !== undefined;

/** The attempt was stopped by this page. */
export class Stopped extends Error {}

/** Fails an attempt when nothing moves any more: a browser would wait for a dead connection for many minutes. */
class Watch {
  #timer = 0;
  #onStall;

  /** @param {() => void} onStall */
  constructor(onStall) {
    this.#onStall = onStall;
    this.moved();
  }

  moved() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#onStall, STALL_MS);
  }

  end() {
    clearTimeout(this.#timer);
  }
}

const stalled = () => new Problem(0, { detail: "Nothing got through for a minute." });

/** Sends one file from where the server stands. */
export class ResumableTransfer {
  #url;
  #file;
  #onProgress;
  /** @type {(reason: Error) => void} */
  #end = () => {};
  hasMoved = false; // whether the server took at least one piece

  /**
   * @param {string} url of the upload
   * @param {File} file
   * @param {(received: number) => void} onProgress bytes handed over; at first those that the server has
   */
  constructor(url, file, onProgress) {
    this.#url = url;
    this.#file = file;
    this.#onProgress = onProgress;
  }

  /**
   * @returns {Promise<void>} when the server has every byte
   * @throws {Problem} what has come stays; status 0: the connection broke or the file could not be read
   * @throws {Stopped}
   */
  run() {
    return new Promise((resolve, reject) => {
      let since = performance.now();
      const watch = new Watch(() => this.#end(stalled()));
      const upload = new Upload(this.#file, {
        uploadUrl: this.#url,
        chunkSize: PIECE_FIRST,
        retryDelays: null,
        storeFingerprintForResuming: false,
        httpStack: new FingerprintingStack(),
        onProgress: (sent) => {
          watch.moved();
          this.#onProgress(sent);
        },
        onChunkComplete: (size) => {
          this.hasMoved = true;
          const now = performance.now();
          const wanted = (size / Math.max(1, now - since)) * 1000 * PIECE_SECONDS;
          upload.options.chunkSize = Math.round(Math.min(PIECE_MAX, Math.max(PIECE_MIN, wanted)));
          since = now;
        },
        onSuccess: () => {
          watch.end();
          resolve();
        },
        onError: (error) => {
          watch.end();
          reject(problemOf(error));
        },
      });
      this.#end = (reason) => {
        watch.end();
        void upload.abort();
        reject(reason);
      };
      upload.start();
    });
  }

  /** Stop sending. What the server has taken stays. */
  stop() {
    this.#end(new Stopped());
  }
}

/**
 * Have the server remove an upload and what has come of it.
 * @param {string} url
 * @throws {Problem}
 */
export async function removeUpload(url) {
  try {
    await Upload.terminate(url, { retryDelays: null });
  } catch (error) {
    throw problemOf(/** @type {Error} */ (error));
  }
}

/** @param {Error & {originalResponse?: {getStatus(): number, getBody(): string} | null}} error */
function problemOf(error) {
  const response = error.originalResponse;
  if (!response) return new Problem(0, { detail: "The connection broke." });
  return Problem.from(response.getStatus(), response.getBody());
}

/** Gives each piece its SHA-256 (tus checksum extension); the server drops one that does not match. */
class FingerprintingStack extends DefaultHttpStack {
  constructor() {
    super({});
  }

  /** @param {string} method @param {string} url */
  createRequest(method, url) {
    const request = super.createRequest(method, url);
    if (method !== "PATCH" || !canFingerprint) return request;
    const send = request.send.bind(request);
    const abort = request.abort.bind(request);
    let isAborted = false; // aborting has no effect on a request that was not sent yet
    request.abort = () => {
      isAborted = true;
      return abort();
    };
    request.send = async (/** @type {Blob} */ piece) => {
      const digest = await crypto.subtle.digest("SHA-256", await piece.arrayBuffer());
      if (isAborted) throw new Stopped();
      request.setHeader("Upload-Checksum", `sha256 ${btoa(String.fromCharCode(...new Uint8Array(digest)))}`);
      return send(piece);
    };
    return request;
  }
}

/** Sends several files as one multipart form. */
export class FormTransfer {
  #url;
  #items;
  #onProgress;
  #request = new XMLHttpRequest(); // fetch does not tell how much of a body was sent

  /**
   * @param {string} submissionId
   * @param {Part[]} items
   * @param {(index: number, sent: number) => void} onProgress the file being sent, and its bytes so far
   */
  constructor(submissionId, items, onProgress) {
    this.#url = `${api}/submissions/${submissionId}/files`;
    this.#items = items;
    this.#onProgress = onProgress;
  }

  /**
   * @returns {Promise<void>} when the server has read every file. A browser sends a form again by itself when a kept
   *   connection breaks; a file that the first one had begun then depends on that one, and must be asked about.
   * @throws {Problem} files whose last byte had arrived stay; status 0: the connection broke or one could not be read
   * @throws {Stopped}
   */
  run() {
    const form = new FormData();
    for (const { id, path, file } of this.#items) form.append(`file:${id}`, file, path);
    const request = this.#request;
    return new Promise((resolve, reject) => {
      const watch = new Watch(() => {
        reject(stalled());
        request.abort();
      });
      request.upload.addEventListener("progress", (event) => {
        watch.moved();
        this.#progress(event.loaded, event.total);
      });
      request.addEventListener("load", () => {
        if (request.status < 300) resolve();
        else reject(Problem.from(request.status, request.responseText));
      });
      request.addEventListener("error", () => reject(new Problem(0, { detail: "The connection broke." })));
      request.addEventListener("abort", () => reject(new Stopped()));
      request.addEventListener("loadend", () => watch.end());
      request.open("POST", this.#url);
      request.setRequestHeader("Accept", "application/json");
      request.send(form);
    });
  }

  /** Stop sending. Files whose last byte has arrived stay; the one that is cut off does not. */
  stop() {
    this.#request.abort();
  }

  /** @param {number} loaded bytes of the body handed over @param {number} total bytes of the whole body */
  #progress(loaded, total) {
    // The body is parts one after another, each a short header and its file.
    const size = this.#items.reduce((sum, { file }) => sum + file.size, 0);
    const header = (total - size) / (this.#items.length + 1);
    let begin = 0;
    let index = 0;
    while (index < this.#items.length - 1 && begin + header + this.#items[index].file.size < loaded) {
      begin += header + this.#items[index].file.size;
      index += 1;
    }
    const sent = Math.floor(loaded - begin - header);
    this.#onProgress(index, Math.max(0, Math.min(this.#items[index].file.size, sent)));
  }
}

/**
 * Whether a file can still be read: one that was changed or removed since it was chosen cannot, and browsers report
 * that as if the network had failed.
 * @param {File} file
 * @returns {Promise<boolean>}
 */
export async function canRead(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
