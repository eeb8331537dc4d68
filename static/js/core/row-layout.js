// Where the rows of a long list are, of which only some are in the document: their tops from measured and expected heights.
// No DOM.

const FIRST_GUESS_PX = 44;

/** Tops and heights of rows, by index; heights are remembered by key. */
export class RowLayout {
  /** @type {string[]} */
  #keys = [];
  /** @type {string[]} */
  #kinds = [];
  /** @type {Map<string, number>} index by key */
  #indices = new Map();
  /** @type {Map<string, number>} rows whose height differs from that of their kind */
  #measured = new Map();
  /** @type {Map<string, number>} the height last seen of each kind of row */
  #ofKind = new Map();
  /** @type {Float64Array} the top of each row, and the end of the last */
  #tops = new Float64Array(1);
  #isStale = false;

  /**
   * Set which rows there are.
   * @param {string[]} keys each one once
   * @param {string[]} kinds for each row; rows of one kind are expected to be equally high
   */
  arrange(keys, kinds) {
    this.#keys = keys;
    this.#kinds = kinds;
    this.#indices = new Map(keys.map((key, index) => [key, index]));
    this.#isStale = true;
  }

  /** Set the kind of a row that has changed. @param {number} index @param {string} kind */
  change(index, kind) {
    if (this.#kinds[index] === kind) return;
    this.#kinds[index] = kind;
    this.#measured.delete(this.#keys[index]);
    this.#isStale = true;
  }

  /**
   * Remember the height of a row as it is in the document.
   * @param {string} key
   * @param {number} px
   * @returns {boolean} whether rows moved
   */
  measure(key, px) {
    const index = this.#indices.get(key);
    if (index === undefined || px <= 0 || Math.abs(this.#heightOf(index) - px) < 0.5) return false;
    const kind = this.#kinds[index];
    if (this.#ofKind.has(kind)) this.#measured.set(key, px);
    else this.#ofKind.set(kind, px);
    this.#isStale = true;
    return true;
  }

  /** Forget all heights, as after a change of the width. */
  forget() {
    this.#measured.clear();
    this.#ofKind.clear();
    this.#isStale = true;
  }

  /** @param {string} key @returns {number} -1 if there is no such row */
  indexOf(key) {
    return this.#indices.get(key) ?? -1;
  }

  /** @param {number} index @returns {string} */
  keyAt(index) {
    return this.#keys[index];
  }

  /** @returns {number} how many rows there are */
  get length() {
    return this.#keys.length;
  }

  /** @param {number} index of a row, or the number of rows for the end of the list @returns {number} px from the top of the list */
  top(index) {
    if (this.#isStale) this.#update();
    return this.#tops[index];
  }

  /** @param {number} y px from the top of the list @returns {number} index of the row there; the nearest if there is none */
  at(y) {
    let low = 0;
    let high = this.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.top(middle) <= y) low = middle;
      else high = middle - 1;
    }
    return Math.max(0, low);
  }

  /**
   * Which rows belong in the document.
   * @param {number} from px from the top of the list, of the first visible line
   * @param {number} to px, of the last one
   * @param {number} spare rows before and after, so that scrolling shows no gap
   * @returns {{first: number, end: number}} end is behind the last one
   */
  range(from, to, spare) {
    if (this.length === 0) return { first: 0, end: 0 };
    return { first: Math.max(0, this.at(from) - spare), end: Math.min(this.length, this.at(to) + 1 + spare) };
  }

  /** @param {number} index @returns {number} */
  #heightOf(index) {
    return this.#measured.get(this.#keys[index]) ?? this.#ofKind.get(this.#kinds[index]) ?? FIRST_GUESS_PX;
  }

  #update() {
    this.#isStale = false;
    const tops = new Float64Array(this.length + 1);
    for (let index = 0; index < this.length; index += 1) tops[index + 1] = tops[index] + this.#heightOf(index);
    this.#tops = tops;
  }
}
