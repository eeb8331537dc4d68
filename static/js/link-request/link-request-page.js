// /r/<id>: somebody without an account chooses and sends files by a link, and finds what they have sent before.

import "../frame/frame-page.js";
import { callJson } from "../core/api.js";
import { LivePage } from "../core/live-page.js";
import { part } from "../core/page.js";
import { pageData } from "../core/page-data.js";
import { rulesOf } from "../upload/checks.js";
import { mountChoosing } from "../upload/choosing.js";
import { mountRecent } from "../upload/recent.js";
import { watchEnd } from "../visitor/ending.js";
import { takeSecret } from "../visitor/secret.js";
import * as words from "../visitor/words.js";

const { invitation, ...data } = pageData();
const SHOWN = 10; // of what was sent before

takeSecret(); // this browser has entered the link before
addEventListener("hashchange", takeSecret);
const page = new LivePage();
const endRecent = mountRecent({
  find: async () => {
    const { items } = await callJson("GET", `/submissions?limit=${SHOWN}`);
    return items.map((/** @type {any} */ { first_file: first, ...one }) => ({ ...one, files: first ? [first] : [] }));
  },
  isEmpty: () => false,
  stateText: words.stateTextOf(invitation.shows_results),
});
const form = part(document, "drop-form");
if (form instanceof HTMLFormElement) {
  mountChoosing({
    page,
    rules: rulesOf(/** @type {any} */ (data)), // with what may still be sent by the link
    listed: (hasFiles) => { part(document, "after").hidden = hasFiles; },
    submitted: () => {
      endRecent();
      part(document, "after").hidden = true;
      part(document, "head").hidden = false;
    },
    shown: { words, seesJobs: invitation.shows_results },
  });
}
watchEnd(page, endRecent);
