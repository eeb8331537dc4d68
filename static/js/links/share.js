// "Share result" on the page of a submission: makes a result link, and shows its address once.

import { mountForm } from "../account/form.js";
import { callJson } from "../core/api.js";
import { part } from "../core/page.js";
import { resultOf } from "./link-words.js";
import { mountMade, showMade } from "./made.js";

/**
 * @param {HTMLElement} button that opens the dialog
 * @param {string} submissionId
 * @param {() => string} name what the link is called unless somebody changes it
 */
export function mountShare(button, submissionId, name) {
  const dialog = /** @type {HTMLDialogElement} */ (part(document, "share-dialog"));
  const form = /** @type {HTMLFormElement} */ (part(dialog, "share-form"));
  const label = /** @type {HTMLInputElement} */ (form.elements.namedItem("label"));
  const showForm = (/** @type {boolean} */ isShown) => {
    form.hidden = !isShown;
    part(dialog, "share-done").hidden = isShown;
    if (isShown) part(dialog, "made").hidden = true;
  };

  button.addEventListener("click", () => {
    showForm(true);
    label.value = name();
    dialog.showModal();
    label.select();
  });
  for (const close of ["share-close", "share-done-close"]) part(dialog, close).addEventListener("click", () => dialog.close());
  mountMade(dialog);
  mountForm(form, part(dialog, "share-problem"), async (fields) => {
    const made = await callJson("POST", "/links", resultOf(fields, submissionId));
    showForm(false);
    showMade(dialog, made);
  });
}
