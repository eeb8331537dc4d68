// What the page says about a whole submission. No DOM.

import { bytes, count, counted, duration, localDateTime, percent, roughly } from "../core/format.js";

/** @typedef {import("./model.js").Counts} Counts */
/** @typedef {Pick<import("./model.js").SubmissionModel, "entries" | "counts" | "bytes" | "speed" | "isOpen" | "isAllStored" | "isSettled" | "openedAt" | "settledAt">} Submission */

/**
 * @param {Counts} counts
 * @returns {{over: number, failed: number}} files that are over, whatever their outcome; of them, those that failed or were not sent
 */
export function sums({ succeeded, failed, cancelled, aborted }) {
  return { over: succeeded + failed + cancelled + aborted, failed: failed + aborted };
}

/** @param {Submission} submission */
export function headline({ counts, entries, isSettled }) {
  if (entries.length === 0 && !isSettled) return "Nothing has arrived yet";
  return `${count(sums(counts).over)} of ${counted(entries.length, "file")}`;
}

/** @param {Submission} submission @param {boolean} isSender whether this page sends it, which speed and rest are about */
export function summary({ counts, bytes: size, speed, openedAt, settledAt, isSettled }, isSender) {
  const parts = [];
  if (counts.failed) parts.push(`${count(counts.failed)} failed`);
  if (counts.aborted) parts.push(`${count(counts.aborted)} not sent`);
  if (counts.cancelled) parts.push(`${count(counts.cancelled)} cancelled`);
  if (isSender) {
    parts.push(`${bytes(size.received)} of ${bytes(size.total)} sent`);
    if (speed) parts.push(`${bytes(speed)}/s`, roughly(Math.max(0, size.total - size.received) / speed));
  } else if (size.total) {
    parts.push(size.received < size.total ? `${bytes(size.received)} of ${bytes(size.total)} sent` : bytes(size.total));
  }
  if (openedAt && settledAt && isSettled) parts.push(`took ${duration((Date.parse(settledAt) - Date.parse(openedAt)) / 1000)}`);
  if (openedAt && !isSender) parts.push(localDateTime(openedAt));
  return parts.join(" · ");
}

/**
 * @param {Submission} submission
 * @param {"going" | "held" | null} sending of this page; held: it waits for a person; null: this page sends nothing
 * @returns {string} whether the page may be closed; how the submission ended
 */
export function safety(submission, sending) {
  if (sending === "held") return "What has arrived is kept. Keep this page open to send the rest.";
  if (sending) return "Keep this page open until all bytes have arrived.";
  if (submission.isSettled) return ending(submission.counts);
  if (submission.isAllStored) return "All bytes have arrived. It is safe to close this page; processing continues without it.";
  return submission.isOpen ? "More files may still arrive." : "The last bytes have arrived; the server is storing them.";
}

/** @param {Counts} counts of a settled submission */
function ending({ failed, aborted, cancelled }) {
  if (failed) return "Finished. Some files failed; see below.";
  if (aborted) return "Finished. Some files were not sent; see below.";
  return cancelled ? "Finished. Some files were cancelled; see below." : "All files processed.";
}

/** @param {Submission} submission @returns {string} the title of the browser's tab */
export function pageTitle({ counts, bytes: size, entries, isSettled }) {
  const { over, failed } = sums(counts);
  if (isSettled) return `${failed ? "✗" : "✓"} Dropmill`;
  const total = entries.length;
  // Sending and processing count half each: neither alone shows how much time is left.
  const sent = size.total ? size.received / size.total : over === total ? 1 : 0;
  return `(${percent(Math.min((sent + (total ? over / total : 0)) / 2, 0.99))}) Dropmill`;
}

/** @param {Submission} submission with at least one file @returns {string} for screen readers */
export function spoken({ counts, entries, isSettled }) {
  const { over, failed } = sums(counts);
  const files = counted(entries.length, "file");
  if (isSettled) return `Finished: ${files}, ${count(failed)} failed.`;
  return `${count(over)} of ${files} processed${failed ? `, ${count(failed)} failed` : ""}.`;
}
