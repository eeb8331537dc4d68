// Which transport a page should use, and when it should try again. Rules without I/O: `live.js` acts on them. No DOM.
//
// The page polls only if HTTP works and the socket does not: HTTP answered before and after a handshake that failed. A restart
// (1012) or an overloaded server (1013, 503) is no such proof, because HTTP fails, too, or the socket had worked before. That
// the socket is blocked is remembered only where it has never worked: else a restart could strand everybody on polls.

/** @typedef {import("./socket.js").End} End */

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;
const BLOCKED_RETRY_MS = 60_000; // where the socket never worked, it is tried this often at first, then ever less
const LONGEST_BLOCKED_RETRY_MS = 600_000;
const KEPT_MS = 24 * 3600 * 1000; // that the socket is blocked; a network changes
const RESTART = 1012;
const TRY_AGAIN_LATER = 1013;
const FINAL = new Set([4400, 4403]); // a retry would get the same answer
const SIGN_IN = 4401;
const KEY = "dropmill-socket"; // in localStorage: "works", or since when it is blocked, in ms since 1970

export class Choice {
  #failures = 0; // in a row, of whatever was tried
  #blockedFailures = 0;
  #spreadMs = 1000;
  #hasHttpWorked = true; // the page itself came by HTTP
  #store;

  /** @param {Pick<Storage, "getItem" | "setItem"> | null} store null: nothing is remembered */
  constructor(store) {
    this.#store = store;
  }

  /** @returns {boolean} whether to begin with polls: this browser found the socket blocked lately, and it never worked */
  get beginsWithPolls() {
    return Date.now() - Number(this.#read() ?? 0) < KEPT_MS; // "works" is no number
  }

  /** The server's first message came over the socket. */
  socketWorks() {
    this.#failures = 0;
    this.#blockedFailures = 0;
    this.#write("works");
  }

  /** @param {number} seconds over which clients should spread their return after a restart */
  set spread(seconds) {
    this.#spreadMs = seconds * 1000;
  }

  /**
   * A socket has ended.
   * @param {End} end
   * @returns {"final" | "sign_in" | "wait" | "ask"} `ask`: whether HTTP works; `httpAnswered` takes the answer
   */
  socketEnded({ code, isGreeted }) {
    if (FINAL.has(code)) return "final";
    if (code === SIGN_IN) return "sign_in";
    if (!isGreeted && code !== RESTART && code !== TRY_AGAIN_LATER) return "ask";
    this.#hasHttpWorked = false; // unknown since then
    return "wait";
  }

  /** @param {boolean} works after a socket that failed @returns {boolean} whether the socket is blocked, so that the page should poll */
  httpAnswered(works) {
    const isBlocked = works && this.#hasHttpWorked;
    this.#hasHttpWorked = works;
    if (isBlocked && this.#read() !== "works") this.#write(String(Date.now()));
    return isBlocked;
  }

  /** @param {number} [code] with which the socket was closed @returns {number} ms until the next attempt, at random */
  delay(code) {
    const longest = code === RESTART ? this.#spreadMs : Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures);
    this.#failures += 1;
    return Math.random() * longest; // full jitter: pages that lost the same server do not come back together
  }

  /** @returns {number} ms until the socket should be tried again while the page polls */
  get blockedDelay() {
    const longest = this.#read() === "works" ? LONGEST_RETRY_MS : Math.min(LONGEST_BLOCKED_RETRY_MS, BLOCKED_RETRY_MS * 2 ** this.#blockedFailures);
    this.#blockedFailures += 1;
    return longest * (0.5 + Math.random() / 2);
  }

  #read() {
    try {
      return this.#store?.getItem(KEY) ?? null;
    } catch {
      return null; // the browser forbids it
    }
  }

  /** @param {string} value */
  #write(value) {
    try {
      this.#store?.setItem(KEY, value);
    } catch {
      // not remembered
    }
  }
}
