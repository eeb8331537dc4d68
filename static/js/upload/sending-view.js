// Shows on the page of a submission how this page's sending of its files goes, and gives a person its buttons.

import { api } from "../core/base.js";
import { counted } from "../core/format.js";
import { part, setText } from "../core/page.js";
import { canChecksum } from "./transfers.js";

/** @typedef {import("../core/live.js").Live} Live */
/** @typedef {import("../submission/model.js").SubmissionModel} SubmissionModel */
/** @typedef {import("../submission/view.js").SubmissionView} SubmissionView */
/** @typedef {import("./queue.js").Sending} Sending */

/**
 * Show the state of the sending, and its buttons.
 * @param {Sending} sending
 * @param {SubmissionModel} model
 * @param {SubmissionView} view
 * @param {Live} live
 */
export function mountSending(sending, model, view, live) {
  const [pause, held, tryNow, resume, stop] = ["pause-all", "held", "try-now", "resume-all", "stop-sending"].map((name) => part(document, name));
  pause.addEventListener("click", () => sending.pause());
  resume.addEventListener("click", () => sending.resume());
  tryNow.addEventListener("click", () => sending.tryNow());
  stop.addEventListener("click", () => sending.giveUp());
  document.addEventListener("row-action", (event) => {
    const asked = /** @type {CustomEvent<import("../submission/rows.js").RowAction>} */ (event).detail;
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
