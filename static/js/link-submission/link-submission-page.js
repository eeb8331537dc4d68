// One submission on a page of a link: who sent it goes on with it after a reload; who was given a result link looks at it.

import "../frame/frame-page.js";
import { canSend } from "../core/base.js";
import { LivePage } from "../core/live-page.js";
import { part } from "../core/page.js";
import { pageData } from "../core/page-data.js";
import { SubmissionModel } from "../submission/model.js";
import { SubmissionView } from "../submission/view.js";
import { addToSubmission } from "../upload/adding.js";
import { rulesOf } from "../upload/checks.js";
import { watchEnd } from "../visitor/ending.js";
import { takeSecret } from "../visitor/secret.js";
import * as words from "../visitor/words.js";

const { invitation, submission, cursor } = pageData();
part(document, "plain").remove(); // what browsers without scripts show
takeSecret(); // this browser has entered the link before
addEventListener("hashchange", takeSecret);
const model = new SubmissionModel(submission.id, { seesJobs: invitation.shows_results });
model.take(submission);
const page = new LivePage();
const view = new SubmissionView(part(document, "submission"), page, model, canSend ? words : { ...words, ...words.ofResult });
watchEnd(page);
view.follow(cursor);
await view.loadFiles(submission); // the first ones are shown meanwhile
if (canSend && model.isOpen && model.isComplete) {
  const { mountResuming } = await import("../upload/sending-view.js"); // a submission that is sealed needs nothing of it
  const sending = mountResuming(model, view, page.live);
  addToSubmission(model, sending, (sentence) => { view.problem = sentence; }, rulesOf(pageData()));
}
