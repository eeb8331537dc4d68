// What the row of a file says. No DOM.

import { canSend } from "../core/base.js";
import { bytes, duration, elapsed, percent, queuePosition, visible } from "../core/format.js";
import { language, t } from "../core/messages.js";
import { resultText } from "../job/results.js";
import { label, stateOf } from "../core/words.js";

/** @typedef {import("./model.js").Entry} Entry */

/** States in which bars say something; a row in another state takes one line. */
const BUSY = new Set(["receiving", "running", "retrying", "paused", "broken"]);

/** @param {Entry} entry @returns {boolean} whether its row shows how far it is */
export const isBusy = (entry) => BUSY.has(stateOf(entry));

/** @param {Entry} entry @returns {boolean} whether some, but not all of its bytes have arrived */
export function isPartlySent(entry) {
  const { sending, upload, received, isBroken } = entry;
  return stateOf(entry) === "receiving" || ((sending !== null || isBroken) && upload !== "stored" && received > 0);
}

/** @param {Entry} entry @returns {string} the words beside the bar of the upload */
export function uploadWords(entry) {
  const { received, size, speed, upload } = entry;
  if (upload === "stored") return t("submission.sent");
  if (!isPartlySent(entry)) return "";
  const amount = size ? percent(Math.min(received / size, 0.99)) : bytes(received);
  return [amount, speed ? t("submission.speed", { speed: bytes(speed) }) : ""].filter(Boolean).join(" · ");
}

/** @param {Entry} entry @returns {string} the words beside the bar of the processing */
export function processWords({ job }) {
  if (job?.state !== "running") return "";
  const { value = 0, total = null } = job.progress ?? {};
  return total !== null && total > 0 ? percent(value / total) : "";
}

/** @param {Entry} entry @returns {string} the small text beside or below the name */
export function noteOf(entry) {
  const { job, upload, sending, remark, isBroken, isStalled, canContinue, received, size } = entry;
  if (!job) {
    if (isBroken && upload === "aborted") return t(canContinue || !canSend ? "submission.broken_anew" : "submission.broken_pick_anew");
    if (isBroken) {
      const at = size ? percent(Math.min(received / size, 0.99)) : bytes(received);
      return t(canContinue || !canSend ? "submission.broken_at" : "submission.broken_pick", { at });
    }
    if (isStalled) return t("submission.offline");
    return sending === "refused" ? "" : remark;
  }
  if (job.state === "queued") return job.position ? queuePosition(job.position) : "";
  const attempt = job.attempts > 1 ? t("submission.attempt", { number: job.attempts }) : "";
  if (job.state === "running") return [job.progress?.label && visible(job.progress.label), attempt].filter(Boolean).join(" · ");
  return [resultText(job), attempt].filter(Boolean).join(" · ");
}

/**
 * @param {Entry} entry
 * @param {number} now ms since 1970 by the server's clock
 * @returns {string} how long its script has run
 */
export function timeOf({ job }, now) {
  if (job?.state === "running" && job.started_at) return elapsed(Math.max(0, now - Date.parse(job.started_at)) / 1000);
  return job && job.duration !== null && job.state !== "queued" ? duration(job.duration) : "";
}

/**
 * @param {Entry} entry
 * @returns {{sentence: string, words: string} | null} what went wrong: a plain sentence, and the script's own words; null if
 *   nothing did
 */
export function errorOf(entry) {
  const { job, error, cause, sending, remark } = entry;
  if (job?.state === "failed") return jobError(job);
  if (sending === "refused") return { sentence: remark || t("submission.error.refused"), words: "" };
  if (stateOf(entry) !== "aborted") return null;
  const reason = cause ? label("cause", cause) : error ?? t("submission.error.interrupted");
  return { sentence: t("submission.error.not_kept", { reason }), words: "" };
}

/** @param {NonNullable<Entry["job"]>} job that failed */
function jobError({ error, exit_code: code }) {
  if (!error) return { sentence: t("submission.error.no_reason"), words: "" };
  const { type, message } = error;
  if (type === "exit_code") {
    const isBare = message === `exited with code ${code}`; // the script wrote nothing
    return { sentence: t("submission.error.exit", { code: String(code) }), words: isBare ? "" : visible(message) };
  }
  if (type === "signal") return { sentence: t("submission.error.signal"), words: visible(message) };
  // A snake_case type is the server's, which says in a sentence what it did; any other one is an exception of the script.
  if (/^[a-z][a-z0-9_]*$/.test(type)) return { sentence: t("submission.error.server"), words: visible(message) };
  return { sentence: t("submission.error.exception"), words: visible(message ? `${type}: ${message}` : type) };
}

const END_CHARACTERS = 12; // of a name that does not fit: enough for a number and an extension
const STEM_CHARACTERS = 8; // a shorter rest is not worth leaving out
const graphemes = new Intl.Segmenter(language, { granularity: "grapheme" });

/**
 * A path in the parts that a row shows: of a long one the middle is left out.
 * @param {string} path
 * @returns {{folder: string, stem: string, end: string}} that together are the visible path
 */
export function splitPath(path) {
  const shown = visible(path);
  const slash = shown.lastIndexOf("/") + 1;
  const characters = [...graphemes.segment(shown.slice(slash))].map(({ segment }) => segment);
  const cut = characters.length < END_CHARACTERS + STEM_CHARACTERS ? 0 : characters.length - END_CHARACTERS;
  return { folder: shown.slice(0, slash), stem: characters.slice(0, cut).join(""), end: characters.slice(cut).join("") };
}
