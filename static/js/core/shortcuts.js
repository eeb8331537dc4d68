// Keyboard shortcuts. What a key reaches says so itself, by `aria-keyshortcuts="/"`, which screen readers announce, too. A
// single key focuses a field and clicks anything else, unless somebody is typing; combinations such as `Control+S` are only
// listed, and handled by who names them. The dialog that `?` opens lists those in sight, and can turn single keys off:
// people who speak to their computer press keys by accident (WCAG 2.1.4).

import { has, t } from "./messages.js";

const KEPT = "dropmill-shortcuts"; // "off" or nothing
const TYPED = "textarea, select, input:not([type=button], [type=checkbox], [type=file], [type=radio], [type=reset], [type=submit])";

/** @type {Map<string, string>} keys that a part handles itself, such as those of a list, and what they do */
const further = new Map();

/**
 * List keys that a part of the page handles itself.
 * @param {string} keys as in `aria-keyshortcuts`
 * @param {string} words what they do
 */
export const listShortcut = (keys, words) => further.set(keys, words);

/** @param {string} keys as in `aria-keyshortcuts` @returns {string[]} what is written on the keys to be pressed together */
export const keyCaps = (keys) => keys.split(" ")[0].split("+").map((key) => (has(`core.key.${key}`) ? t(`core.key.${key}`) : key));

/** @param {string} keys */
const isSingle = (keys) => keys.length === 1;

/** @param {HTMLElement} element */
const keysOf = (element) => element.getAttribute("aria-keyshortcuts") ?? "";

/** @param {(keys: string) => boolean} [isWanted] @returns {HTMLElement[]} what names its keys and is in sight */
function inSight(isWanted = () => true) {
  const marked = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[aria-keyshortcuts]")]).filter((element) => isWanted(keysOf(element)));
  // The list's own button is hidden where there is no mouse, but a keyboard may be there.
  return marked.filter((element) => element.getClientRects().length > 0 || keysOf(element) === "?");
}

/** @param {HTMLElement} element @returns {string} its name to people */
function nameOf(element) {
  const label = element instanceof HTMLInputElement ? element.labels?.[0]?.textContent : element.textContent;
  return (element.ariaLabel || label || element.title).trim().replace(/\s+/g, " ");
}

/** @param {EventTarget | undefined} target @returns {boolean} whether keys are text there */
const isTyped = (target) => target instanceof HTMLElement && (target.isContentEditable || target.matches(TYPED));

function isOff() {
  try {
    return localStorage.getItem(KEPT) === "off";
  } catch {
    return false; // storage is disabled
  }
}

/** @param {KeyboardEvent} event */
function press(event) {
  if (event.defaultPrevented || event.isComposing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isOff() || isTyped(event.composedPath()[0]) || document.querySelector("dialog:modal")) return;
  const key = event.key.toLowerCase();
  const [found] = inSight((keys) => isSingle(keys) && keys === key); // asking where others are would cost a layout for each key
  if (!found || found.matches(":disabled")) return;
  event.preventDefault();
  if (isTyped(found)) found.focus();
  else found.click();
}

/** @param {string} name of an element @param {...(Node | string)} content @returns {HTMLElement} */
function made(name, ...content) {
  const element = document.createElement(name);
  element.append(...content);
  return element;
}

/** @param {string} keys @param {string} words @returns {HTMLElement} a row of the list */
const row = (keys, words) => made("div", made("dt", ...keyCaps(keys).map((cap) => made("kbd", cap))), made("dd", words));

/**
 * Listen, and let the button in the head open the list.
 * @param {HTMLElement} button
 * @param {HTMLDialogElement} dialog
 */
export function mountShortcuts(button, dialog) {
  const isOn = /** @type {HTMLInputElement} */ (dialog.querySelector("input"));
  isOn.addEventListener("change", () => {
    try {
      if (isOn.checked) localStorage.removeItem(KEPT);
      else localStorage.setItem(KEPT, "off");
    } catch {
      isOn.checked = true; // it could not be kept
    }
  });
  button.addEventListener("click", () => {
    const named = inSight().map((element) => /** @type {const} */ ([keysOf(element), nameOf(element)]));
    dialog.querySelector("dl")?.replaceChildren(...[...named, ...further].map(([keys, words]) => row(keys, words)));
    isOn.checked = !isOff();
    dialog.showModal();
  });
  document.addEventListener("keydown", press);
}
