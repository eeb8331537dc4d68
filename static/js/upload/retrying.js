// Waits and tries again after temporary failures, until the person or the network says that it is worth a try now. No DOM.

import { Problem } from "../core/api.js";

const FIRST_MS = 500;
const LONGEST_MS = 20_000;

const LONGEST_WAIT_S = 120; // nobody watches a page for a longer Retry-After, such as the rest of a day

/**
 * Whether a retry may succeed although nobody changes anything.
 * @param {{status: number, body?: Record<string, any>}} problem
 * @param {boolean} isUpload a tus upload, where 409 and 460 mean: ask for its offset
 */
export const isTemporary = ({ status, body }, isUpload) => !(body?.retry_after > LONGEST_WAIT_S) && isPassing(status, isUpload);

/** @param {number} status @param {boolean} isUpload */
const isPassing = (status, isUpload) => status === 0 || status === 408 || status === 423 || status === 429
  || (status >= 500 && status !== 507) || (isUpload && (status === 409 || status === 460));

/** The waiting of several loops, which share one view of what is wrong. */
export class Retrying {
  #changed;
  /** @type {Map<object, Problem>} the current problem of each loop that has failed at least twice in a row */
  #troubles = new Map();
  /** @type {Set<() => void>} */
  #resting = new Set();

  /** @param {() => void} changed is called when `trouble` has changed */
  constructor(changed) {
    this.#changed = changed;
  }

  /** @returns {string} the problem that delays a loop; "" if there is none */
  get trouble() {
    return [...this.#troubles.values()].at(-1)?.message ?? "";
  }

  /** Retry now, without further delay. */
  now() {
    for (const wake of this.#resting) wake();
  }

  /** @param {object} who a loop that works again */
  recovered(who) {
    if (this.#troubles.delete(who)) this.#changed();
  }

  /** Wait before a retry. @param {object} who @param {Problem} problem @param {number} failures in a row */
  async rest(who, problem, failures) {
    if (failures > 1) {
      this.#troubles.set(who, problem); // a first failure is shown in the row only: most retries succeed
      this.#changed();
    }
    const backOff = Math.min(LONGEST_MS, FIRST_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
    const wait = Math.max(backOff, (problem.body.retry_after ?? 0) * 1000);
    await new Promise((/** @type {(_: void) => void} */ resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#resting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, wait);
      this.#resting.add(wake);
    });
  }

  /**
   * Repeat a request until it succeeds: a lost connection or a restart of the server only delays it.
   * @template T
   * @param {() => Promise<T>} action
   * @returns {Promise<T>}
   * @throws {Problem} a permanent one
   */
  async persist(action) {
    const who = {};
    for (let failures = 1; ; failures += 1) {
      try {
        const result = await action();
        this.recovered(who);
        return result;
      } catch (error) {
        if (!(error instanceof Problem) || !isTemporary(error, false)) {
          this.recovered(who);
          throw error;
        }
        await this.rest(who, error, failures);
      }
    }
  }
}
