// The notices of every page: the config file on disk does not hold the newest revision; parts of the server do not work.

import { base, seesConfig } from "./base.js";
import { part, setText } from "./page.js";
import { released } from "./press.js";
import { label } from "./words.js";

const POLL_SOON_MS = 5000; // while a notice is shown: restoring the file causes no event
const POLL_MS = 30_000; // a failing part causes no event

/**
 * Keep the notices up to date: poll after each config event, and regularly.
 * @param {import("./live.js").Live} live
 * @returns {() => void} polls at once
 */
export function followConfigProblem(live) {
  const notice = part(document, "config-on-disk");
  const degradedNotice = part(document, "degraded");
  let timer = 0;
  let isAgain = false; // a save's event arrives before the file is written
  const later = () => {
    clearTimeout(timer);
    const isSoon = isAgain || !notice.hidden || !degradedNotice.hidden;
    timer = window.setTimeout(poll, isSoon ? POLL_SOON_MS : POLL_MS);
  };
  const poll = async () => {
    clearTimeout(timer);
    try {
      const response = await fetch(`${base}/readyz`);
      const { degraded, config_problem: problem } = await response.json(); // a 503 has this body, too
      await released(); // a notice moves all that is below
      if (Array.isArray(degraded)) {
        degradedNotice.hidden = degraded.length === 0;
        const names = degraded.map((name) => label("part", name)).join(", ");
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
    poll();
  });
  // Changes between rendering this page and joining have no event: poll once per connection.
  live.addEventListener("snapshot", (event) => {
    if (/** @type {CustomEvent<{topic: string}>} */ (event).detail.topic === "config") poll();
  });
  if (seesConfig) live.join("config", null);
  later();
  return poll;
}
