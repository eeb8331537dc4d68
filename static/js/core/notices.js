// The operators' notices: shown on every page until they expire, are withdrawn, or are hidden by a person for this browser.

import { visible } from "./format.js";
import { cloneTemplate, part, setText } from "./page.js";
import { whenReleased } from "./press.js";

/** @typedef {import("./live.js").NoticeMessage} NoticeMessage */

const HIDDEN_KEY = "dropmill-hidden-notices"; // in localStorage: when each hidden notice expires, in ms since 1970, by id

export class Notices {
  /** @type {Map<string, {element: HTMLElement | null, expiresAt: number}>} by id: a notice may come twice; null: shown no more */
  #known = new Map();

  constructor() {
    addEventListener("storage", ({ key }) => {
      if (key === HIDDEN_KEY) for (const id of Object.keys(hidden())) this.remove(id); // hidden in another tab
    });
  }

  /** @param {NoticeMessage} notice */
  show({ id, text, expires_at }) {
    if (this.#known.has(id) || id in hidden()) return;
    const expiresAt = Date.parse(expires_at);
    const element = cloneTemplate("notice-template");
    setText(part(element, "notice-text"), text.split("\n").map(visible).join("\n"));
    part(element, "notice-hide").addEventListener("click", () => {
      this.remove(id);
      hide(id, expiresAt);
      document.getElementById("main")?.focus(); // the button that had the focus is gone
    });
    this.#known.set(id, { element, expiresAt });
    whenReleased(() => { if (this.#known.get(id)?.element) part(document, "notices").append(element); }); // it moves all that is below
  }

  /** Show a notice no more. @param {string} id also of one that has not come yet, over a slower transport */
  remove(id) {
    this.#known.get(id)?.element?.remove();
    this.#known.set(id, { element: null, expiresAt: 0 });
  }

  /** @param {number} now ms since 1970 by the server's clock */
  expire(now) {
    for (const [id, { element, expiresAt }] of this.#known) if (element && expiresAt <= now) whenReleased(() => this.remove(id));
  }
}

/** @returns {Record<string, number>} */
function hidden() {
  try {
    return JSON.parse(localStorage.getItem(HIDDEN_KEY) ?? "{}") ?? {};
  } catch {
    return {}; // the browser forbids it, or something else wrote there
  }
}

/** @param {string} id @param {number} expiresAt */
function hide(id, expiresAt) {
  const kept = Object.entries({ ...hidden(), [id]: expiresAt }).filter(([, until]) => until > Date.now());
  try {
    localStorage.setItem(HIDDEN_KEY, JSON.stringify(Object.fromEntries(kept)));
  } catch {
    // hidden until the page is left
  }
}
