// How many files of a submission are in each state, as people count them. No DOM.

/** @typedef {Record<"announced" | "receiving" | "aborted" | "queued" | "running" | "succeeded" | "failed" | "cancelled", number>} Counts */

/**
 * @param {{counts: Counts, aborted_as: {cancelled: number, replaced: number}}} submission as the API answers it
 * @returns {Counts} files whose upload was cancelled are cancelled, and a file that was sent again counts once
 */
export const shownCounts = ({ counts, aborted_as: { cancelled, replaced } }) =>
  ({ ...counts, aborted: counts.aborted - cancelled - replaced, cancelled: counts.cancelled + cancelled });

/** @param {Counts} counts @returns {number} all files */
export const totalOf = (counts) => Object.values(counts).reduce((sum, files) => sum + files, 0);
