// What the pages of accounts say of tokens, sessions and people. No DOM.

import { ago, bytes, localDateTime } from "../core/format.js";
import { t } from "../core/messages.js";

/** @typedef {{id: string, name: string | null, scopes: string[], prefix: string, created_at: string, expires_at: string | null, last_used_at: string | null}} Token as the API answers it */
/** @typedef {{id: string, created_at: string, last_used_at: string, expires_at: string, client: string, user_agent: string | null, is_current: boolean}} Session */
/** @typedef {{id: string, name: string, role: string, created_at: string, disabled_at: string | null, removed_at: string | null, last_seen_at: string | null, quota: Quota}} Person */
/** @typedef {{limits: {storage: number | null}, usage: {storage: number}}} Quota as far as pages of admins show it */

const DAY_S = 24 * 3600;

// The first that fits: most browsers name others, too.
const BROWSERS = [["Edg", "Edge"], ["OPR", "Opera"], ["Firefox", "Firefox"], ["FxiOS", "Firefox"], ["CriOS", "Chrome"], ["Chrome", "Chrome"], ["Safari", "Safari"]];
const SYSTEMS = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Macintosh", "macOS"], ["CrOS", "ChromeOS"], ["Linux", "Linux"]];

/** @param {string | null} userAgent @returns {string} browser and system as people call them */
export function deviceOf(userAgent) {
  const find = (/** @type {string[][]} */ known) => known.find(([mark]) => userAgent?.includes(mark))?.[1];
  const browser = find(BROWSERS);
  const system = find(SYSTEMS);
  if (browser && system) return t("account.device", { browser, system });
  return browser ?? system ?? t("account.unknown_device");
}

/** @param {Session} session */
export const sessionTimes = ({ created_at: created, last_used_at: used, expires_at: expires }) =>
  t("account.session_times", { created: localDateTime(created), used: ago(used), expires: localDateTime(expires) });

/** @param {Token} token */
export const tokenName = ({ name }) => name || t("account.unnamed");

/** @param {Token} token @returns {boolean} */
export const isExpired = ({ expires_at: expires }, now = Date.now()) => expires !== null && Date.parse(expires) <= now;

/** @param {Token} token @returns {string} when it was made and last used, and until when it is good */
export function tokenTimes(token) {
  const { created_at: created, expires_at: expires, last_used_at: used } = token;
  return [
    t("account.made_at", { time: localDateTime(created) }),
    used ? t("account.used", { time: ago(used) }) : t("account.never_used"),
    expires === null ? t("account.expires_never") : t(isExpired(token) ? "account.expired_at" : "account.expires_at", { time: localDateTime(expires) }),
  ].join(" · ");
}

/** @param {string[]} scopes */
export const scopeWords = (scopes) => scopes.map((scope) => t(`account.scope_word.${scope}`)).join(", ");

/** @param {string} days "" for never @returns {number | null} seconds */
export const expirySeconds = (days) => (days === "" ? null : Number(days) * DAY_S);

/** @param {Person} person @returns {string} what is to be said beside the name */
export function personState({ disabled_at: disabled, removed_at: removed, last_seen_at: seen }) {
  if (removed) return t("account.removed_at", { time: localDateTime(removed) });
  if (disabled) return t("account.disabled_at", { time: localDateTime(disabled) });
  return seen ? t("account.seen", { time: ago(seen) }) : t("account.never_seen");
}

/** @param {Quota} quota @returns {string} what is kept of somebody's files */
export function keptWords({ limits, usage }) {
  const used = bytes(usage.storage);
  return limits.storage === null ? t("account.kept", { used }) : t("account.kept_of", { used, limit: bytes(limits.storage) });
}

/** @param {Person[]} people @returns {Person[]} by name; those that are gone last */
export function inOrder(people) {
  const rank = (/** @type {Person} */ { removed_at: removed }) => (removed ? 1 : 0);
  return [...people].sort((one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name));
}

const LETTERS = "abcdefghijkmnopqrstuvwxyz23456789"; // without those that look alike
const GROUPS = 4;
const GROUP = 5; // 20 of 33 letters: 100 bits

/** @returns {string} a password to hand over once */
export function newPassword() {
  const limit = 256 - (256 % LETTERS.length); // each letter is as likely as the others
  /** @type {string[]} */
  const letters = [];
  while (letters.length < GROUPS * GROUP) {
    const [random] = crypto.getRandomValues(new Uint8Array(1));
    if (random < limit) letters.push(LETTERS[random % LETTERS.length]);
  }
  return Array.from({ length: GROUPS }, (_, at) => letters.slice(at * GROUP, (at + 1) * GROUP).join("")).join("-");
}
