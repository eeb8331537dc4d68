// Random choices that a seed repeats. A change is not judged by luck: `make test` always takes the same seed, and
// `make faults` a new one, which it prints; SEED=123 repeats that run.

const SEED = process.env.SEED ?? "1";

export class Random {
  #state;

  /** @param {import("node:test").TestContext} t reports the seed */
  constructor(t) {
    const seed = SEED === "new" ? Math.floor(Math.random() * 2 ** 32) : Number(SEED);
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
