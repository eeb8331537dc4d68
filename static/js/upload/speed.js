// How fast bytes move. No DOM.

const OVER_S = 3; // averaging window: the number stays readable, and follows a change

/** Bytes per second, smoothed exponentially. */
export class Speed {
  #value = 0;
  #last = { at: 0, bytes: -1 };

  /** @param {number} bytes sent so far @returns {number} */
  at(bytes) {
    const at = performance.now();
    const { at: before, bytes: had } = this.#last;
    if (had < 0 || bytes < had || at === before) {
      if (at !== before) this.#last = { at, bytes };
      return this.#value;
    }
    const seconds = (at - before) / 1000;
    const weight = this.#value === 0 ? 1 : 1 - Math.exp(-seconds / OVER_S);
    this.#value += weight * ((bytes - had) / seconds - this.#value);
    this.#last = { at, bytes };
    return this.#value;
  }
}
