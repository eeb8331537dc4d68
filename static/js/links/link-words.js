// What the page of links says of one. No DOM.

import { ago, bytes, localDateTime, visible } from "../core/format.js";
import { t } from "../core/messages.js";

/**
 * @typedef {object} Link as the API answers it
 * @property {string} id
 * @property {"request" | "result"} kind
 * @property {string} label
 * @property {string | null} submission_id
 * @property {string | null} made_by
 * @property {string} made_at
 * @property {string} expires_at
 * @property {string | null} revoked_at
 * @property {"live" | "expired" | "revoked"} state
 * @property {boolean} has_passphrase
 * @property {boolean} asks_name
 * @property {boolean} shows_results
 * @property {number | null} max_files
 * @property {number | null} max_size bytes
 * @property {number | null} max_submissions
 * @property {number} files
 * @property {number} size bytes
 * @property {number} submissions
 * @property {number} visits
 * @property {string | null} last_used_at
 */

const DAY_S = 24 * 3600;
const MIB = 1024 * 1024;

/** @param {Link} link @returns {string} whether it works, and who made it */
export function stateWords({ state, expires_at: expires, revoked_at: revoked, made_at: made, made_by: by }) {
  return [
    t(`links.state.${state}`, { time: localDateTime(state === "revoked" ? revoked ?? expires : expires) }),
    by === null ? t("links.made_at", { time: ago(made) }) : t("links.made_by", { time: ago(made), name: visible(by) }),
  ].join(" · ");
}

/** @param {Link} link @returns {string} what was sent or seen with it */
export function usageWords({ kind, visits, last_used_at: last, ...link }) {
  const parts = [visits ? t("links.visits", { n: visits }) : t("links.never_used")];
  if (last) parts.push(t("links.last_used", { time: ago(last) }));
  if (kind === "result") return parts.join(" · ");
  const of = (/** @type {string} */ used, /** @type {string | null} */ most) => (most === null ? used : t("links.of", { used, most }));
  const { submissions, files, size, max_submissions: maxSubmissions, max_files: maxFiles, max_size: maxSize } = link;
  if (submissions || maxSubmissions !== null) {
    parts.push(of(t("links.used_submissions", { n: submissions }), maxSubmissions === null ? null : String(maxSubmissions)));
  }
  if (files || maxFiles !== null) parts.push(of(t("links.used_files", { n: files }), maxFiles === null ? null : String(maxFiles)));
  if (size || maxSize !== null) parts.push(of(bytes(size), maxSize === null ? null : bytes(maxSize)));
  return parts.join(" · ");
}

/** @param {Link} link @returns {string} what it asks of its visitors and shows them */
export const optionWords = ({ kind, has_passphrase: hasPassphrase, asks_name: asksName, shows_results: showsResults }) => [
  hasPassphrase && t("links.has_passphrase"), asksName && t("links.with_name"), kind === "request" && showsResults && t("links.with_results"),
].filter(Boolean).join(" · ");

/**
 * @param {FormData} fields of the form that makes a link
 * @returns {Record<string, unknown>} as the API takes it
 * @throws {Error} a limit is no whole number from 1
 */
export function requestOf(fields) {
  const text = (/** @type {string} */ name) => String(fields.get(name) ?? "").trim();
  const limit = (/** @type {string} */ name, unit = 1) => {
    if (text(name) === "") return null;
    const value = Number(text(name)) * unit;
    if (!Number.isSafeInteger(value) || value < 1) throw new Error(t("links.not_a_size"));
    return value;
  };
  return {
    kind: "request",
    label: text("label"),
    text: text("text") || null,
    expires_in: Number(text("days")) * DAY_S,
    max_files: limit("max_files"),
    max_size: limit("max_size", MIB),
    max_submissions: limit("max_submissions"),
    passphrase: String(fields.get("passphrase") ?? "") || null,
    asks_name: fields.has("asks_name"),
    shows_results: fields.has("shows_results"),
  };
}

/** @param {FormData} fields @param {string} submissionId @returns {Record<string, unknown>} as the API takes it */
export const resultOf = (fields, submissionId) => ({
  kind: "result", submission_id: submissionId, label: String(fields.get("label") ?? "").trim(), expires_in: Number(fields.get("days")) * DAY_S,
});
