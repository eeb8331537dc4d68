// /submissions/<id>: the view of a submission after a reload or in another tab.

import { LivePage } from "../core/live-page.js";
import { part } from "../core/page.js";
import { pageData } from "../core/page-data.js";
import { SubmissionModel } from "./model.js";
import { SubmissionView } from "./view.js";

const { submission, cursor } = pageData();
const model = new SubmissionModel(submission.id);
model.take(submission);
const view = new SubmissionView(part(document, "submission"), new LivePage(), model);
view.follow(cursor);
await view.loadFiles(submission); // the first ones are shown meanwhile
