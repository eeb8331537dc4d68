// What the modules use of a browser and some Node.js lacks. Imported before them.

import { File as NodeFile } from "node:buffer";
import { webcrypto } from "node:crypto";

/** As browsers have it. */
class PlainCustomEvent extends Event {
  /** @param {string} type @param {{detail?: any}} [options] */
  constructor(type, { detail = null, ...options } = {}) {
    super(type, options);
    this.detail = detail;
  }
}

/** @type {any} */
const global = globalThis;
global.CustomEvent ??= PlainCustomEvent; // from Node.js 19 on
global.File ??= NodeFile; // from Node.js 20 on
global.crypto ??= webcrypto; // from Node.js 19 on
global.window ??= globalThis;

/** Timers whose time passes when a test says so. */
export class Clock {
  #now = 0;
  #next = 1;
  /** @type {Map<number, {at: number, run: () => void}>} */
  #timers = new Map();

  /** @param {{after: (restore: () => void) => void}} t gets the real timers back at its end */
  constructor(t) {
    const { setTimeout, clearTimeout } = globalThis;
    global.setTimeout = (/** @type {() => void} */ run, delay = 0) => {
      this.#timers.set(this.#next, { at: this.#now + delay, run });
      return this.#next++;
    };
    global.clearTimeout = (/** @type {number} */ id) => this.#timers.delete(id);
    t.after(() => Object.assign(globalThis, { setTimeout, clearTimeout }));
  }

  /** @param {number} ms in which every timer that is due runs, in order */
  tick(ms) {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, one], [, other]) => one.at - other.at)[0];
      if (!due) break;
      const [id, { at, run }] = due;
      this.#now = at;
      this.#timers.delete(id);
      run();
    }
    this.#now = end;
  }
}
