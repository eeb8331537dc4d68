// /submissions/<id>: the view of a submission after a reload or in another tab.

import "../frame/frame-page.js";
import { LivePage } from "../core/live-page.js";
import { part } from "../core/page.js";
import { pageData } from "../core/page-data.js";
import { addToSubmission } from "../upload/adding.js";
import { rulesOf } from "../upload/checks.js";
import { SubmissionModel } from "./model.js";
import { SubmissionView } from "./view.js";

const { submission, cursor } = pageData();
const model = new SubmissionModel(submission.id);
model.take(submission);
const page = new LivePage();
const view = new SubmissionView(part(document, "submission"), page, model);
view.follow(cursor);
await view.loadFiles(submission); // the first ones are shown meanwhile
if (model.isOpen && model.isComplete) {
  const { mountResuming } = await import("../upload/sending-view.js"); // a submission that is sealed needs nothing of it
  const sending = mountResuming(model, view, page.live);
  addToSubmission(model, sending, (sentence) => { view.problem = sentence; }, rulesOf(pageData()));
}
