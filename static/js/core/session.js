// Whether the person of this page is signed in, as far as answers say. What the server refuses for want of a sign-in waits here
// until the person has signed in again, and is then tried again: the page keeps its files and what was typed, and goes on. No DOM;
// frame/account.js asks the person.

const SIGN_IN_CODE = "sign_in_required";

/**
 * @param {{status: number, body: Record<string, any>}} problem; the answer to HEAD has no body
 * @returns {boolean} whether a sign-in would change the answer
 */
export const needsSignIn = ({ status, body: { code = SIGN_IN_CODE } }) => status === 401 && code === SIGN_IN_CODE;

/** Dispatches `needed`: a person has to sign in again; `signed-in`: they have. */
export class Session extends EventTarget {
  /** Whether this page can ask the person. Without that, whatever is refused stays refused. */
  canAsk = false;
  /** Whether the person must sign in before anything else succeeds. */
  isNeeded = false;
  /** How often the person has signed in on this page: what was sent before the last time may be refused after it. */
  signIns = 0;
  #isDeclined = false;
  /** @type {Set<(isSignedIn: boolean) => void>} what waits */
  #waiting = new Set();

  /**
   * Ask the person to sign in again, once for everything that waits.
   * @param {number} [since] `signIns` when the request began that was refused
   * @param {AbortSignal} [signal] ends the wait
   * @returns {Promise<boolean>} whether they have; false at once if they do not want to, until `ask` is called
   */
  again(since = this.signIns, signal) {
    if (!this.canAsk) return Promise.resolve(false);
    if (since !== this.signIns) return Promise.resolve(true);
    if (!this.isNeeded) {
      this.isNeeded = true;
      this.dispatchEvent(new Event("needed"));
    }
    if (this.#isDeclined || signal?.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const done = (/** @type {boolean} */ isSignedIn) => {
        this.#waiting.delete(done);
        signal?.removeEventListener("abort", stop);
        resolve(isSignedIn);
      };
      const stop = () => done(false);
      this.#waiting.add(done);
      signal?.addEventListener("abort", stop);
    });
  }

  /** The person wants to sign in now. */
  ask() {
    this.#isDeclined = false;
    this.isNeeded = true;
    this.dispatchEvent(new Event("needed"));
  }

  /** The person has signed in, on this page or on another one of this browser. */
  signedIn() {
    if (!this.isNeeded) return;
    this.#isDeclined = this.isNeeded = false;
    this.signIns += 1;
    this.dispatchEvent(new Event("signed-in"));
    for (const done of this.#waiting) done(true);
  }

  /** The person does not want to sign in now: what waits fails. */
  decline() {
    this.#isDeclined = true;
    for (const done of this.#waiting) done(false);
  }
}

/** The session of this page. */
export const session = new Session();
