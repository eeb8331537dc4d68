// The config being edited: the text, the revision it is based on, and what others save in the meantime.
// Texts here have "\n" at every line end; saved bytes have the file's own line ends (lines.js). No DOM.

import { Problem, call } from "../core/api.js";
import { decode, encode } from "./lines.js";

/** @typedef {import("./lines.js").Original} Original */
/** @typedef {{etag: string, original: Original, text: string}} Revision a saved config; `text` with "\n" only */

/** @param {string} etag @param {BufferSource} bytes @returns {Revision} @throws {TypeError} the bytes are not UTF-8 */
function revisionOf(etag, bytes) {
  const original = decode(bytes);
  // A proxy may have made the tag weak, or appended a content coding: `W/"<sha>"`, `"<sha>-gzip"`.
  return { etag: etag.replace(/^(?:W\/)?"([0-9a-f]{64}).*"$/, '"$1"'), original, text: original.lines.join("\n") };
}

/** @returns {Promise<Revision>} @throws {Problem} @throws {TypeError} it is not UTF-8 */
async function newestRevision() {
  const response = await call("GET", "/config", { headers: { Accept: "application/yaml" } });
  return revisionOf(response.headers.get("ETag") ?? "", await response.arrayBuffer());
}

/**
 * Dispatches `change` (the text, the revision or a flag changed), `saved` (CustomEvent with the new revision's JSON),
 * `newer` (CustomEvent<Revision>: someone else saved; adopted because there are no edits here), `conflict`
 * (CustomEvent<Revision>: someone else saved while this text has unsaved edits), and `focus` (the editor should take it).
 */
export class ConfigDocument extends EventTarget {
  /** @type {Revision} */
  #revision = { etag: "", original: { hasBom: false, lines: [""], ends: [""] }, text: "" };
  #text = "";
  #hasNews = false;
  #isFollowing = false;
  isLoaded = false;
  isSaving = false;

  /** The entity tag of the revision that the text is based on. */
  get etag() {
    return this.#revision.etag;
  }

  /** That revision's lines and line ends. */
  get original() {
    return this.#revision.original;
  }

  /** That revision's text. */
  get base() {
    return this.#revision.text;
  }

  get text() {
    return this.#text;
  }

  get isUnsaved() {
    return this.isLoaded && this.#text !== this.base;
  }

  /** @returns {Uint8Array<ArrayBuffer>} exactly what a save would write */
  bytes() {
    return encode(this.original, this.#text);
  }

  /** Load the newest revision and drop all edits. @throws {Problem} @throws {TypeError} it is not UTF-8 */
  async load() {
    const newest = await newestRevision();
    this.isLoaded = true;
    this.adopt(newest);
  }

  /** @param {string} text the whole new text, with "\n" only; the editor makes it a single undo step */
  replaceText(text) {
    if (text === this.#text) return;
    this.#text = text;
    this.#dispatch("change");
  }

  /**
   * Base the text on another revision.
   * @param {Revision} revision
   * @param {string} [text] the new text; the revision's own unless given
   */
  adopt(revision, text = revision.text) {
    this.#revision = revision;
    this.#text = text;
    this.#dispatch("change");
  }

  /** Ask the editor to take the focus. */
  focus() {
    this.#dispatch("focus");
  }

  /**
   * Save the text. If someone else saved first, nothing is saved and `conflict` is dispatched.
   * @param {string} [message] what changed, in the author's words
   * @throws {Problem} it was not saved; status 422 with `body.errors`
   */
  async save(message = "") {
    if (!this.isUnsaved || this.isSaving) return;
    const body = this.bytes();
    /** @type {Record<string, string>} */
    const headers = { "If-Match": this.etag, "Content-Type": "application/yaml" };
    if (message) headers["Dropmill-Message"] = headerText(message);
    this.isSaving = true;
    this.#dispatch("change");
    try {
      const response = await call("PUT", "/config", { body, headers });
      this.adopt(revisionOf(response.headers.get("ETag") ?? "", body), this.#text); // keeps what was typed during the request
      this.#dispatch("saved", await response.json());
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 412) throw error;
      this.#compare(revisionOf(error.body.current_etag, new TextEncoder().encode(error.body.current)));
    } finally {
      this.isSaving = false;
      this.#dispatch("change");
      if (this.#hasNews) this.follow();
    }
  }

  /** Fetch the newest revision and dispatch `newer` or `conflict` if it is another. Does nothing while the server is away. */
  async follow() {
    this.#hasNews = true;
    if (!this.isLoaded || this.isSaving || this.#isFollowing) return; // repeated when that has ended
    this.#isFollowing = true;
    try {
      while (this.#hasNews && !this.isSaving) {
        this.#hasNews = false;
        const { etag } = this;
        const newest = await newestRevision();
        if (this.isSaving || this.etag !== etag) this.#hasNews = true; // the answer may be older than the revision here
        else this.#compare(newest);
      }
    } catch {
      // The server is away, or the config is not UTF-8: the next event or save tries again.
    } finally {
      this.#isFollowing = false;
    }
  }

  /** @param {Revision} newest */
  #compare(newest) {
    if (newest.etag === this.etag) return;
    if (this.isUnsaved) this.#dispatch("conflict", newest);
    else {
      this.adopt(newest);
      this.#dispatch("newer", newest);
    }
  }

  /** @param {string} type @param {any} [detail] */
  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Header values are bytes: a text is sent as its UTF-8, as curl does. @param {string} text */
const headerText = (text) => String.fromCharCode(...new TextEncoder().encode(text));
