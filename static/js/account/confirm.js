// Asks a person before something that cannot be undone.

import { part, setText } from "../core/page.js";

/**
 * @param {string} title the question
 * @param {string} text what would happen
 * @param {string} yes label of the button that does it
 * @returns {Promise<boolean>} whether the person wants it
 */
export function confirmed(title, text, yes) {
  const dialog = /** @type {HTMLDialogElement} */ (part(document, "confirm"));
  setText(part(dialog, "confirm-title"), title);
  setText(part(dialog, "confirm-text"), text);
  setText(part(dialog, "confirm-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
