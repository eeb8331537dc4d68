// What went wrong, in the page's language: the server's own words are English. No DOM.

import { bytes, visible } from "./format.js";
import { has, t } from "./messages.js";

/** @type {Record<string, string[]>} members of the problem document that stand in a sentence; without them the server's words say more */
const NEEDED = { file_type_not_accepted: ["file", "accept"], file_too_large: ["file", "limit"], too_large: ["limit"], too_many_files: ["limit"], "bad_parameter.too_short": ["limit"], "bad_parameter.too_long": ["limit"], "bad_password.too_short": ["limit"], "bad_password.too_long": ["limit"], too_many_attempts: ["retry_after"], too_many_requests: ["retry_after"], "quota_exceeded.storage": ["limit", "used"] };
/** @type {Set<string>} their sentences name the limit, not the time until the next try */
const OF_LIMIT = new Set(["too_many_submissions"]);

/**
 * @param {Record<string, any>} problem of the server (application/problem+json), or of this page, which has only `detail`
 * @returns {string} a sentence; that of the server for codes that mean several things; "" if it has none
 */
export function problemText(problem) {
  const { file = "", accept = [], limit = 0, used = 0, retry_after: seconds, reason } = problem;
  const code = has(`problem.${problem.code}.${reason}`) ? `${problem.code}.${reason}` : problem.code;
  if (!has(`problem.${code}`) || NEEDED[code]?.some((name) => problem[name] === undefined)) return problem.detail || problem.title || "";
  return t(`problem.${code}`, { file: visible(file), accept: accept.join(", "), limit: bytes(limit), used: bytes(used), n: OF_LIMIT.has(problem.code) ? limit : seconds ?? limit });
}
