// /submissions/<id>: the view of a submission after a reload or in another tab.

import { furtherFiles } from "./api.js";
import { followConfigProblem } from "./config-problem.js";
import { mountConnectionBadge } from "./connection.js";
import { Live } from "./live.js";
import { SubmissionModel } from "./model.js";
import { part } from "./page.js";
import { pageData } from "./page-data.js";
import { SubmissionView } from "./view.js";

const { submission, cursor } = pageData();
const live = new Live();
mountConnectionBadge(live);
followConfigProblem(live);
live.start();

const model = new SubmissionModel(submission.id);
model.take(submission);
const view = new SubmissionView(part(document, "submission"), live, model);
try {
  for await (const files of furtherFiles(submission)) model.takeFiles(files);
} catch (error) {
  view.problem = `Not every file could be listed: ${error instanceof Error ? error.message : error} Reload the page to try again.`;
}
view.follow(cursor);
