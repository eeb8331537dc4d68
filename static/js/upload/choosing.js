// The zone and the list before Submit: files are chosen, dropped or pasted, and submitted. What becomes of them is shown in place of
// the list, and the address changes to that of the new submission, so that a reload shows it.

import { Problem } from "../core/api.js";
import { t } from "../core/messages.js";
import { part, setText } from "../core/page.js";
import { leftOut } from "./checks.js";
import { passFiles, receiveFiles, takeOver } from "./drop.js";
import { Selection } from "./selection.js";

/** @typedef {import("./reading.js").Dropped} Dropped */

/**
 * @typedef {object} Choosing
 * @property {import("../core/live-page.js").LivePage} page
 * @property {import("./checks.js").Rules} rules
 * @property {(hasFiles: boolean) => void} [listed] the list has files now, or has none
 * @property {(submission: Record<string, any>) => void} [submitted] the server has opened the submission
 * @property {Partial<import("./submitting.js").Shown>} [shown] how it is shown
 */

/** Fill the form of templates/_choose.html. @param {Choosing} choosing */
export function mountChoosing({ page, rules, listed = () => {}, submitted = () => {}, shown = {} }) {
  const form = /** @type {HTMLFormElement} */ (part(document, "drop-form"));
  const selection = new Selection(part(document, "selection"), rules);
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
    listed(selection.chosen.rows.length > 0);
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
    submitted(submission);
    form.hidden = true;
    const notSent = leftOut(bad.map(({ item: { path }, problem }) => ({ path, problem })));
    part(document, "left-out").hidden = notSent === "";
    setText(part(document, "left-out"), notSent);
    parts.showSubmission(submission, items, { page, rules, ...shown });
    for (const [dropped, isPasted] of late.splice(0)) passFiles(dropped, isPasted);
  }
}
