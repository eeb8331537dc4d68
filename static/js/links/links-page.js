// /links: by which links somebody without an account may send files or see a submission. For operators.

import "../frame/frame-page.js";
import { confirmed } from "../account/confirm.js";
import { act, mountForm } from "../account/form.js";
import { callJson } from "../core/api.js";
import { base } from "../core/base.js";
import { visible } from "../core/format.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, part, setChildren, setText } from "../core/page.js";
import { optionWords, requestOf, stateWords, usageWords } from "./link-words.js";
import { mountMade, showMade } from "./made.js";

/** @typedef {import("./link-words.js").Link} Link */

const AT_ONCE = 50;
const get = (/** @type {string} */ name) => part(document, name);
/** @type {Map<string, HTMLElement>} by the link's id */
const rows = new Map();
let shown = AT_ONCE;

/** @param {Link} link @returns {HTMLElement} */
function rowOf(link) {
  const label = visible(link.label);
  let row = rows.get(link.id);
  if (!row) {
    row = cloneTemplate("link-template");
    rows.set(link.id, row);
    const revoke = part(row, "revoke");
    revoke.setAttribute("aria-label", t("links.revoke_named", { label }));
    revoke.addEventListener("click", () => void end(link.id, label));
  }
  setText(part(row, "label"), label);
  setText(part(row, "kind"), t(`links.kind.${link.kind}`));
  setText(part(row, "state"), stateWords(link));
  setText(part(row, "usage"), usageWords(link));
  const options = optionWords(link);
  setText(part(row, "asks"), options);
  part(row, "asks").hidden = options === "";
  row.toggleAttribute("data-gone", link.state !== "live");
  part(row, "revoke").hidden = link.state !== "live";
  const open = part(row, "open");
  open.hidden = link.submission_id === null;
  if (link.submission_id !== null) open.setAttribute("href", `${base}/submissions/${encodeURIComponent(link.submission_id)}`);
  return row;
}

/** @param {string} id @param {string} label */
async function end(id, label) {
  if (!await confirmed(t("links.revoke_named", { label }), t("links.revoke_why"), t("links.revoke"))) return;
  if (await act(get("list-problem"), () => callJson("DELETE", `/links/${encodeURIComponent(id)}`))) announce(t("links.revoked", { label }));
  await list();
  rows.get(id)?.focus();
}

async function list() {
  await act(get("list-problem"), async () => {
    /** @type {Link[]} */
    const links = [];
    let next = null;
    do {
      const before = next === null ? "" : `&before=${encodeURIComponent(next)}`;
      const page = await callJson("GET", `/links?limit=${AT_ONCE}${before}`);
      links.push(...page.items);
      ({ next } = page);
    } while (next !== null && links.length < shown);
    setChildren(get("link-list"), links.map(rowOf));
    get("no-links").hidden = links.length > 0;
    get("list-more").hidden = next === null;
  });
}

mountMade(get("links"));
// A browser can only show what is wrong with a field that is in sight.
get("link-form").addEventListener("invalid", ({ target }) => { if (target instanceof Element) target.closest("details")?.setAttribute("open", ""); }, true);
mountForm(/** @type {HTMLFormElement} */ (get("link-form")), get("link-problem"), async (fields, form) => {
  const made = await callJson("POST", "/links", requestOf(fields));
  form.reset();
  showMade(get("links"), made);
  void list();
});
get("list-more").addEventListener("click", () => {
  shown += AT_ONCE;
  void list();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) void list(); }); // it was used meanwhile
void list();
