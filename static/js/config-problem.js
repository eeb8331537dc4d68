// The notices, on every page, that the config file on disk does not hold the newest revision, and that parts of the
// server do not work.

import { base } from "./base.js";
import { part, setText } from "./page.js";
import { pageData } from "./page-data.js";

const LOOK_AGAIN_MS = 5000; // while there is a notice to take back: a file that is put back makes no event
const LOOK_ANYWAY_MS = 30000; // a part that fails makes no event

/**
 * Keep the notices true: ask on every event of the config, and from time to time.
 * @param {import("./live.js").Live} live
 * @returns {() => void} asks at once, for who knows that something changed
 */
export function followConfigProblem(live) {
  const notice = part(document, "config-on-disk");
  const degradedNotice = part(document, "degraded");
  const words = pageData().words?.parts ?? {};
  let timer = 0;
  let isAgain = false; // a save's event comes before its text is in the file, or is not
  const later = () => {
    clearTimeout(timer);
    const isSoon = isAgain || !notice.hidden || !degradedNotice.hidden;
    timer = window.setTimeout(look, isSoon ? LOOK_AGAIN_MS : LOOK_ANYWAY_MS);
  };
  const look = async () => {
    clearTimeout(timer);
    try {
      const response = await fetch(`${base}/readyz`);
      const { degraded, config_problem: problem } = await response.json(); // of a refusal, too
      if (Array.isArray(degraded)) {
        degradedNotice.hidden = degraded.length === 0;
        const names = degraded.map((name) => words[name] ?? name).join(", ");
        if (degraded.length) setText(part(degradedNotice, "degraded-text"), names);
      }
      if (!response.ok) return;
      notice.hidden = problem === null;
      if (problem !== null) setText(part(notice, "config-on-disk-text"), problem);
    } catch {
      // The server is away; the connection badge says so.
    } finally {
      later();
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
  later();
  return look;
}
