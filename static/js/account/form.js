// A form whose button sends a request, and which says what went wrong.

import { reasonOf } from "../core/api.js";
import { setText } from "../core/page.js";

/** @param {HTMLElement} box @param {string} sentence "" hides it */
export function say(box, sentence) {
  setText(box, sentence);
  box.hidden = sentence === "";
}

/**
 * Do something, and say in a box why it failed.
 * @param {HTMLElement} box
 * @param {() => Promise<void>} action
 * @returns {Promise<boolean>} whether it worked
 */
export async function act(box, action) {
  try {
    await action();
    say(box, "");
    return true;
  } catch (error) {
    say(box, reasonOf(error));
    return false;
  }
}

/**
 * @param {HTMLFormElement} form
 * @param {HTMLElement} problem box that says why it failed
 * @param {(fields: FormData, form: HTMLFormElement) => Promise<void>} send what its button does, once at a time
 */
export function mountForm(form, problem, send) {
  let isSending = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isSending) return;
    isSending = true;
    form.setAttribute("aria-busy", "true");
    await act(problem, () => send(new FormData(form), form));
    form.removeAttribute("aria-busy");
    isSending = false;
  });
}
