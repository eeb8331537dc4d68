// What a job left for download: where it is, what it is called, and the list of it below a row.

import { callJson } from "./api.js";
import { api } from "./base.js";
import { bytes, count, counted, visible } from "./format.js";
import { setText } from "./page.js";

/** @typedef {{path: string, size: number}} Result */
/** @typedef {import("./model.js").Job} Job */

const MAX_SHOWN = 500; // rows of the list; all of them are in the zip

/** @param {string} jobId @param {Result} result @returns {string} where it can be had */
export const resultUrl = (jobId, { path }) =>
  `${api}/jobs/${encodeURIComponent(jobId)}/results/${path.split("/").map(encodeURIComponent).join("/")}`;

/** @param {Job} job @returns {string} its results in a few words; "" without any */
export function resultText({ result_count: total, results }) {
  if (total === 1 && results[0]) return `${visible(results[0].path.split("/").at(-1) ?? "")} · ${bytes(results[0].size)}`;
  return total ? counted(total, "result") : "";
}

/**
 * Fill a list with links to all results of a job.
 * @param {HTMLElement} list
 * @param {Job} job
 * @returns {Promise<void>}
 */
export async function listResults(list, job) {
  let { results } = job;
  if (results.length < job.result_count) {
    try {
      ({ results } = await callJson("GET", `/jobs/${encodeURIComponent(job.id)}`));
    } catch (error) {
      list.replaceChildren(line(/** @type {Error} */ (error).message));
      return;
    }
  }
  const shown = results.slice(0, MAX_SHOWN).map((result) => {
    const link = document.createElement("a");
    link.href = resultUrl(job.id, result);
    link.download = "";
    const name = document.createElement("bdi");
    setText(name, visible(result.path));
    link.append(name);
    return line(link, bytes(result.size));
  });
  if (results.length > MAX_SHOWN) shown.push(line(`and ${count(results.length - MAX_SHOWN)} more; “Download results” includes them all`));
  list.replaceChildren(...shown);
}

/** @param {Node | string} what @param {string} [size] @returns {HTMLElement} */
function line(what, size = "") {
  const item = document.createElement("li");
  const end = document.createElement("span");
  setText(end, size);
  item.append(what, end);
  return item;
}
