// What the pages of a link say of a whole submission: as the page of a submission, but for people who know nothing of the server.
// No DOM.

import { shownCounts, totalOf } from "../core/counts.js";
import { t } from "../core/messages.js";
import { safety as safetyToAll } from "../submission/overall.js";
import { stateText } from "../upload/recent.js";

export { pageTitle, spoken, summary, verdict } from "../submission/overall.js";

/** @typedef {import("../submission/overall.js").Submission} Submission */
/** @typedef {import("../submission/overall.js").Sending} Sending */

/**
 * @param {Submission} submission that the person of this page sends, or has sent
 * @param {Sending} sending
 * @returns {string} whether the page may be closed
 */
export function safety(submission, sending) {
  const { counts, total, isSettled, isAllStored } = submission;
  if (sending || !isAllStored) return safetyToAll(submission, sending);
  const missing = counts.aborted + counts.given_up;
  if (missing === total) return "";
  if (missing) return t("visitor.arrived_partly", { n: total - missing });
  return t(isSettled ? "visitor.arrived" : "visitor.arrived_results");
}

/** What is said to who only looks: that it may be closed goes without saying. */
export const ofResult = {
  safety: (/** @type {Submission} */ submission, /** @type {Sending} */ sending) => (submission.isAllStored ? "" : safetyToAll(submission, sending)),
};

/** @param {Record<string, any>} submission as the API gives it, of a link that shows no results @returns {string} how much has arrived */
export function arrivalText({ state, ...submission }) {
  const counts = shownCounts(/** @type {any} */ (submission));
  const total = totalOf(counts);
  const missing = counts.announced + counts.receiving;
  if (state === "open" && missing) return t("visitor.recent.open", { n: total, arrived: counts.succeeded });
  const parts = [];
  if (counts.succeeded) parts.push(t("visitor.recent.arrived", { n: counts.succeeded }));
  for (const name of /** @type {const} */ (["cancelled", "aborted"])) if (counts[name]) parts.push(t(`upload.recent.${name}`, { n: counts[name] }));
  return parts.join(", ") || t("upload.recent.none");
}

/** @param {boolean} seesResults @returns {(submission: Record<string, any>) => string} */
export const stateTextOf = (seesResults) => (seesResults ? stateText : arrivalText);
