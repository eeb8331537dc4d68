// The results of a job: their addresses, and a summary for its row. No DOM.

import { api } from "../core/base.js";
import { bytes, visible } from "../core/format.js";
import { t } from "../core/messages.js";

/** @typedef {{path: string, size: number}} Result */
/** @typedef {import("../submission/model.js").Job} Job */

/** @param {string} jobId @param {Result} result @returns {string} address to download it from */
export const resultUrl = (jobId, { path }) =>
  `${api}/jobs/${encodeURIComponent(jobId)}/results/${path.split("/").map(encodeURIComponent).join("/")}`;

/** @param {{result_count: number, results: Result[]}} job @returns {string} name and size of a single result, else how many; "" without any */
export function resultText({ result_count: total, results }) {
  if (total === 1 && results[0]) return `${visible(results[0].path.split("/").at(-1) ?? "")} · ${bytes(results[0].size)}`;
  return total ? t("output.results", { n: total }) : "";
}
