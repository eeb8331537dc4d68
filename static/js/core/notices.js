// The operators' notices: shown on every page until they expire.

import { visible } from "./format.js";
import { cloneTemplate, part, setText } from "./page.js";

/** @typedef {import("./live.js").NoticeMessage} NoticeMessage */

export class Notices {
  /** @type {Map<string, {element: HTMLElement, expiresAt: number}>} by id: a notice may come twice */
  #shown = new Map();

  /** @param {NoticeMessage} notice */
  show({ id, text, expires_at: expiresAt }) {
    if (this.#shown.has(id)) return;
    const element = cloneTemplate("notice-template");
    setText(part(element, "notice-text"), text.split("\n").map(visible).join("\n"));
    part(document, "notices").append(element);
    this.#shown.set(id, { element, expiresAt: Date.parse(expiresAt) });
  }

  /** @param {number} now ms since 1970 by the server's clock */
  expire(now) {
    for (const { element, expiresAt } of this.#shown.values()) if (expiresAt <= now) element.remove(); // its id stays known
  }
}
