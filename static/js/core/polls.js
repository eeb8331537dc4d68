// How this browser polls: one tab for all where it has Web Locks, else each visible tab for itself (plain http). Loaded when a
// page needs it.

import { callJson } from "./api.js";
import { base } from "./base.js";
import { Polling, pollOnce } from "./poll.js";
import { SharedPolling } from "./share.js";

/** @typedef {import("./positions.js").Positions} Positions */
/** @typedef {import("./positions.js").Message} Message */

export { pollOnce };

const CLIENT_KEY = "dropmill-client"; // in localStorage: the tabs of a browser are one watcher when they poll together

/**
 * @param {Positions} positions
 * @param {(messages: Message[]) => void} take
 * @param {(problem: {status: number}) => void} failed
 * @returns {import("./live.js").Polls}
 */
export function pollsOf(positions, take, failed) {
  const isHidden = () => document.hidden;
  const isShared = navigator.locks && globalThis.BroadcastChannel;
  const client = isShared ? keptName() : randomName();
  const channel = (/** @type {string} */ name) => new BroadcastChannel(name);
  const polls = isShared
    ? new SharedPolling({ locks: /** @type {any} */ (navigator.locks), channel, name: `dropmill-live-1${base}`, client, isHidden }, positions, take, failed)
    : new VisiblePolling(new Polling(positions, client, take, failed));
  return Object.assign(polls, {
    editing(/** @type {boolean} */ isDirty) {
      callJson("POST", "/presence", { client, topic: "config", is_dirty: isDirty }).catch(() => {}); // said again soon
    },
  });
}

/** Polls while its tab is visible. */
class VisiblePolling {
  #polling;
  #isWanted = false;

  /** @param {Polling} polling */
  constructor(polling) {
    this.#polling = polling;
    document.addEventListener("visibilitychange", () => {
      if (!this.#isWanted) return;
      if (document.hidden) polling.stop();
      else polling.start();
    });
  }

  start() {
    this.#isWanted = true;
    if (!document.hidden) this.#polling.start();
  }

  stop() {
    this.#isWanted = false;
    this.#polling.stop();
  }

  changed() {
    this.#polling.changed();
  }
}

function randomName() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function keptName() {
  try {
    const name = localStorage.getItem(CLIENT_KEY) ?? randomName();
    localStorage.setItem(CLIENT_KEY, name);
    return name;
  } catch {
    return randomName();
  }
}
