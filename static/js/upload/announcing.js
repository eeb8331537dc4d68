// Names files to the server, and reads what it knows of them: a page of its list at a time, never all of it for a few. No DOM.

import { Problem, callJson } from "../core/api.js";
import { fingerprintOf } from "./fingerprint.js";
import { inParallel } from "./parallel.js";

/** @typedef {import("./transfers.js").Item} Item */
/** @typedef {import("../submission/model.js").Entry} Entry */
/** @typedef {import("../submission/model.js").SubmissionModel} SubmissionModel */

export const ANNOUNCED_AT_ONCE = 1000; // the API's limit
const FIRST = 100; // the answer lists as many; with more, reading their fingerprints would delay it

/**
 * @param {Item[]} items
 * @returns {Promise<Record<string, any>>} a new, open submission; the first files are announced in it
 */
export const openSubmission = async (items) => callJson("POST", "/submissions", await announcement(items.slice(0, FIRST)));

/** @param {Item[]} items */
async function announcement(items) {
  const files = await inParallel(items, async ({ path, file }) => {
    const fingerprint = await fingerprintOf(file);
    return { name: path.slice(path.lastIndexOf("/") + 1), path, size: file.size, type: file.type, fingerprint };
  });
  return { files };
}

/** @param {string} submissionId @returns {Promise<boolean>} whether files can still be sent to it; true while nobody can be asked */
export async function isOpen(submissionId) {
  try {
    return (await callJson("GET", `/submissions/${submissionId}`)).state === "open";
  } catch (error) {
    return !(error instanceof Problem && error.status === 404);
  }
}

/** The list of a submission's files on the server. */
export class Roll {
  #model;
  /** @type {Map<string, string>} the page of the list that a file was read from, by its id */
  #pages = new Map();
  #newest = ""; // the last page that was read; "": the first one
  /** @type {Set<Entry>} that belong to a file of this page */
  #taken = new Set();

  /** @param {SubmissionModel} model */
  constructor(model) {
    this.#model = model;
  }

  /** @param {Item[]} items at most ANNOUNCED_AT_ONCE */
  async announce(items) {
    await callJson("POST", `/submissions/${this.#model.id}/files`, await announcement(items));
  }

  /** Read what was added to the list since it was read last. */
  async readNew() {
    for (;;) {
      const next = await this.#read(this.#newest);
      if (!next) return;
      this.#newest = next;
    }
  }

  /** Read the newest state of some files. @param {Entry[]} entries */
  async readAgain(entries) {
    if (entries.some(({ id }) => !this.#pages.has(id))) {
      this.#newest = "";
      await this.readNew();
    } else {
      for (const page of new Set(entries.map(({ id }) => this.#pages.get(id) ?? ""))) await this.#read(page);
    }
  }

  /** @param {string} page @returns {Promise<string | null>} the next one; null: there is none yet */
  async #read(page) {
    const before = page && `&before=${encodeURIComponent(page)}`;
    const { items, next } = await callJson("GET", `/submissions/${this.#model.id}/files?limit=${ANNOUNCED_AT_ONCE}${before}`);
    this.#model.takeFiles(items, true);
    for (const { id } of items) this.#pages.set(id, page);
    return next;
  }

  /** Let no other file take an entry. @param {Entry} entry */
  take(entry) {
    this.#taken.add(entry);
  }

  /**
   * @param {Item[]} items
   * @returns {Promise<(Entry | null)[]>} the entry that the server made for each; null: it has not been announced
   */
  async match(items) {
    /** @type {Map<string, Entry[]>} */
    const free = new Map();
    for (const entry of this.#model.entries) {
      const isNew = entry.upload === "announced" ? entry.received === 0 : entry.size === 0; // empty files are stored when announced
      if (!isNew || entry.upload === "aborted" || this.#taken.has(entry)) continue;
      const same = free.get(entry.path);
      if (same) same.push(entry);
      else free.set(entry.path, [entry]);
    }
    const prints = await inParallel(items, ({ path, file }) => (free.has(path) ? fingerprintOf(file) : Promise.resolve(null)));
    return items.map(({ path, file }, index) => {
      const same = free.get(path) ?? [];
      const print = prints[index];
      const at = same.findIndex((entry) => entry.size === file.size && !this.#taken.has(entry)
        && (entry.fingerprint === null || print === null || entry.fingerprint === print));
      if (at < 0) return null;
      const [entry] = same.splice(at, 1);
      this.#taken.add(entry);
      return entry;
    });
  }
}
