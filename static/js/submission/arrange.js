// Which files the list shows, and in which order. No DOM.

import { language } from "../core/messages.js";
import { stateOf } from "../core/words.js";

/** @typedef {import("./model.js").Entry} Entry */
/** @typedef {import("./model.js").Counts} Counts */
/** @typedef {"all" | "working" | "waiting" | "failed" | "succeeded" | "cancelled"} Filter */
/** @typedef {"sent" | "name" | "size" | "duration" | "failed"} Sort */

/** @type {Record<Exclude<Filter, "all">, (keyof Counts)[]>} each state is in one of them */
export const FILTER_STATES = {
  working: ["receiving", "retrying", "running"],
  waiting: ["announced", "paused", "broken", "stored", "queued"],
  failed: ["failed", "refused", "aborted"],
  succeeded: ["succeeded", "arrived"],
  cancelled: ["cancelled", "given_up"],
};

/** @type {Map<string, Filter>} */
const FILTER_OF = new Map(Object.entries(FILTER_STATES).flatMap(([filter, states]) => states.map((state) => [state, /** @type {Filter} */ (filter)])));

/** @param {Entry} entry @returns {Filter} besides `all` */
export const filterOf = (entry) => FILTER_OF.get(stateOf(entry)) ?? "waiting";

/** @param {Counts} counts @param {Filter} filter @param {number} total @returns {number} files that a filter shows */
export const countOf = (counts, filter, total) => (filter === "all" ? total : FILTER_STATES[filter].reduce((sum, state) => sum + counts[state], 0));

const natural = new Intl.Collator(language, { numeric: true });
/** @type {Filter[]} */
const BY_TROUBLE = ["failed", "cancelled", "working", "waiting", "succeeded"];

/** @type {Record<Sort, ((one: Entry, other: Entry) => number) | null>} null: the submission's order */
const SORTS = {
  sent: null,
  name: (one, other) => natural.compare(one.path, other.path),
  size: (one, other) => (other.size ?? -1) - (one.size ?? -1),
  duration: (one, other) => (other.job?.duration ?? -1) - (one.job?.duration ?? -1),
  failed: (one, other) => BY_TROUBLE.indexOf(filterOf(one)) - BY_TROUBLE.indexOf(filterOf(other)),
};

/** The files of a list, with a filter, a search and an order. */
export class Arrangement {
  /** @type {Filter} */
  filter = "all";
  /** @type {Sort} */
  sort = "sent";
  #query = "";
  /** @type {Map<Entry, string>} names as they are compared */
  #folded = new Map();
  /** @type {Entry[] | null} all in the order of their names, which only other entries change */
  #byName = null;

  /** @param {string} query a part of the path; case does not matter */
  set query(query) {
    this.#query = fold(query.trim());
  }

  /** Entries came or went. */
  forget() {
    this.#byName = null;
  }

  /** @returns {boolean} whether events can change which files are shown, or their order */
  get isMoving() {
    return this.filter !== "all" || this.sort === "size" || this.sort === "duration" || this.sort === "failed";
  }

  /** @param {Entry[]} entries of the submission, in its order @returns {Entry[]} */
  of(entries) {
    const isAll = this.filter === "all" && this.#query === "";
    const chosen = isAll ? entries : entries.filter((entry) => this.#shows(entry));
    const compare = SORTS[this.sort];
    if (compare === null) return chosen;
    if (this.sort !== "name") return [...chosen].sort(compare); // equal ones stay in the submission's order
    if (!this.#byName) this.#byName = [...entries].sort(compare);
    if (isAll) return this.#byName;
    const shown = new Set(chosen);
    return this.#byName.filter((entry) => shown.has(entry));
  }

  /** @param {Entry} entry */
  #shows(entry) {
    if (this.filter !== "all" && filterOf(entry) !== this.filter) return false;
    if (this.#query === "") return true;
    let name = this.#folded.get(entry);
    if (name === undefined) {
      name = fold(entry.path);
      this.#folded.set(entry, name);
    }
    return name.includes(this.#query);
  }
}

/** @param {string} text @returns {string} without case, and composed: systems store "ü" in two ways */
const fold = (text) => text.normalize("NFC").toLocaleLowerCase(language);
