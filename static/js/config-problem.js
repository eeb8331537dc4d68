// The notice, on every page, that the config file on disk does not hold the newest revision.

import { base } from "./base.js";
import { part, setText } from "./page.js";

const LOOK_AGAIN_MS = 5000; // a file that is put back as it was makes no event

/**
 * Keep the notice true: look again on every event of the config, and while there is something to take back.
 * @param {import("./live.js").Live} live
 * @returns {() => void} looks at once, for who knows that something changed
 */
export function followConfigProblem(live) {
  const notice = part(document, "config-on-disk");
  let timer = 0;
  let isAgain = false; // a save's event comes before its text is in the file, or is not
  const look = async () => {
    clearTimeout(timer);
    try {
      const response = await fetch(`${base}/readyz`);
      if (!response.ok) return;
      const { config_problem: problem } = await response.json();
      notice.hidden = problem === null;
      if (problem !== null) setText(part(notice, "config-on-disk-text"), problem);
    } catch {
      // The server is away; the connection badge says so.
    } finally {
      if (!notice.hidden || isAgain) timer = window.setTimeout(look, LOOK_AGAIN_MS);
      isAgain = false;
    }
  };
  live.addEventListener("events", (event) => {
    if (/** @type {CustomEvent<import("./live.js").EventsMessage>} */ (event).detail.topic !== "config") return;
    isAgain = true;
    look();
  });
  // What happened between the making of this page and the join has no event: look once for each connection.
  live.addEventListener("snapshot", (event) => {
    if (/** @type {CustomEvent<{topic: string}>} */ (event).detail.topic === "config") look();
  });
  live.join("config", null);
  if (!notice.hidden) timer = window.setTimeout(look, LOOK_AGAIN_MS);
  return look;
}
