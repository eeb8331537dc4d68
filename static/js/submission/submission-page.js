// /submissions/<id>: the view of a submission after a reload or in another tab.

import { furtherFiles } from "../core/api.js";
import { followConfigProblem } from "../core/config-problem.js";
import { mountConnectionBadge } from "../core/connection.js";
import { Live } from "../core/live.js";
import { SubmissionModel } from "./model.js";
import { part } from "../core/page.js";
import { pageData } from "../core/page-data.js";
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
