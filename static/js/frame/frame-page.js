// What every page has: the buttons in its head, local times, the list of keys, and an answer to dropped files. The script of
// each page imports it first; a page without a script of its own loads it alone.

import { canSend } from "../core/base.js";
import { setTime } from "../core/page.js";
import { mountShortcuts } from "../core/shortcuts.js";
import { mountThemeButton } from "../core/theme.js";
import { mountDrop, refuseDrops } from "../upload/drop.js";
import { mountAccount } from "./account.js";

/** @param {string} id @returns {HTMLElement} */
function named(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page lacks #${id}`);
  return found;
}

const languageButton = named("language-button");
languageButton.addEventListener("click", () => {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `${languageButton.dataset.cookie}=${languageButton.lang}; path=${languageButton.dataset.path}; max-age=31536000; samesite=lax${secure}`;
  location.reload(); // while this page sends, the browser asks first
});
mountAccount();
mountThemeButton(/** @type {HTMLButtonElement} */ (named("theme-button")));
if (canSend) mountDrop();
else refuseDrops();
mountShortcuts(named("shortcuts-button"), /** @type {HTMLDialogElement} */ (named("shortcuts")));
for (const time of document.querySelectorAll("time[data-local]")) setTime(time, /** @type {HTMLTimeElement} */ (time).dateTime);
