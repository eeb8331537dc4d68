// A link that ends while its page is open: it is revoked, or its time is over.

import { Problem, callJson } from "../core/api.js";
import { canSend } from "../core/base.js";
import { t } from "../core/messages.js";
import { part, setText } from "../core/page.js";
import { whenReleased } from "../core/press.js";

const NOT_FOUND = 404;

/**
 * Say so when the link has ended, and offer nothing more.
 * @param {import("../core/live-page.js").LivePage} page
 * @param {() => void} [ended] is called then
 */
export function watchEnd(page, ended = () => {}) {
  const { live } = page;
  let isOver = false;
  const check = async () => {
    if (isOver || !(await hasEnded())) return;
    isOver = true;
    page.end();
    const notice = part(document, "ended");
    whenReleased(() => {
      notice.closest("[data-part=head]")?.removeAttribute("hidden");
      setText(notice, t(canSend ? "visitor.ended_meanwhile" : "visitor.result_ended"));
      notice.hidden = false;
      document.documentElement.classList.add("link-ended");
      ended();
    });
  };
  live.addEventListener("connection", () => { if (!live.isConnected) void check(); }); // the server ends it with the link
  live.addEventListener("refused", () => void check());
}

/** @returns {Promise<boolean>} false while nobody can be asked */
async function hasEnded() {
  try {
    await callJson("GET", "/invitation");
    return false;
  } catch (error) {
    return error instanceof Problem && error.status === NOT_FOUND;
  }
}
