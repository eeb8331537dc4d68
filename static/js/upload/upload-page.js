// /: choose, submit, watch. The address changes to that of the new submission, so that a reload shows it.

import "../frame/frame-page.js";
import { Problem } from "../core/api.js";
import { LivePage } from "../core/live-page.js";
import { t } from "../core/messages.js";
import { part, setText } from "../core/page.js";
import { pageData } from "../core/page-data.js";
import { leftOut, rulesOf } from "./checks.js";
import { passFiles, receiveFiles, takeOver } from "./drop.js";
import { mountRecent, remember } from "./recent.js";
import { Selection } from "./selection.js";

/** @typedef {import("./reading.js").Dropped} Dropped */

const form = /** @type {HTMLFormElement} */ (part(document, "drop-form"));
const rules = rulesOf(pageData());
const selection = new Selection(part(document, "selection"), rules);
const page = new LivePage();
const endRecent = mountRecent();

let isSubmitting = false;
/** @type {[Dropped, boolean][]} what came while the list was being submitted */
const late = [];

/** @param {Dropped} dropped @param {boolean} [isPasted] */
function take(dropped, isPasted = false) {
  if (isSubmitting) late.push([dropped, isPasted]);
  else selection.add(dropped, isPasted);
}

receiveFiles({ use: () => "list", take });
takeOver(take);

const folderInput = /** @type {HTMLInputElement} */ (document.getElementById("folder"));
for (const input of [/** @type {HTMLInputElement} */ (document.getElementById("files")), folderInput]) {
  input.addEventListener("change", () => {
    const items = [...(input.files ?? [])].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
    input.value = ""; // lets the person choose the same file again after removing it
    take({ items, unreadable: [] });
  });
}
const folderButton = part(document, "folder-button");
folderButton.hidden = !("webkitdirectory" in folderInput) || matchMedia("(pointer: coarse) and (hover: none)").matches;
folderButton.addEventListener("click", () => folderInput.click());

selection.addEventListener("change", () => {
  part(document, "after").hidden = selection.chosen.rows.length > 0;
  part(document, "submit-problem").hidden = true;
  if (selection.chosen.rows.length) load().catch(() => {}); // Submit tries again
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!isSubmitting && selection.chosen.items.length) void submit();
});

const load = () => import("./submitting.js");

async function submit() {
  const { items, bad } = selection.chosen;
  isSubmitting = selection.isSubmitting = true;
  part(document, "submit-problem").hidden = true;
  let parts;
  let submission;
  try {
    parts = await load();
    submission = await parts.openSubmission(items);
  } catch (error) {
    isSubmitting = selection.isSubmitting = false;
    for (const [dropped, isPasted] of late.splice(0)) take(dropped, isPasted);
    const failure = part(document, "submit-problem");
    setText(failure, t("upload.nothing_sent", { reason: error instanceof Problem ? error.message : t("core.unreachable") }));
    failure.hidden = false;
    return;
  }
  remember(submission.id);
  endRecent();
  form.hidden = true;
  part(document, "after").hidden = true;
  const notSent = leftOut(bad.map(({ item: { path }, problem }) => ({ path, problem })));
  part(document, "left-out").hidden = notSent === "";
  setText(part(document, "left-out"), notSent);
  parts.showSubmission(submission, items, page, rules);
  for (const [dropped, isPasted] of late.splice(0)) passFiles(dropped, isPasted);
}
