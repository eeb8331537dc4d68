// What / needs once files are chosen: the view of the submission that they become, and the sending. Loaded then, not before.

import { base } from "../core/base.js";
import { part } from "../core/page.js";
import { SubmissionModel } from "../submission/model.js";
import { SubmissionView } from "../submission/view.js";
import { addToSubmission } from "./adding.js";
import { Sending } from "./queue.js";
import { mountSending } from "./sending-view.js";

export { openSubmission } from "./queue.js";

/**
 * Show a submission in place of the list, and send its files.
 * @param {Record<string, any>} submission as the API gives it
 * @param {import("./transfers.js").Item[]} items
 * @param {import("../core/live-page.js").LivePage} page
 * @param {import("./checks.js").Rules} rules for what is added to it
 */
export function showSubmission(submission, items, page, rules) {
  history.pushState(null, "", `${base}/submissions/${submission.id}`);
  addEventListener("popstate", () => location.reload());
  part(document, "columns").classList.remove("choosing");
  const model = new SubmissionModel(submission.id);
  model.take(submission);
  const view = new SubmissionView(part(document, "submission"), page, model);
  view.follow(0);
  const sending = mountSending(new Sending(model, items), model, view, page.live);
  addToSubmission(model, sending, (sentence) => { view.problem = sentence; }, rules);
}
