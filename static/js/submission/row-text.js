// What the row of a file says, and which rows each filter shows. No DOM.

import { bytes, duration, exitText, percent, queuePosition, visible } from "../core/format.js";
import { resultText } from "../job/results.js";
import { stateOf, stateWord } from "../core/words.js";

/** @typedef {import("./model.js").Entry} Entry */

/** @type {Record<string, string>} by the state of a settled job */
const PROCESSED = { succeeded: "processed", failed: "failed", cancelled: "cancelled" };

/** @type {Record<string, (entry: Entry) => boolean>} */
export const FILTERS = {
  all: () => true,
  working: (entry) => ["receiving", "retrying", "running"].includes(stateOf(entry)),
  waiting: (entry) => ["announced", "paused", "stored", "queued"].includes(stateOf(entry)),
  failed: (entry) => ["failed", "refused", "aborted", "cancelled"].includes(stateOf(entry)),
  succeeded: (entry) => stateOf(entry) === "succeeded",
};

/** @param {Entry} entry @returns {boolean} whether some, but not all of its bytes have arrived */
export function isPartlySent(entry) {
  const { sending, upload, received } = entry;
  return stateOf(entry) === "receiving" || (sending !== null && upload !== "stored" && received > 0);
}

/** @param {Entry} entry @returns {string} the words below the bar of the upload */
export function uploadWords(entry) {
  const { received, size, speed, upload } = entry;
  if (!isPartlySent(entry)) return stateWord(upload).toLowerCase();
  const amount = size ? percent(Math.min(received / size, 0.99)) : bytes(received);
  return [amount, speed ? `${bytes(speed)}/s` : ""].filter(Boolean).join(" · ");
}

/** @param {Entry} entry @returns {string} the words below the bar of the processing */
export function processWords({ job }) {
  if (!job || job.state === "queued") return "";
  const { value = 0, total = null } = job.progress ?? {};
  if (job.state === "running") return total !== null && total > 0 ? percent(value / total) : "";
  return job.state === "failed" && job.exit_code ? exitText(job.exit_code) : PROCESSED[job.state];
}

/** @param {Entry} entry @returns {string} the small text below the name */
export function noteOf({ job, sending, remark }) {
  if (!job) return sending === "refused" ? "" : remark;
  if (job.state === "queued") return job.position ? queuePosition(job.position) : "queued";
  if (job.state === "running") return job.progress?.label ? visible(job.progress.label) : (job.attempts > 1 ? `attempt ${job.attempts}` : "picked up");
  const parts = [resultText(job), job.attempts > 1 ? `attempt ${job.attempts}` : "", job.duration === null ? "" : `in ${duration(job.duration)}`];
  return parts.filter(Boolean).join(" · ");
}

/** @param {Entry} entry @returns {string} what went wrong; "" if nothing did */
export function errorOf({ job, upload, error, sending, remark }) {
  if (job?.state === "failed") return job.error ? visible(`${job.error.type}: ${job.error.message}`) : "The script gave no reason.";
  if (sending === "refused") return remark || "The server refused the file.";
  return upload === "aborted" ? `Nothing was kept: ${error ?? "the upload was interrupted"}.` : "";
}
