// What the page says about a whole submission: the verdict first. No DOM.

import { bytes, duration, roughly } from "../core/format.js";
import { t } from "../core/messages.js";

/** @typedef {import("./model.js").Counts} Counts */
/** @typedef {import("../core/words.js").Tone} Tone */
/** @typedef {Pick<import("./model.js").SubmissionModel, "total" | "counts" | "bytes" | "speed" | "isOpen" | "isAllStored" | "isSettled" | "isComplete" | "openedAt" | "settledAt">} Submission */
/** @typedef {"going" | "held" | null} Sending of this page; held: it waits for a person; null: this page sends nothing */

/**
 * @param {Counts} counts
 * @returns {number} files that are over, whatever their outcome
 */
export const overOf = ({ succeeded, arrived, failed, cancelled, given_up: givenUp, aborted }) => succeeded + arrived + failed + cancelled + givenUp + aborted;

/**
 * @param {Submission} submission
 * @param {Sending} sending
 * @returns {{text: string, tone: Tone, icon: "check" | "close" | "stop" | "pause" | "wait" | null}} the outcome, or what goes on;
 *   `wait` moves
 */
export function verdict(submission, sending) {
  const { counts, total, isSettled, isOpen } = submission;
  if (isSettled) return outcome(counts, total);
  if (total === 0) return { text: t("submission.nothing_yet"), tone: "quiet", icon: null };
  const progress = { over: overOf(counts), total };
  if (counts.running) return { text: t("submission.processing", progress), tone: "working", icon: "wait" };
  if (sending === "held") return { text: t("submission.held", progress), tone: "quiet", icon: "pause" };
  if (sending === "going" || counts.receiving) return { text: t("submission.sending", progress), tone: "sending", icon: "wait" };
  if (counts.queued + counts.stored) return { text: t("submission.waiting", progress), tone: "working", icon: "wait" };
  if (counts.broken) return { text: t("submission.broken", progress), tone: "working", icon: "pause" };
  return { text: t(isOpen ? "submission.open" : "submission.processing", progress), tone: "quiet", icon: null };
}

/** @param {Counts} counts of a settled submission @param {number} total @returns {ReturnType<typeof verdict>} */
function outcome(counts, total) {
  const { succeeded, arrived, failed, aborted } = counts;
  const cancelled = counts.cancelled + counts.given_up;
  /** @type {Pick<ReturnType<typeof verdict>, "tone" | "icon">} */
  const look = failed + aborted
    ? { tone: "bad", icon: "close" }
    : cancelled ? { tone: "quiet", icon: "stop" } : { tone: "good", icon: "check" };
  if (total === 0) return { text: t("submission.nothing_sent"), tone: "quiet", icon: "stop" };
  if (failed === total) return { ...look, text: t("submission.all_failed", { n: total }) };
  if (cancelled === total) return { ...look, text: t("submission.all_cancelled", { n: total }) };
  if (aborted === total) return { ...look, text: t("submission.all_not_sent", { n: total }) };
  if (arrived === total) return { ...look, text: t("submission.all_arrived", { n: total }) };
  const list = [
    arrived && t("submission.n_arrived", { n: arrived }),
    succeeded && t("submission.n_succeeded", { n: succeeded }), failed && t("submission.n_failed", { n: failed }),
    aborted && t("submission.n_not_sent", { n: aborted }), cancelled && t("submission.n_cancelled", { n: cancelled }),
  ].filter(Boolean).join(", ");
  return { ...look, text: t(succeeded + arrived ? "submission.done" : "submission.over", { list }) };
}

/**
 * @param {Submission} submission
 * @param {Sending} sending
 * @param {number | null} left seconds until it settles, estimated
 * @returns {string} numbers behind the verdict
 */
export function summary({ bytes: size, speed, openedAt, settledAt, isSettled, isComplete }, sending, left) {
  const parts = [];
  if (isComplete && size.total) {
    const isPart = sending !== null || size.received < size.total;
    parts.push(isPart ? t("submission.bytes_sent", { received: bytes(size.received), total: bytes(size.total) }) : bytes(size.total));
  }
  if (speed) parts.push(t("submission.speed", { speed: bytes(speed) }));
  if (left !== null && !isSettled) parts.push(roughly(left));
  if (openedAt && settledAt && isSettled) parts.push(t("submission.took", { time: duration((Date.parse(settledAt) - Date.parse(openedAt)) / 1000) }));
  return parts.join(" · ");
}

/**
 * @param {Submission} submission
 * @param {Sending} sending
 * @returns {string} whether the page may be closed, and what the submission waits for; "" once it has settled
 */
export function safety({ counts, isSettled, isAllStored, isOpen }, sending) {
  if (sending === "held") return t("submission.keep_open_for_rest");
  if (sending) return t("submission.keep_open");
  if (isSettled) return "";
  if (isAllStored) return t("submission.safe_to_close");
  if (counts.broken && !counts.receiving) return t("submission.pick_again", { n: counts.broken });
  return t(isOpen ? "submission.more_may_come" : "submission.storing");
}

/** @param {Submission} submission @returns {string} the title of the browser's tab */
export function pageTitle({ counts, total, isSettled }) {
  const over = overOf(counts);
  if (!isSettled) return total ? `${over}/${total} · Dropmill` : "Dropmill";
  if (counts.failed + counts.aborted) return "✗ Dropmill";
  return `${counts.cancelled + counts.given_up ? "■" : "✓"} Dropmill`;
}

const SPOKEN_STEPS = 10; // of a submission with many files: a sentence for each file would never end

/**
 * @param {Submission} submission
 * @param {Sending} sending
 * @returns {string} for screen readers; it changes with the outcome, with each failure, and with each tenth of the files
 */
export function spoken(submission, sending) {
  const { counts, total, isSettled } = submission;
  if (isSettled) return t("submission.sentence", { text: outcome(counts, total).text });
  const over = overOf(counts);
  const step = Math.max(1, Math.floor(total / SPOKEN_STEPS));
  const rounded = { ...counts, succeeded: Math.max(0, Math.floor(over / step) * step - (over - counts.succeeded)) };
  const { text } = verdict({ ...submission, counts: rounded, total, isSettled, isOpen: submission.isOpen }, sending);
  const failed = counts.failed + counts.aborted;
  return t("submission.sentence", { text: failed ? `${text}, ${t("submission.n_failed", { n: failed })}` : text });
}
