// Long polls of /api/v1/live, one after the other. The server paces them and answers with the messages that a socket would
// have brought. `share.js` has one tab of a browser poll for all. No DOM.

import { Problem, callJson } from "./api.js";

/** @typedef {import("./positions.js").Positions} Positions */
/** @typedef {import("./positions.js").Message} Message */
/** @typedef {import("./positions.js").Join} Join */

const WAIT_S = 25; // under the 30 s of common proxies
const SHORTEST_WAIT_S = 2;
const CUT_MS = 3000; // a poll that fails later was cut by something that allows less than it waited
const ANSWER_MS = 40_000; // a poll without an answer for so long is dead
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;

const CHANGED = "changed"; // why a poll was aborted

/**
 * One poll that returns what there is.
 * @param {Join[]} joins
 * @returns {Promise<Message[]>}
 * @throws {Problem}
 */
export const pollOnce = (joins) => callJson("POST", "/live", { joins, wait: 0 });

/** Polls until it is stopped. */
export class Polling {
  #positions;
  #client;
  #take;
  #failed;
  /** @type {string | undefined} what the server has said that has no cursor */
  #seen; // undefined: nothing yet
  /** @type {AbortController | null} of the poll under way */
  #asking = null;
  #isRunning = false;
  #waitS = WAIT_S;
  #changes = 0;
  #failures = 0;
  #timer = 0;
  /** @type {(() => void) | null} ends a pause */
  #wake = null;

  /**
   * @param {Positions} positions what to follow; the answers move them
   * @param {string} client names this client in `presence`
   * @param {(messages: Message[], from: Join[]) => void} take called with each answer, and the positions that it begins at
   * @param {(problem: Problem) => void} failed called when a poll failed; it is repeated
   */
  constructor(positions, client, take, failed) {
    this.#positions = positions;
    this.#client = client;
    this.#take = take;
    this.#failed = failed;
  }

  start() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    void this.#run();
  }

  stop() {
    this.#isRunning = false;
    this.changed();
  }

  /** Poll again at once: something else is followed, or the network is back. */
  changed() {
    this.#seen = undefined; // it stands for what was followed before
    this.#changes += 1;
    this.#asking?.abort(CHANGED);
    clearTimeout(this.#timer);
    this.#wake?.();
  }

  async #run() {
    while (this.#isRunning) {
      const asking = new AbortController();
      this.#asking = asking;
      const timeout = window.setTimeout(() => asking.abort(), ANSWER_MS);
      const joins = this.#positions.joins();
      const changes = this.#changes; // an answer may be on its way in while something changes
      const began = Date.now();
      try {
        const wait = this.#seen === undefined ? 0 : this.#waitS; // what has no cursor comes along, but ends no wait
        const messages = await callJson("POST", "/live", { joins, wait, seen: this.#seen, client: this.#client }, asking.signal);
        if (!this.#isRunning) return;
        this.#failures = 0;
        const last = messages[messages.length - 1];
        if (last?.type === "poll" && changes === this.#changes) this.#seen = last.seen;
        this.#take(messages, joins);
      } catch (error) {
        if (!this.#isRunning) return;
        if (asking.signal.reason === CHANGED) continue;
        const waitedMs = Date.now() - began;
        if (waitedMs > CUT_MS && this.#waitS > SHORTEST_WAIT_S) {
          this.#waitS = Math.max(SHORTEST_WAIT_S, Math.min(this.#waitS, Math.floor(waitedMs / 1000)) - 2);
          continue;
        }
        this.#failed(error instanceof Problem ? error : new Problem(0, { detail: String(error) }));
        await this.#pause();
      } finally {
        clearTimeout(timeout);
        if (this.#asking === asking) this.#asking = null;
      }
    }
  }

  /** @returns {Promise<void>} over after a random time, longer after each failure */
  #pause() {
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures);
    this.#failures += 1;
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#timer = window.setTimeout(resolve, Math.random() * longest);
    });
  }
}
