// A link that was made: its addresses are shown once, because the server keeps only the hash of the secret in them.

import { mountCopy } from "../account/copy.js";
import { part, setText } from "../core/page.js";

/** @typedef {{id: string, url: string, url_without_script: string}} Made as the API answers it */

/** Let the buttons copy. @param {HTMLElement} root with a copy of the macro `made` of templates/_share.html */
export function mountMade(root) {
  mountCopy(part(root, "made-copy"), part(root, "made-url"));
  mountCopy(part(root, "plain-copy"), part(root, "made-plain"));
}

/** @param {HTMLElement} root @param {Made} made */
export function showMade(root, { url, url_without_script: plain }) {
  const box = part(root, "made");
  setText(part(box, "made-url"), url);
  setText(part(box, "made-plain"), plain);
  box.hidden = false;
  box.focus();
  box.scrollIntoView({ block: "nearest" });
}
