// The badge that shows the state of the live connection.

import { part, setText } from "./page.js";

/** @typedef {import("./live.js").Live} Live */
/** @typedef {import("./live.js").Connection} Connection */

/** @type {Record<Connection, {word: string, hint: string}>} */
const WORDS = {
  connecting: { word: "connecting", hint: "Connecting to the server" },
  live: { word: "live", hint: "Every step is shown as it happens" },
  reconnecting: { word: "reconnecting", hint: "The connection was lost. The page reconnects automatically and misses no events." },
  refused: { word: "not live", hint: "The server refused the connection; reload the page to see what is new" },
};

/** @param {Live} live */
export function mountConnectionBadge(live) {
  const badge = part(document, "connection");
  const word = part(badge, "connection-word");
  const render = () => {
    badge.hidden = false;
    badge.dataset.connection = live.connection;
    badge.title = WORDS[live.connection].hint;
    setText(word, WORDS[live.connection].word);
  };
  live.addEventListener("connection", render);
  render();
}
