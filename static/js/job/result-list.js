// The list of a job's results, with links to download them.

import { callJson } from "../core/api.js";
import { bytes, visible } from "../core/format.js";
import { t } from "../core/messages.js";
import { setText } from "../core/page.js";
import { resultUrl } from "./results.js";

/** @typedef {import("../submission/model.js").Job} Job */

const MAX_SHOWN = 500; // rows of the list; the zip has every result

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
  if (results.length > MAX_SHOWN) shown.push(line(t("output.results_more", { n: results.length - MAX_SHOWN })));
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
