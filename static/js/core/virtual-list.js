// A list of any length of which only the rows near the window are in the document (about 60). Rows may differ in height and
// change it. The page or any box around the list may scroll. row-layout.js computes which rows there are.

import { RowLayout } from "./row-layout.js";

/**
 * @typedef {object} Row what the list shows of an item
 * @property {HTMLElement} element an `<li tabindex="-1">`
 * @property {() => void} render update it from its item
 * @property {() => void} remove release what it holds; the list removes the element
 * @property {boolean} [isKept] whether it stays in the document when it is out of sight, as with an open panel
 */

/**
 * @template T
 * @typedef {object} Options
 * @property {(item: T) => string} keyOf
 * @property {(item: T) => string} [kindOf] items of one kind have rows of the same height, mostly
 * @property {(item: T) => Row} make
 */

const SPARE = 18; // rows above and below the window
const MOST = 150; // rows in the document, whatever their heights

/**
 * The list.
 * @template T
 */
export class VirtualList {
  #list;
  #options;
  /** @type {T[]} */
  #items = [];
  #layout = new RowLayout();
  /** @type {Map<string, Row>} rows in the document */
  #rows = new Map();
  /** @type {Map<Element, string>} */
  #keys = new Map();
  #isAsked = false;
  #width = 0;
  #sizes = new ResizeObserver((changes) => this.#measure(changes));

  /**
   * @param {HTMLElement} list an `<ol role="list">` without other children
   * @param {Options<T>} options
   */
  constructor(list, options) {
    this.#list = list;
    this.#options = options;
    list.tabIndex = -1; // has the focus when its last row goes
    this.#sizes.observe(list);
    addEventListener("scroll", () => this.#ask(), { capture: true, passive: true });
    addEventListener("resize", () => this.#ask());
  }

  /** Show these items in this order. @param {T[]} items each key once */
  show(items) {
    const { keyOf, kindOf } = this.#options;
    const focused = this.#focusedKey();
    const index = focused === null ? -1 : this.#layout.indexOf(focused);
    this.#items = items;
    this.#layout.arrange(items.map(keyOf), kindOf ? items.map(kindOf) : items.map(() => ""));
    if (focused !== null && this.#layout.indexOf(focused) < 0) this.#list.focus({ preventScroll: true }); // its row goes
    for (const row of this.#rows.values()) row.render();
    this.#update();
    if (focused !== null && this.#layout.indexOf(focused) < 0 && items.length) this.reveal(keyOf(items[Math.min(index, items.length - 1)]));
  }

  /** Redraw the rows of items that have changed. @param {Iterable<string>} keys */
  refresh(keys) {
    const { kindOf } = this.#options;
    let hasMoved = false;
    for (const key of keys) {
      const index = this.#layout.indexOf(key);
      if (index < 0) continue;
      if (kindOf) this.#layout.change(index, kindOf(this.#items[index]));
      this.#rows.get(key)?.render();
      hasMoved ||= kindOf !== undefined;
    }
    if (hasMoved) this.#ask();
  }

  /** @returns {IterableIterator<Row>} those in the document */
  get rows() {
    return this.#rows.values();
  }

  /** @param {string} key @returns {Row | undefined} if it is in the document */
  row(key) {
    return this.#rows.get(key);
  }

  /** @returns {number} how many items there are */
  get length() {
    return this.#items.length;
  }

  /** Bring a row into sight and give it the focus. @param {string} key of an item */
  reveal(key) {
    const index = this.#layout.indexOf(key);
    if (index < 0) return;
    this.#update(index);
    const element = this.#rows.get(key)?.element;
    element?.focus({ preventScroll: true });
    element?.scrollIntoView({ block: "nearest" });
  }

  /** @returns {string | null} key of the row that holds the focus */
  #focusedKey() {
    const child = [...this.#keys].find(([element]) => element.contains(document.activeElement));
    return child ? child[1] : null;
  }

  #ask() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    requestAnimationFrame(() => {
      this.#isAsked = false;
      this.#update();
    });
  }

  /** @param {ResizeObserverEntry[]} changes */
  #measure(changes) {
    let hasMoved = false;
    for (const { target, borderBoxSize: [size] } of changes) {
      const key = this.#keys.get(target);
      if (key !== undefined) {
        hasMoved = this.#layout.measure(key, size.blockSize) || hasMoved;
      } else if (target === this.#list && size.inlineSize !== this.#width) {
        this.#width = size.inlineSize;
        this.#layout.forget();
        for (const { element } of this.#rows.values()) { // report each height again
          this.#sizes.unobserve(element);
          this.#sizes.observe(element);
        }
        hasMoved = true;
      }
    }
    if (hasMoved) this.#update();
  }

  /** Put those rows into the document that belong there. @param {number} [wanted] index of another one */
  #update(wanted = -1) {
    const layout = this.#layout;
    const { top } = this.#list.getBoundingClientRect();
    let { first, end } = layout.range(-top, innerHeight - top, SPARE);
    end = Math.min(end, first + MOST);
    const shown = new Set();
    for (let index = first; index < end; index += 1) shown.add(index);
    if (wanted >= 0) shown.add(wanted);
    const focused = this.#focusedKey();
    for (const [key, row] of this.#rows) {
      if (row.isKept || key === focused) shown.add(layout.indexOf(key));
    }
    shown.delete(-1);
    const indices = [...shown].sort((one, other) => one - other);
    this.#removeAllBut(new Set(indices.map((index) => layout.keyAt(index))));
    this.#place(indices);
  }

  /** @param {Set<string>} keys */
  #removeAllBut(keys) {
    for (const [key, row] of this.#rows) {
      if (keys.has(key)) continue;
      this.#sizes.unobserve(row.element);
      row.remove();
      row.element.remove();
      this.#rows.delete(key);
      this.#keys.delete(row.element);
    }
  }

  /**
   * Bring the rows into order. Margins stand for the rows that are not in the document.
   * @param {number[]} indices of all rows that belong there, ascending
   */
  #place(indices) {
    const layout = this.#layout;
    const size = String(layout.length);
    /** @type {Element | null} */
    let next = this.#list.firstElementChild;
    let above = 0; // end of the row before
    indices.forEach((index, at) => {
      const { element } = this.#rowAt(index);
      if (element === next) next = next.nextElementSibling;
      else this.#list.insertBefore(element, next);
      const isLast = at === indices.length - 1;
      setGap(element, "margin-block-start", layout.top(index) - above);
      above = layout.top(index + 1);
      setGap(element, "margin-block-end", isLast ? layout.top(layout.length) - above : 0);
      setIfOther(element, "aria-setsize", size);
      setIfOther(element, "aria-posinset", String(index + 1));
    });
  }

  /** @param {number} index @returns {Row} */
  #rowAt(index) {
    const key = this.#layout.keyAt(index);
    const known = this.#rows.get(key);
    if (known) return known;
    const row = this.#options.make(this.#items[index]);
    row.render();
    this.#rows.set(key, row);
    this.#keys.set(row.element, key);
    this.#sizes.observe(row.element);
    return row;
  }
}

/** @param {HTMLElement} element @param {"margin-block-start" | "margin-block-end"} side @param {number} px */
function setGap(element, side, px) {
  const text = px > 0.01 ? `${px}px` : "";
  if (element.style.getPropertyValue(side) !== text) element.style.setProperty(side, text);
}

/** @param {Element} element @param {string} name @param {string} value */
function setIfOther(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}
