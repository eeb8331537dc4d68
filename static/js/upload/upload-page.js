// /: choose, submit, watch. The address changes to that of the new submission, so that a reload shows it.

import { base } from "../core/base.js";
import { LivePage } from "../core/live-page.js";
import { mountDrop } from "./drop.js";
import { SubmissionModel } from "../submission/model.js";
import { part, setText } from "../core/page.js";
import { Sending, openSubmission } from "./queue.js";
import { mountSending } from "./sending-view.js";
import { Selection } from "./selection.js";
import { SubmissionView } from "../submission/view.js";

/** @typedef {import("./transfers.js").Item} Item */

const form = /** @type {HTMLFormElement} */ (part(document, "drop-form"));
const selection = new Selection(part(document, "selection"));
const page = new LivePage();

const fileInput = /** @type {HTMLInputElement} */ (document.getElementById("files"));
const folderInput = /** @type {HTMLInputElement} */ (document.getElementById("folder"));
const folderButton = part(document, "folder-button");
folderButton.hidden = !("webkitdirectory" in folderInput) || matchMedia("(pointer: coarse) and (hover: none)").matches;
folderButton.addEventListener("click", () => folderInput.click());
let isSubmitted = false;
mountDrop({ fileInput, folderInput, overlay: part(document, "overlay") }, (items, unreadable) => {
  if (!isSubmitted) selection.add(items, unreadable);
});
document.addEventListener("selection", (event) => {
  part(document, "explanation").hidden = /** @type {CustomEvent<number>} */ (event).detail > 0;
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (selection.items.length && !isSubmitted) submit(selection.items);
});

/** @param {Item[]} items */
async function submit(items) {
  isSubmitted = true;
  const failure = part(document, "submit-problem");
  failure.hidden = true;
  let submission;
  try {
    submission = await openSubmission(items);
  } catch (error) {
    isSubmitted = false;
    failure.hidden = false;
    setText(failure, `Nothing was sent. ${error instanceof Error ? error.message : error} Your selection is kept; press Submit to try again.`);
    return;
  }
  history.pushState(null, "", `${base}/submissions/${submission.id}`);
  addEventListener("popstate", () => location.reload());
  form.hidden = true;

  const model = new SubmissionModel(submission.id);
  model.take(submission);
  const view = new SubmissionView(part(document, "submission"), page, model);
  view.follow(0);
  mountSending(new Sending(model, items), model, view, page.live);
}
