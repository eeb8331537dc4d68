// Shows a secret once, with a button that copies it.

import { t } from "../core/messages.js";
import { announce, setText } from "../core/page.js";

const COPIED_MS = 2000;

/**
 * @param {HTMLElement} button
 * @param {HTMLElement} text what it copies
 */
export function mountCopy(button, text) {
  button.addEventListener("click", async () => {
    let word = "core.copied";
    try {
      await navigator.clipboard.writeText(text.textContent ?? "");
    } catch {
      word = "core.copy_failed"; // over plain http, browsers have no clipboard: the text can be selected
      getSelection()?.selectAllChildren(text);
    }
    setText(button, t(word));
    announce(t(word));
    setTimeout(() => setText(button, t("core.copy")), COPIED_MS);
  });
}
