// A server of one submission for the code that sends, behind `fetch` and XMLHttpRequest: it stores bytes as Dropmill does,
// and a test decides which requests fail.

import "./browser.js";

/**
 * @typedef {object} Stored
 * @property {string} id
 * @property {string} name
 * @property {string} path
 * @property {number} size
 * @property {number} received
 * @property {"announced" | "receiving" | "stored" | "aborted"} state
 * @property {string} upload_url
 * @property {string | null} fingerprint
 * @property {boolean} is_sending
 * @property {string} [cause] why it was aborted
 * @property {null} job
 */

/** @typedef {{status: number, body?: any, headers?: Record<string, string>}} Answer */
/** @typedef {{method: string, path: string, body: any, headers: Record<string, string>}} Request */

export class FakeServer {
  /** @type {Stored[]} */
  files = [];
  isOpen = true;
  /** @type {(name: "upload.started" | "upload.stored" | "upload.aborted", file: Stored) => void} called for events that the socket would bring */
  onEvent = () => {};
  /** @type {string[]} method and path of each request, in order */
  requests = [];
  running = 0;
  mostAtOnce = 0;
  /**
   * Decides about a request before the server serves it.
   * @type {(request: Request) => Answer | "break" | "lose answer" | null} break: the connection breaks; lose answer: it
   *   breaks after the request was served; null: the request is served
   */
  intercept = () => null;
  /** @type {(request: Request) => Promise<null>} holds a request back */
  delay = async () => null;

  constructor() {
    globalThis.fetch = async (address, options = {}) => {
      const { status, body } = await this.#serve({
        method: options.method ?? "GET", path: String(address), body: options.body, headers: /** @type {any} */ (options.headers ?? {}),
      });
      if (status === 0) throw new TypeError("the connection broke");
      return new Response(body === undefined ? "" : JSON.stringify(body), { status });
    };
    const serve = this.#serve.bind(this);
    /** @type {any} */ (globalThis).XMLHttpRequest = class extends FakeRequest {
      serve = serve;
    };
  }

  /** @param {Request} request @returns {Promise<Answer>} status 0: the connection breaks */
  async #serve(request) {
    const { method, path } = request;
    this.requests.push(`${method} ${path}`);
    this.running += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.running);
    await new Promise((resolve) => { setImmediate(resolve); });
    await this.delay(request);
    this.running -= 1;
    const decided = this.intercept(request);
    if (decided === "break") return { status: 0 };
    if (decided !== null && decided !== "lose answer") return decided;
    const answer = this.#answer(request);
    return decided === null ? answer : { status: 0 };
  }

  /** @param {Request} request @returns {Answer} */
  #answer({ method, path, body, headers }) {
    const [address, query] = path.replace("/api/v1", "").split("?");
    if (address.startsWith("/uploads/")) return this.#upload(method, this.files.find(({ upload_url: url }) => url === `/api/v1${address}`), body, headers, query);
    if (method === "GET" && address.endsWith("/files")) {
      const asked = new URLSearchParams(query);
      const [begin, limit] = [Number(asked.get("before") ?? 0), Number(asked.get("limit") ?? 100)];
      const end = begin + limit;
      return { status: 200, body: { items: structuredClone(this.files.slice(begin, end)), next: end < this.files.length ? String(end) : null } };
    }
    if (address.endsWith("/seal")) {
      this.isOpen = false;
      for (const file of this.files) if (file.state === "announced") this.abort(file, "cancelled");
    } else if (method === "POST" && body instanceof FormData) {
      for (const [field, file] of body) this.#store(field.replace("file:", ""), /** @type {File} */ (file).size);
    } else if (method === "POST") {
      if (!this.isOpen) return { status: 409, body: { code: "submission_sealed", detail: "The submission is sealed; open another one." } };
      for (const { name, path: folder, size, fingerprint } of JSON.parse(body).files) this.announce(name, folder, size, fingerprint);
    }
    return { status: 200, body: this.submission() };
  }

  /** @param {string} method @param {Stored | undefined} file @param {Blob} body @param {Record<string, string>} headers @param {string} [query] @returns {Answer} */
  #upload(method, file, body, headers, query) {
    const isGivenUp = method === "DELETE" && this.isOpen && file?.cause === "cut_off";
    if (!file || (file.state === "aborted" && !isGivenUp)) return { status: 410, body: { code: "upload_gone", detail: "The upload is gone." } };
    if (method === "DELETE") this.abort(file, new URLSearchParams(query).get("cause") ?? "cancelled");
    if (method === "PATCH") {
      if (Number(headers["Upload-Offset"]) !== file.received) return { status: 409, body: { code: "offset_mismatch" } };
      if (file.state === "announced") this.onEvent("upload.started", file);
      file.received += body.size;
      file.state = "receiving";
      if (file.received === file.size) this.#store(file.id, file.size);
    }
    return { status: 204, headers: { "Upload-Offset": String(file.received), "Upload-Length": String(file.size) } };
  }

  /** @param {Stored} file @param {string} cause */
  abort(file, cause) {
    Object.assign(file, { state: "aborted", cause });
    this.onEvent("upload.aborted", file);
  }

  /** @param {string} id @param {number} size */
  #store(id, size) {
    const file = this.files.find((one) => one.id === id);
    if (!file || file.state === "aborted") return;
    Object.assign(file, { state: "stored", received: size });
    this.onEvent("upload.stored", file);
  }

  /** @param {string} name @param {string} path @param {number} size @param {string | null} [fingerprint] */
  announce(name, path, size, fingerprint = null) {
    const id = `f${this.files.length}`;
    this.files.push({
      id, name, path, size, received: 0, state: size === 0 ? "stored" : "announced", upload_url: `/api/v1/uploads/${id}`, job: null,
      fingerprint, is_sending: false,
    });
  }

  /** @returns {Record<string, any>} a Submission of the API, with its first files */
  submission() {
    const files_next = this.files.length > 100 ? "100" : null;
    return { id: "s", state: this.isOpen ? "open" : "processing", opened_at: "2026-01-01T00:00:00Z", settled_at: null, client: null, files: structuredClone(this.files.slice(0, 100)), files_next };
  }

  /** @param {string} start of method and path @returns {number} requests so far that begin so */
  count(start) {
    return this.requests.filter((request) => request.startsWith(start)).length;
  }
}

