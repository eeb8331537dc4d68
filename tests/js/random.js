// Random choices that a seed repeats: SEED=123 node --test ... repeats a failed run.

export class Random {
  #state;

  /** @param {import("node:test").TestContext} t reports the seed */
  constructor(t) {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 32));
    t.diagnostic(`SEED=${seed}`);
    this.#state = seed;
  }

  /** @param {number} end @returns {number} a whole number from 0 up to, not including, `end` */
  below(end) {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0; // the constants of Numerical Recipes
    return Math.floor((this.#state / 2 ** 32) * end);
  }

  /** @template T @param {T[]} items @returns {T} */
  choice(items) {
    return items[this.below(items.length)];
  }
}
