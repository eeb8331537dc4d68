// /: choose, submit, watch.

import "../frame/frame-page.js";
import { LivePage } from "../core/live-page.js";
import { part } from "../core/page.js";
import { pageData } from "../core/page-data.js";
import { rulesOf } from "./checks.js";
import { mountChoosing } from "./choosing.js";
import { mountRecent, remember } from "./recent.js";

const page = new LivePage();
const endRecent = mountRecent();
mountChoosing({
  page,
  rules: rulesOf(pageData()),
  listed: (hasFiles) => { part(document, "after").hidden = hasFiles; },
  submitted: ({ id }) => {
    remember(id);
    endRecent();
    part(document, "after").hidden = true;
  },
});
