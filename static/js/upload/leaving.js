// Keeps a page that is sending open: what would leave it opens beside it, the browser asks before closing it, and the screen
// stays on, because a phone that sleeps sends nothing.

import { t } from "../core/messages.js";
import { part, setText } from "../core/page.js";

/** @typedef {import("./queue.js").Sending} Sending */

/** @param {Sending} sending */
export function holdPage(sending) {
  const hint = part(document, "sending-hint");
  const say = (/** @type {string} */ sentence) => {
    hint.hidden = sentence === "";
    setText(hint, sentence);
  };

  addEventListener("beforeunload", (event) => {
    if (sending.isSending) event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    if (!sending.isSending || !(event.target instanceof Element)) return;
    if (event.target.closest("#language-button")) {
      event.preventDefault();
      event.stopImmediatePropagation();
      say(t("sending.language_later"));
      return;
    }
    const link = event.target.closest("a[href]");
    if (!(link instanceof HTMLAnchorElement) || !leavesPage(link, event)) return;
    beside(link);
    say(t("sending.beside", { name: link.textContent?.trim() || link.href }));
  }, true);

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (sending.isSending && !event.defaultPrevented && form instanceof HTMLFormElement && !form.target && form.method !== "dialog") beside(form);
  });

  const awake = new ScreenLock();
  sending.addEventListener("change", () => {
    awake.isWanted = sending.isSending;
    if (!sending.isSending) say("");
  });
}

/** @param {HTMLAnchorElement} link @param {MouseEvent} event */
function leavesPage(link, event) {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return false;
  if (link.target || link.hasAttribute("download") || !/^https?:$/.test(link.protocol)) return false;
  const isHere = link.origin === location.origin && link.pathname === location.pathname && link.search === location.search;
  return !(isHere && link.hash);
}

/** Let this one click open a new tab. @param {HTMLAnchorElement | HTMLFormElement} element */
function beside(element) {
  element.target = "_blank";
  element.rel = "noopener";
  setTimeout(() => {
    element.removeAttribute("target");
    element.removeAttribute("rel");
  });
}

/** Keeps the screen on while it is wanted. A browser takes the lock back whenever the page is hidden. */
class ScreenLock {
  #isWanted = false;
  /** @type {Promise<WakeLockSentinel | null> | null} */
  #lock = null;

  constructor() {
    document.addEventListener("visibilitychange", () => this.#set());
  }

  /** @param {boolean} isWanted */
  set isWanted(isWanted) {
    if (isWanted === this.#isWanted) return;
    this.#isWanted = isWanted;
    this.#set();
  }

  #set() {
    const shallLock = this.#isWanted && document.visibilityState === "visible";
    if (shallLock && !this.#lock) {
      const lock = ask();
      this.#lock = lock;
      void lock.then((sentinel) => sentinel?.addEventListener("release", () => {
        if (this.#lock === lock) this.#lock = null;
      }));
    } else if (!shallLock && this.#lock) {
      void this.#lock.then((sentinel) => sentinel?.release());
      this.#lock = null;
    }
  }
}

/** @returns {Promise<WakeLockSentinel | null>} null where the browser has none (plain http), or refuses (low battery) */
const ask = async () => navigator.wakeLock?.request("screen").catch(() => null) ?? null;
