// Files that failed with an older config: which ones there are, and queueing them again. No DOM.

import { Problem, callJson, reasonOf } from "../core/api.js";

/** @typedef {{id: string, submission_id: string, settled_at: string | null, attempts: {config_revision: string}[]}} FailedJob a Job of the API */

const PAGE = 1000;
const RECENT = 50; // of the newest failed jobs of all submissions
const RECENT_MS = 60 * 60 * 1000;
const AT_ONCE = 4;

/** @param {FailedJob} job @param {string} newest SHA-256 of the newest revision @returns {boolean} */
const isOlder = ({ attempts }, newest) => attempts.at(-1)?.config_revision !== newest;

/**
 * @param {string} submissionId
 * @param {string} newest SHA-256 of the newest revision
 * @returns {Promise<FailedJob[]>} all jobs of the submission that failed with an older one
 * @throws {Problem}
 */
export async function failedInSubmission(submissionId, newest) {
  /** @type {FailedJob[]} */
  const found = [];
  let before = "";
  do {
    const page = await callJson("GET", `/jobs?submission=${encodeURIComponent(submissionId)}&state=failed&limit=${PAGE}${before}`);
    found.push(...page.items.filter((/** @type {FailedJob} */ job) => isOlder(job, newest)));
    before = page.next ? `&before=${encodeURIComponent(page.next)}` : "";
  } while (before);
  return found;
}

/**
 * @param {string} newest SHA-256 of the newest revision
 * @param {string} savedAt when it was saved (RFC 3339, the server's clock)
 * @returns {Promise<FailedJob[]>} of the newest failed jobs those of the hour before that failed with an older one
 * @throws {Problem}
 */
export async function failedRecently(newest, savedAt) {
  const { items } = await callJson("GET", `/jobs?state=failed&limit=${RECENT}`);
  const since = Date.parse(savedAt) - RECENT_MS;
  return items.filter((/** @type {FailedJob} */ job) => isOlder(job, newest) && Date.parse(job.settled_at ?? "") >= since);
}

/**
 * Queue jobs again, a few at once.
 * @param {FailedJob[]} jobs
 * @param {(done: number) => void} onProgress how many are done
 * @returns {Promise<{left: FailedJob[], reason: string}>} those that were not queued, and why the first of them was not
 */
export async function retryAll(jobs, onProgress) {
  const waiting = [...jobs];
  /** @type {FailedJob[]} */
  const left = [];
  let reason = "";
  let done = 0;
  const work = async () => {
    for (let job = waiting.shift(); job; job = waiting.shift()) {
      try {
        await callJson("POST", `/jobs/${encodeURIComponent(job.id)}/retry`);
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 409) { // 409: someone else has queued it again
          left.push(job);
          reason ||= reasonOf(error);
          if (error instanceof Problem && error.status === 0) left.push(...waiting.splice(0)); // the server is away
          continue;
        }
      }
      done += 1;
      onProgress(done);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { left, reason };
}
