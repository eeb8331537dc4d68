// The badge that shows the state of the live connection.

import { t } from "./messages.js";
import { part, setText } from "./page.js";

/** @typedef {import("./live.js").Live} Live */

/** @param {Live} live */
export function mountConnectionBadge(live) {
  const badge = part(document, "connection");
  const word = part(badge, "connection-word");
  const render = () => {
    badge.hidden = false;
    badge.dataset.connection = live.connection;
    badge.title = t(`core.connection.${live.connection}_hint`);
    setText(word, t(`core.connection.${live.connection}`));
  };
  live.addEventListener("connection", render);
  render();
}
