// /: choose, submit, watch. The address changes to that of the new submission, so that a reload shows it.

import { api, base } from "./base.js";
import { followConfigProblem } from "./config-problem.js";
import { mountConnectionBadge } from "./connection.js";
import { mountDrop } from "./drop.js";
import { counted } from "./format.js";
import { Live } from "./live.js";
import { SubmissionModel } from "./model.js";
import { part, setText } from "./page.js";
import { Sending, openSubmission } from "./queue.js";
import { Selection } from "./selection.js";
import { canChecksum } from "./transfers.js";
import { SubmissionView } from "./view.js";

/** @typedef {import("./transfers.js").Item} Item */

const form = /** @type {HTMLFormElement} */ (part(document, "drop-form"));
const selection = new Selection(part(document, "selection"));
const live = new Live();
mountConnectionBadge(live);
followConfigProblem(live);
live.start();

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
  const view = new SubmissionView(part(document, "submission"), live, model);
  view.follow(0);
  mountSending(new Sending(model, items), model, view);
}

/**
 * Show the state of the sending, and its buttons.
 * @param {Sending} sending
 * @param {SubmissionModel} model
 * @param {SubmissionView} view
 */
function mountSending(sending, model, view) {
  const [pause, held, tryNow, resume, stop] = ["pause-all", "held", "try-now", "resume-all", "stop-sending"].map((name) => part(document, name));
  pause.addEventListener("click", () => sending.pause());
  resume.addEventListener("click", () => sending.resume());
  tryNow.addEventListener("click", () => sending.tryNow());
  stop.addEventListener("click", () => sending.giveUp());
  document.addEventListener("row-action", (event) => {
    const asked = /** @type {CustomEvent<import("./rows.js").RowAction>} */ (event).detail;
    if (asked.action === "pause") sending.pause(asked.fileId);
    if (asked.action === "resume") sending.resume(asked.fileId);
    if (asked.action === "give-up") sending.cancel(asked.fileId);
  });

  const render = () => {
    const { isActive, isOver, trouble } = sending;
    const isHeld = !isActive && !isOver;
    view.sending = isOver ? null : isHeld ? "held" : "going";
    pause.hidden = !isActive || isOver;
    held.hidden = !isHeld && trouble === "";
    held.classList.toggle("working", isActive);
    held.classList.toggle("bad", isHeld && sending.held.reason !== "");
    setText(part(held, "held-text"), isHeld ? heldText(sending.held) : `${trouble} The page keeps retrying; what has arrived is kept.`);
    tryNow.hidden = isHeld;
    resume.hidden = stop.hidden = !isHeld;
    setText(resume, sending.held.reason ? "Try again" : "Resume");
    part(document, "unchecked").hidden = canChecksum || isOver || !sending.hasLarge;
  };
  sending.addEventListener("change", render);
  addEventListener("online", () => sending.tryNow());
  live.addEventListener("connection", () => {
    if (live.connection === "live") sending.tryNow();
  });
  addEventListener("beforeunload", (event) => {
    if (sending.isActive) event.preventDefault();
  });
  addEventListener("pagehide", () => {
    // This page sends no more, so it seals the submission; unless an upload can be resumed later.
    if (!sending.isOver && !sending.isResumable) navigator.sendBeacon(`${api}/submissions/${model.id}/seal`);
  });
  sending.resume();
}

/** @param {Sending["held"]} held */
function heldText({ paused, refused, reason }) {
  const parts = [];
  if (reason) parts.push(reason);
  if (refused) parts.push(`${counted(refused, "file")} not sent.`);
  if (paused) parts.push(`${counted(paused, "file")} paused.`);
  return parts.join(" ");
}
