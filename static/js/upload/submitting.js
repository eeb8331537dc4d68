// What a page that takes files needs once they are chosen: the view of the submission that they become, and the sending. Loaded
// then, not before.

import { base } from "../core/base.js";
import { part } from "../core/page.js";
import { SubmissionModel } from "../submission/model.js";
import { SubmissionView } from "../submission/view.js";
import * as overall from "../submission/overall.js";
import { addToSubmission } from "./adding.js";
import { Sending } from "./queue.js";
import { mountSending } from "./sending-view.js";

export { openSubmission } from "./queue.js";

/**
 * @typedef {object} Shown how a submission is shown
 * @property {import("../core/live-page.js").LivePage} page
 * @property {import("./checks.js").Rules} rules for what is added to it
 * @property {import("../submission/view.js").Words} words what is said of the whole
 * @property {boolean} seesJobs whether the page hears what the script makes of the files
 */

/**
 * Show a submission in place of the list, and send its files.
 * @param {Record<string, any>} submission as the API gives it
 * @param {import("./transfers.js").Item[]} items
 * @param {Pick<Shown, "page" | "rules"> & Partial<Shown>} shown
 */
export function showSubmission(submission, items, { page, rules, words = overall, seesJobs = true }) {
  history.pushState(null, "", `${base}/submissions/${submission.id}`);
  addEventListener("popstate", () => location.reload());
  part(document, "columns").classList.remove("choosing");
  const model = new SubmissionModel(submission.id, { seesJobs });
  model.take(submission);
  const view = new SubmissionView(part(document, "submission"), page, model, words);
  view.follow(0);
  const sending = mountSending(new Sending(model, items), model, view, page.live);
  addToSubmission(model, sending, (sentence) => { view.problem = sentence; }, rules);
}
