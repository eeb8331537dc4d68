// The badge that shows how the live connection stands, and the buttons that belong to it.

import { api } from "./base.js";
import { timeOfMinute } from "./format.js";
import { t } from "./messages.js";
import { paced, part, setText } from "./page.js";
import { session } from "./session.js";

/** @typedef {import("./live.js").Live} Live */

/** @type {Record<string, string>} the label of the button, where it does more than to try again */
const ACTS = { updated: "reload", signed_out: "sign_in" };
const AWAY_MS = 20_000; // a connection that is lost for longer will not be back at once

/** @param {Live} live */
export function mountConnectionBadge(live) {
  const badge = part(document, "connection");
  const act = part(badge, "connection-act");
  const render = paced(() => draw(badge, live));
  act.addEventListener("click", () => {
    const shown = badge.dataset.connection; // what was pressed; the state may have changed since
    if (shown === "signed_out") session.ask();
    else if (shown === "updated") location.reload();
    else live.tryNow();
  });
  live.addEventListener("status", render);
  setInterval(() => { if (live.lostAt) render(); }, 1000); // the seconds until the next attempt
  draw(badge, live);
}

/** @param {HTMLElement} badge @param {Live} live */
function draw(badge, live) {
  const { state, word, hint } = stateOf(live);
  badge.hidden = false;
  badge.dataset.connection = state;
  badge.title = hint;
  setText(part(badge, "connection-word"), word);
  const isWaiting = live.lostAt > 0 && live.connection !== "refused" && state !== "signed_out";
  const seconds = Math.ceil((live.retryAt - Date.now()) / 1000);
  const until = part(badge, "connection-in");
  until.hidden = !isWaiting || live.retryAt === 0 || seconds < 1;
  if (!until.hidden) setText(until, t("core.connection.in", { n: seconds }));
  const act = part(badge, "connection-act");
  act.hidden = !(state in ACTS || isWaiting);
  setText(act, t(`core.connection.${ACTS[state] ?? "now"}`));
  const why = part(badge, "connection-why");
  why.hidden = state !== "polling";
  setText(part(document, "connection-blocked"), t(live.isSwallowed ? "core.connection.blocked_swallowed" : "core.connection.blocked_refused"));
  setText(part(document, "connection-set"), t("core.connection.set", { path: `${api}/live` }));
}

/** @param {Live} live @returns {{state: string, word: string, hint: string}} */
function stateOf(live) {
  const { connection, lostAt } = live;
  if (connection === "reconnecting" && Date.now() - lostAt > AWAY_MS) {
    const word = t(live.isSending() ? "core.connection.away_sending" : "core.connection.away", { time: timeOfMinute(lostAt) });
    return { state: "away", word, hint: t("core.connection.away_hint") };
  }
  if (live.isConnected && live.isUpdated) return { state: "updated", word: t("core.connection.updated"), hint: t("core.connection.updated_hint") };
  // The panel of an output says itself why it is empty.
  const [refused] = [...live.refusals].filter(([topic]) => !topic.startsWith("output:"));
  if (live.isConnected && refused) {
    const reason = refused[1].detail ?? refused[1].code;
    const hint = t(live.isFinal(refused[1]) ? "core.connection.partly_hint" : "core.connection.partly_again", { reason });
    return { state: "partly", word: t("core.connection.partly"), hint };
  }
  return { state: connection, word: t(`core.connection.${connection}`), hint: t(`core.connection.${connection}_hint`) };
}