/** As much of an XMLHttpRequest as the forms and tus-js-client use. */
class FakeRequest extends EventTarget {
  upload = new EventTarget();
  status = 0;
  responseText = "";
  #method = "";
  #path = "";
  /** @type {Record<string, string>} */
  #headers = {};
  /** @type {Record<string, string>} */
  #answered = {};
  #isAborted = false;
  /** @type {(request: Request) => Promise<Answer>} */
  serve = async () => ({ status: 0 });
  /** @type {(() => void) | null} */
  onload = null;
  /** @type {((error: Error) => void) | null} */
  onerror = null;

  /** @param {string} method @param {string} path */
  open(method, path) {
    [this.#method, this.#path] = [method, path];
  }

  /** @param {string} name @param {string} value */
  setRequestHeader(name, value) {
    this.#headers[name] = value;
  }

  /** @param {string} name */
  getResponseHeader(name) {
    return this.#answered[name] ?? null;
  }

  /** @param {any} body */
  async send(body) {
    const size = body instanceof FormData ? [...body.values()].reduce((sum, file) => sum + /** @type {File} */ (file).size, 0) : body?.size ?? 0;
    this.upload.dispatchEvent(Object.assign(new Event("progress"), { loaded: size, total: size, lengthComputable: true }));
    const { status, body: answer, headers = {} } = await this.serve({ method: this.#method, path: this.#path, body, headers: this.#headers });
    if (this.#isAborted) return;
    this.status = status;
    this.#answered = headers;
    this.responseText = answer === undefined ? "" : JSON.stringify(answer);
    this.#end(status === 0 ? "error" : "load");
  }

  abort() {
    if (this.#isAborted) return;
    this.#isAborted = true;
    this.#end("abort");
  }

  /** @param {"load" | "error" | "abort"} how */
  #end(how) {
    if (how === "load") this.onload?.();
    if (how === "error") this.onerror?.(new Error("the connection broke"));
    this.dispatchEvent(new Event(how));
    this.dispatchEvent(new Event("loadend"));
  }
}
