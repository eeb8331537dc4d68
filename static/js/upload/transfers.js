// How bytes are sent: a large file in pieces (tus 1.0.0), small ones together in one form. No DOM. Each transfer is a single
// try that succeeds or throws a Problem; the queue decides whether and when to retry.

import { Problem } from "../core/api.js";
import { api } from "../core/base.js";
import { t } from "../core/messages.js";

/**
 * @typedef {object} Item
 * @property {string} path
 * @property {File} file
 * @property {Promise<FileSystemHandle | null>} [from] what was dropped: the file itself, or the folder that begins its path;
 *   undefined where the browser gives no handles
 */

/** @typedef {Item & {id: string}} Part a file with the id that the server gave it when it was announced */

const MIB = 1024 * 1024;
const PIECE_SECONDS = 4; // the most that a lost connection costs: the server keeps only whole pieces
const PIECE_MIN = 1 * MIB;
const PIECE_FIRST = 4 * MIB;
const PIECE_MAX = 16 * MIB; // is in memory while its checksum is computed
const STALL_MS = 60_000; // longer than the server's idle timeout, and than storing a file takes

/** Whether the browser lets this page compute SHA-256: only on https or loopback. */
export const canChecksum = globalThis.crypto?.subtle !== undefined;

/** The attempt was stopped by this page. */
export class Stopped extends Error {}

/** Fails a transfer without progress: a browser would wait for a dead connection for many minutes. */
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

const stalled = () => new Problem(0, { detail: t("sending.stalled") });

/** @returns {Problem} a connection that broke, or never came about */
export const disconnected = () => new Problem(0, { detail: t(globalThis.navigator?.onLine === false ? "sending.offline" : "sending.broke") });

/** Sends one file, starting at the offset that the server has. */
export class ResumableTransfer {
  #url;
  #file;
  #onProgress;
  /** @type {(reason: Error) => void} */
  #end = () => {};
  /** @type {Error | null} why `stop` was called, also while tus-js-client is loaded */
  #stopped = null;
  hasMoved = false; // whether the server took at least one piece

  /**
   * @param {string} url of the upload
   * @param {File} file
   * @param {(received: number) => void} onProgress bytes sent so far, including those that the server had before
   */
  constructor(url, file, onProgress) {
    this.#url = url;
    this.#file = file;
    this.#onProgress = onProgress;
  }

  /**
   * @returns {Promise<void>} when the server has every byte
   * @throws {Problem} the server keeps the pieces it has; status 0: the connection broke or the file could not be read
   * @throws {Stopped}
   */
  async run() {
    const { DefaultHttpStack, Upload } = await loadTus();
    if (this.#stopped) throw this.#stopped;
    await new Promise((resolve, reject) => {
      let since = performance.now();
      const watch = new Watch(() => this.#end(stalled()));
      const upload = new Upload(this.#file, {
        uploadUrl: this.#url,
        chunkSize: PIECE_FIRST,
        retryDelays: null,
        storeFingerprintForResuming: false,
        httpStack: new (withChecksums(DefaultHttpStack))(),
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
          resolve(undefined);
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

  /** Stop sending. The server keeps the pieces it has. @param {Error} [reason] what `run` throws */
  stop(reason = new Stopped()) {
    this.#stopped = reason;
    this.#end(reason);
  }
}

/**
 * Load tus-js-client. Only large files need it, so a visit without one does not pay for it.
 * @throws {Problem} it could not be loaded: the connection broke, or the server was updated since the page was opened
 */
async function loadTus() {
  try {
    return await import("../../vendor/tus.js");
  } catch {
    throw new Problem(0, { detail: t("core.part_missing") });
  }
}

/** @param {string} id of a file @returns {string} where its upload is, also once it has broken off */
export const uploadUrl = (id) => `${api}/uploads/${encodeURIComponent(id)}`;

/**
 * Have the server remove an upload and its bytes.
 * @param {string} url
 * @param {"cancelled" | "unreadable"} cause
 * @throws {Problem}
 */
export async function removeUpload(url, cause) {
  const { Upload } = await loadTus();
  try {
    await Upload.terminate(`${url}?cause=${cause}`, { retryDelays: null });
  } catch (error) {
    throw problemOf(/** @type {Error} */ (error));
  }
}

/** @param {Error & {originalResponse?: {getStatus(): number, getBody(): string} | null}} error */
function problemOf(error) {
  const response = error.originalResponse;
  if (!response) return disconnected();
  return Problem.from(response.getStatus(), response.getBody());
}

/**
 * Have each piece sent with its SHA-256 (tus checksum extension); the server drops one that does not match.
 * @param {typeof import("../../vendor/tus.js").DefaultHttpStack} DefaultHttpStack
 */
const withChecksums = (DefaultHttpStack) => class extends DefaultHttpStack {
  constructor() {
    super({});
  }

  /** @param {string} method @param {string} url */
  createRequest(method, url) {
    const request = super.createRequest(method, url);
    if (method !== "PATCH" || !canChecksum) return request;
    const send = request.send.bind(request);
    const abort = request.abort.bind(request);
    let isAborted = false; // abort() has no effect on a request before send()
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
};

/** Sends several files as one multipart form. */
export class FormTransfer {
  #url;
  #items;
  #onProgress;
  /** @type {Error} */
  #reason = new Stopped();
  #request = new XMLHttpRequest(); // fetch does not report the progress of a body

  /**
   * @param {string} submissionId
   * @param {Part[]} items
   * @param {(index: number, sent: number) => void} onProgress the file being sent, and its bytes sent so far
   */
  constructor(submissionId, items, onProgress) {
    this.#url = `${api}/submissions/${submissionId}/files`;
    this.#items = items;
    this.#onProgress = onProgress;
  }

  /**
   * @returns {Promise<void>} when the server has read every file. A browser repeats a form by itself when a kept-alive
   *   connection breaks; the caller must then ask what happened to a file that the first request had started.
   * @throws {Problem} the server keeps files that had arrived completely; status 0: the connection broke or a file could not be read
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
      request.addEventListener("error", () => reject(disconnected()));
      request.addEventListener("abort", () => reject(this.#reason));
      request.addEventListener("loadend", () => watch.end());
      request.open("POST", this.#url);
      request.setRequestHeader("Accept", "application/json");
      request.send(form);
    });
  }

  /** Stop sending. The server keeps files that have arrived completely, not the incomplete one. @param {Error} [reason] what `run` throws */
  stop(reason = new Stopped()) {
    this.#reason = reason;
    this.#request.abort();
  }

  /** @param {number} loaded bytes of the body sent so far @param {number} total bytes of the whole body */
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
 * Whether a file can still be read. After it was changed or removed it cannot; browsers report that as a network failure.
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
