// The files that a person has chosen and not yet submitted: what can be sent, what cannot and why, in which order. No DOM.

import { language } from "../core/messages.js";
import { check } from "./checks.js";

/** @typedef {import("./transfers.js").Item} Item */
/** @typedef {import("./checks.js").Rules} Rules */

/**
 * @typedef {object} Choice one chosen file
 * @property {string} key
 * @property {Item} item
 * @property {string} folder "", or a path that ends in a slash
 * @property {string} name without its folder
 * @property {string} problem why it cannot be sent; "" if it can
 */

const collator = new Intl.Collator(language, { numeric: true });

/** By folder, then by name; numbers in them by value. @param {Choice} one @param {Choice} other */
const byName = (one, other) => (one.folder === other.folder ? 0 : collator.compare(one.folder, other.folder))
  || collator.compare(one.name, other.name);

/** @type {Record<string, (one: Choice, other: Choice) => number>} */
const ORDERS = { name: byName, size: (one, other) => other.item.file.size - one.item.file.size || byName(one, other) };

/** @param {Choice[]} choices */
const sizeOf = (choices) => choices.reduce((sum, { item }) => sum + item.file.size, 0);

/** Files chosen and not yet submitted. */
export class Chosen {
  #rules;
  /** @type {Choice[]} in the order in which they were added */
  #choices = [];
  #order = "name";
  #lastKey = 0;
  /** @type {Choice[] | null} */
  #rows = null;

  /** @param {Rules} rules */
  constructor(rules) {
    this.#rules = rules;
  }

  /** @returns {Choice[]} as they are listed: first those that cannot be sent */
  get rows() {
    this.#rows ??= [...this.bad, ...this.good.sort(ORDERS[this.#order])];
    return this.#rows;
  }

  /** @returns {Choice[]} those that can be sent */
  get good() {
    return this.#choices.filter(({ problem }) => problem === "");
  }

  /** @returns {Choice[]} those that cannot be sent */
  get bad() {
    return this.#choices.filter(({ problem }) => problem !== "");
  }

  /** @returns {number} bytes of those that can be sent */
  get size() {
    return sizeOf(this.good);
  }

  /** @returns {Item[]} what can be sent, in the listed order */
  get items() {
    return this.rows.filter(({ problem }) => problem === "").map(({ item }) => item);
  }

  /** @returns {string} `name` or `size` */
  get order() {
    return this.#order;
  }

  /** @param {string} order */
  set order(order) {
    this.#order = order;
    this.#rows = null;
  }

  /**
   * @param {Item[]} items
   * @param {boolean} [isPasted] one with a taken name gets another: browsers call every pasted picture the same
   * @returns {string[]} paths of those that were chosen before: the same file, not only the same name
   */
  add(items, isPasted = false) {
    /** @type {Map<string, File[]>} */
    const known = new Map();
    const remember = (/** @type {string} */ path, /** @type {File} */ file) => known.set(path, [...(known.get(path) ?? []), file]);
    for (const { item } of this.#choices) remember(item.path, item.file);
    const again = [];
    const fresh = [];
    for (const item of items) {
      if (known.get(item.path)?.some((file) => isSame(file, item.file))) {
        again.push(item.path);
        continue;
      }
      const path = isPasted ? free(item.path, known) : item.path;
      remember(path, item.file);
      const end = path.lastIndexOf("/") + 1;
      this.#lastKey += 1;
      fresh.push({ key: String(this.#lastKey), item: { ...item, path }, folder: path.slice(0, end), name: path.slice(end), problem: "" });
    }
    this.#choices = [...this.#choices, ...fresh.sort(byName)];
    this.#check();
    return again;
  }

  /** @param {Choice[]} choices */
  remove(choices) {
    const gone = new Set(choices);
    this.#choices = this.#choices.filter((choice) => !gone.has(choice));
    this.#check();
  }

  #check() {
    const problems = check(this.#rules, this.#choices.map(({ item }) => item));
    this.#choices.forEach((choice, at) => { choice.problem = problems[at]; });
    this.#rows = null;
  }
}

/** @param {File} one @param {File} other */
const isSame = (one, other) => one === other || (one.size === other.size && one.lastModified === other.lastModified);

/**
 * @param {string} path
 * @param {Map<string, unknown>} taken
 * @returns {string} the path, or the first of `image (2).png`, `image (3).png` that is not taken
 */
function free(path, taken) {
  const dot = path.lastIndexOf(".");
  const end = dot > 0 ? dot : path.length;
  let free = path;
  for (let number = 2; taken.has(free); number += 1) free = `${path.slice(0, end)} (${number})${path.slice(end)}`;
  return free;
}
