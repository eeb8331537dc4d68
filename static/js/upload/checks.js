// Which files the server would refuse, by the limits that it put into the page. It checks the same again. No DOM.

import { bytes, visible } from "../core/format.js";
import { t } from "../core/messages.js";

/** @typedef {import("./transfers.js").Item} Item */

/**
 * @typedef {object} Rules
 * @property {string[]} accept as in HTML's `accept`: extensions and media types, in lower case; empty: every type
 * @property {string[]} accept_extensions what the media types in it are called, with their dots
 * @property {{max_file_size: number | null, max_files: number | null, max_submission_size: number | null}} limits null: no limit
 */

const NAMED = 3; // files that a note names
const NAME_MAX = 4096; // bytes that the server takes for a path
const encoder = new TextEncoder();

/** @param {Record<string, any>} pageData @returns {Rules} */
export const rulesOf = ({ accept = [], accept_extensions = [], limits }) => ({
  accept,
  accept_extensions,
  limits: { max_file_size: null, max_files: null, max_submission_size: null, ...limits },
});

/**
 * @param {Rules} rules
 * @param {Item} item
 * @returns {boolean} whether its name or its type is accepted
 */
export function isAccepted({ accept, accept_extensions: extensions }, { path, file }) {
  const name = path.toLowerCase();
  return accept.length === 0 || extensions.some((extension) => name.endsWith(extension)) || accept.some((entry) => {
    if (entry.startsWith(".")) return name.endsWith(entry);
    return entry.endsWith("/*") ? file.type.startsWith(entry.slice(0, -1)) : file.type === entry;
  });
}

/**
 * Check files in the order in which they were added: of two that exclude each other, the earlier one stays.
 * @param {Rules} rules
 * @param {Item[]} items
 * @returns {string[]} why each cannot be sent; "" for one that can
 */
export function check(rules, items) {
  const { max_file_size: maxSize, max_files: maxFiles, max_submission_size: maxTotal } = rules.limits;
  const paths = new Set();
  let total = 0;
  return items.map((item) => {
    const { path, file: { size } } = item;
    if (!isAccepted(rules, item)) return t("upload.bad.type");
    if (maxSize !== null && size > maxSize) return t("upload.bad.size", { size: bytes(maxSize) });
    if (encoder.encode(path).length > NAME_MAX) return t("upload.bad.long", { n: NAME_MAX });
    if (/\p{Surrogate}/u.test(path)) return t("upload.bad.broken");
    if (paths.has(path)) return t("upload.bad.twice");
    if (maxFiles !== null && paths.size >= maxFiles) return t("upload.bad.files", { n: maxFiles });
    if (maxTotal !== null && total + size > maxTotal) return t("upload.bad.total", { size: bytes(maxTotal) });
    paths.add(path);
    total += size;
    return "";
  });
}

/**
 * Say which files are not sent.
 * @param {{path: string, problem: string}[]} files with the reason for each
 * @returns {string} "" if there are none
 */
export function leftOut(files) {
  if (files.length === 0) return "";
  return t("upload.left_out", { n: files.length, names: names(files.map(({ path, problem }) => t("upload.left_out_one", { name: path, reason: problem }))) });
}

/** @param {string[]} paths @returns {string} the first of them, and how many more there are */
export function names(paths) {
  const named = paths.slice(0, NAMED).map(visible).join(", ");
  return paths.length > NAMED ? t("upload.and_more", { names: named, n: paths.length - NAMED }) : named;
}
