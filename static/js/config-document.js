// The config as it is edited: the text, the revision that it comes from, and how both stand to what others save.
// Texts here have "\n" at every line end; the bytes that are saved have the file's own (lines.js). No DOM.

import { Problem, call } from "./api.js";
import { decode, encode } from "./lines.js";

/** @typedef {import("./lines.js").Original} Original */
/** @typedef {{etag: string, original: Original, text: string}} Revision what somebody saved; `text` with "\n" only */

/** @param {string} etag @param {BufferSource} bytes @returns {Revision} @throws {TypeError} the bytes are no UTF-8 */
function revisionOf(etag, bytes) {
  const original = decode(bytes);
  // A proxy may have made it weak, or appended a coding: `W/"<sha>"`, `"<sha>-gzip"`.
  return { etag: etag.replace(/^(?:W\/)?"([0-9a-f]{64}).*"$/, '"$1"'), original, text: original.lines.join("\n") };
}

/** @returns {Promise<Revision>} @throws {Problem} @throws {TypeError} it is no UTF-8 */
async function newestRevision() {
  const response = await call("GET", "/config", { headers: { Accept: "application/yaml" } });
  return revisionOf(response.headers.get("ETag") ?? "", await response.arrayBuffer());
}

/**
 * Dispatches `change` (the text, the revision or a state changed), `saved` (CustomEvent with the new revision's JSON),
 * `newer` (CustomEvent<Revision>: somebody saved, and it was taken over, since nothing was edited here), `conflict`
 * (CustomEvent<Revision>: somebody saved while this text has unsaved edits), and `focus` (the text should get it).
 */
export class ConfigDocument extends EventTarget {
  /** @type {Revision} */
  #revision = { etag: "", original: { hasBom: false, lines: [""], ends: [""] }, text: "" };
  #text = "";
  #hasNews = false;
  #isFollowing = false;
  isLoaded = false;
  isSaving = false;

  /** The entity tag of the revision that the text comes from. */
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

  /** Take the newest revision, whatever was edited. @throws {Problem} @throws {TypeError} it is no UTF-8 */
  async load() {
    const newest = await newestRevision();
    this.isLoaded = true;
    this.adopt(newest);
  }

  /** @param {string} text the whole new text, with "\n" only; the editor makes it one step that can be undone */
  replaceText(text) {
    if (text === this.#text) return;
    this.#text = text;
    this.#tell("change");
  }

  /**
   * Go on from another revision.
   * @param {Revision} revision
   * @param {string} [text] what is edited from now on: their text unless given, as a merge gives it
   */
  adopt(revision, text = revision.text) {
    this.#revision = revision;
    this.#text = text;
    this.#tell("change");
  }

  /** Ask whoever shows the text to give it the focus. */
  focus() {
    this.#tell("focus");
  }

  /**
   * Save the text as it is. If somebody else saved meanwhile nothing is saved, and `conflict` says so.
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
    this.#tell("change");
    try {
      const response = await call("PUT", "/config", { body, headers });
      this.adopt(revisionOf(response.headers.get("ETag") ?? "", body), this.#text); // what was typed meanwhile stays
      this.#tell("saved", await response.json());
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 412) throw error;
      this.#meet(revisionOf(error.body.current_etag, new TextEncoder().encode(error.body.current)));
    } finally {
      this.isSaving = false;
      this.#tell("change");
      if (this.#hasNews) this.follow();
    }
  }

  /** Somebody saved, perhaps this page: look, and follow or tell. While the server is away it stays as it is. */
  async follow() {
    this.#hasNews = true;
    if (!this.isLoaded || this.isSaving || this.#isFollowing) return; // looked at when that has ended
    this.#isFollowing = true;
    try {
      while (this.#hasNews && !this.isSaving) {
        this.#hasNews = false;
        const { etag } = this;
        const newest = await newestRevision();
        if (this.isSaving || this.etag !== etag) this.#hasNews = true; // what was read may be older than what is here
        else this.#meet(newest);
      }
    } catch {
      // Away, or no UTF-8 any more: the next event or the next save says it again.
    } finally {
      this.#isFollowing = false;
    }
  }

  /** @param {Revision} newest */
  #meet(newest) {
    if (newest.etag === this.etag) return;
    if (this.isUnsaved) this.#tell("conflict", newest);
    else {
      this.adopt(newest);
      this.#tell("newer", newest);
    }
  }

  /** @param {string} type @param {any} [detail] */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** A header holds bytes: any text goes through as its UTF-8, which is what curl sends too. @param {string} text */
const headerText = (text) => String.fromCharCode(...new TextEncoder().encode(text));
