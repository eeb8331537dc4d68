// What the audit says of an event: who did it, from where, and what. No DOM.

import { clientText, visible } from "../core/format.js";
import { t } from "../core/messages.js";
import { deviceOf } from "../account/account-words.js";

/** @typedef {import("../core/live.js").LiveEvent} LiveEvent */
/** @typedef {{items: LiveEvent[], next: number | null}} AuditPage as the API answers it */
/** @typedef {{kind: string, who: string}} AuditQuery "" where nothing is asked for */

/** @param {string} search of an address @returns {AuditQuery} */
export function queryOf(search) {
  const given = new URLSearchParams(search);
  return { kind: given.get("kind") ?? "", who: (given.get("who") ?? "").trim() };
}

/** @param {Partial<AuditQuery> & {before?: number | null, limit?: number}} query @returns {string} beginning with `?`, or "" */
export function searchOf({ kind, who, before, limit }) {
  const fields = Object.entries({ kind, who, before, limit }).filter(([, value]) => value);
  return fields.length ? `?${new URLSearchParams(fields.map(([name, value]) => [name, String(value)]))}` : "";
}

/** The subject's account of these is another one, and who did it is told beside it; a link is entered by nobody's. */
const BY_OTHERS = new Set(["account.changed", "link.made", "link.used", "link.revoked"]);

/** @param {LiveEvent} event @returns {string | null} the account that did it; null without one */
export const accountOf = ({ name, subject, data }) => (BY_OTHERS.has(name) ? data.by ?? null : subject.account);

/** @param {LiveEvent} event @returns {string} who did it */
export function whoText(event) {
  const account = accountOf(event);
  if (account) return visible(account);
  return t(event.subject.client ? "audit.nobody" : "audit.at_server");
}

/** @param {LiveEvent} event @returns {string} "" for what was done on the server itself */
export const placeText = ({ subject }) => clientText(subject.client);

/** @param {LiveEvent} event @returns {string} */
export const deviceText = ({ subject }) => (subject.client ? visible(deviceOf(subject.client.user_agent ?? null)) : "");

/** @param {LiveEvent} event @returns {string} what was done */
export function whatText({ name, subject, data }) {
  const account = visible(subject.account ?? "");
  const file = visible(subject.name ?? "");
  switch (name) {
    case "account.signed_in":
      return t(`audit.signed_in.${data.method}`);
    case "account.signed_out":
      return t(`audit.signed_out.${data.reason}`);
    case "account.refused":
      return [
        t(`audit.refused.${data.reason}`), data.count > 1 && t("audit.times", { n: data.count }), data.route && t("audit.at", { route: data.route }),
      ].filter(Boolean).join(" · ");
    case "account.changed":
      return t(`audit.changed.${data.change}`, { account, role: data.role ? t(`account.role.${data.role}`) : "", token: `${data.token}…` });
    case "config.saved":
      return data.message ? t("audit.config.saved_for", { message: visible(data.message) }) : t("audit.config.saved");
    case "config.rejected": {
      const [first] = data.errors;
      return first ? t("audit.config.rejected_for", { line: first.line, message: visible(first.message) }) : t("audit.config.rejected");
    }
    case "config.purged":
      return t("audit.config.purged", { sha256: data.sha256.slice(0, 12) });
    case "job.cancel_requested":
      return file ? t("audit.jobs.cancel_of", { file }) : t("audit.jobs.cancel", { n: data.count });
    case "job.retry_requested":
      return file ? t("audit.jobs.retry_of", { file }) : t("audit.jobs.retry", { n: data.count });
    case "notice.posted":
      return t("audit.notices.posted", { text: visible(data.text) });
    case "notice.withdrawn":
      return t("audit.notices.withdrawn");
    case "link.made":
      return t(`audit.links.made.${data.kind}`, { label: visible(data.label) });
    case "link.used": {
      const label = visible(data.label);
      return data.said_name ? t("audit.links.used_by", { label, name: visible(data.said_name) }) : t("audit.links.used", { label });
    }
    case "link.revoked":
      return t("audit.links.revoked", { label: visible(data.label) });
    default: // of a later server
      return name;
  }
}

/**
 * The newest page in front of what is shown, as far as nothing is missing between them.
 * @param {AuditPage} shown
 * @param {AuditPage} newest
 * @returns {AuditPage}
 */
export function joined(shown, newest) {
  const covered = shown.items[0]?.cursor ?? 0;
  if (newest.next === null || covered < newest.next) return newest;
  const first = newest.items.at(-1)?.cursor ?? Infinity;
  return { items: [...newest.items, ...shown.items.filter(({ cursor }) => cursor < first)], next: shown.next };
}
