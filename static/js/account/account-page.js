// /account: the own password, tokens for programs, and the browsers that are signed in.

import "../frame/frame-page.js";
import { callJson, reasonOf } from "../core/api.js";
import { visible } from "../core/format.js";
import { LivePage } from "../core/live-page.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, part, setChildren, setText } from "../core/page.js";
import { deviceOf, expirySeconds, scopeWords, sessionTimes, tokenName, tokenTimes } from "./account-words.js";
import { confirmed } from "./confirm.js";
import { mountCopy } from "./copy.js";
import { act, mountForm, say } from "./form.js";

/** @typedef {import("./account-words.js").Token} Token */
/** @typedef {import("./account-words.js").Session} Session */

/** Whoever has signed in elsewhere has no password here, and with a proxy no sessions. */
const hasPassword = document.querySelector("[data-part=password-form]") !== null;
const hasSession = document.querySelector("[data-part=session-list]") !== null;
const get = (/** @type {string} */ name) => part(document, name);

// --- password ----------------------------------------------------------------------------------------------------------

if (hasPassword) mountForm(/** @type {HTMLFormElement} */ (get("password-form")), get("password-problem"), async (fields, form) => {
  get("password-done").hidden = true;
  if (fields.get("new") !== fields.get("repeat")) throw new Error(t("account.not_the_same"));
  await callJson("PUT", "/session/password", { current: fields.get("current"), new: fields.get("new") });
  form.reset();
  say(get("password-done"), t("account.password_changed"));
  void listSessions(); // the others have ended
});

// --- tokens ------------------------------------------------------------------------------------------------------------

async function listTokens() {
  try {
    const { items } = await callJson("GET", "/tokens");
    setChildren(get("token-list"), items.map(tokenRow));
    get("no-tokens").hidden = items.length > 0;
  } catch (error) {
    say(get("tokens-problem"), reasonOf(error));
  }
}

/** @param {Token} token @returns {HTMLElement} */
function tokenRow(token) {
  const row = cloneTemplate("token-template");
  const name = visible(tokenName(token));
  setText(part(row, "name"), name);
  setText(part(row, "prefix"), `${token.prefix}…`);
  setText(part(row, "scopes"), scopeWords(token.scopes));
  setText(part(row, "times"), tokenTimes(token));
  const revoke = part(row, "revoke");
  revoke.setAttribute("aria-label", t("account.revoke_named", { name }));
  revoke.addEventListener("click", async () => {
    if (!await confirmed(t("account.revoke_named", { name }), t("account.revoke_why"), t("account.revoke"))) return;
    await act(get("tokens-problem"), async () => {
      await callJson("DELETE", `/tokens/${encodeURIComponent(token.id)}`);
      announce(t("account.revoked", { name }));
    });
    await listTokens();
    (get("token-list").querySelector("button") ?? get("token-form").querySelector("input"))?.focus(); // its button is gone
  });
  return row;
}

mountForm(/** @type {HTMLFormElement} */ (get("token-form")), get("token-problem"), async (fields, form) => {
  const scopes = fields.getAll("scopes");
  if (scopes.length === 0) throw new Error(t("account.no_scope"));
  const name = String(fields.get("name") ?? "").trim();
  const made = await callJson("POST", "/tokens", { scopes, expires_in: expirySeconds(String(fields.get("days") ?? "")), ...name && { name } });
  form.reset();
  setText(get("token"), made.token);
  get("token-made").hidden = false;
  get("token-made").focus();
  void listTokens();
});

mountCopy(get("token-copy"), get("token"));

// --- sessions ----------------------------------------------------------------------------------------------------------

async function listSessions() {
  try {
    /** @type {{items: Session[]}} */
    const { items } = await callJson("GET", "/sessions");
    const own = items.filter((one) => one.is_current);
    setChildren(get("session-list"), [...own, ...items.filter((one) => !own.includes(one))].map(sessionRow));
  } catch (error) {
    say(get("sessions-problem"), reasonOf(error));
  }
}

/** @param {Session} session @returns {HTMLElement} */
function sessionRow(session) {
  const row = cloneTemplate("session-template");
  const device = visible(deviceOf(session.user_agent));
  setText(part(row, "device"), device);
  part(row, "device").title = visible(session.user_agent ?? "");
  part(row, "current").hidden = !session.is_current;
  setText(part(row, "place"), session.client);
  setText(part(row, "times"), sessionTimes(session));
  const end = part(row, "end");
  end.hidden = session.is_current; // the menu signs out of it
  end.setAttribute("aria-label", t("account.end_named", { device, place: session.client }));
  end.addEventListener("click", async () => {
    await act(get("sessions-problem"), async () => {
      await callJson("DELETE", `/sessions/${encodeURIComponent(session.id)}`);
      announce(t("account.ended"));
    });
    await listSessions();
    /** @type {HTMLElement | null} */ (get("session-list").querySelector("button:not([hidden])") ?? document.getElementById("main"))?.focus();
  });
  return row;
}

void listTokens();
if (hasSession) void listSessions();
new LivePage(); // hears when the session ends
