// /people: who may sign in, and what they may do. For admins.

import "../frame/frame-page.js";
import { inOrder, keptWords, newPassword, personState } from "../account/account-words.js";
import { confirmed } from "../account/confirm.js";
import { mountCopy } from "../account/copy.js";
import { act, mountForm, say } from "../account/form.js";
import { callJson, reasonOf } from "../core/api.js";
import { visible } from "../core/format.js";
import { LivePage } from "../core/live-page.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, part, setChildren, setText } from "../core/page.js";
import { pageData } from "../core/page-data.js";

/** @typedef {import("../account/account-words.js").Person} Person */

const get = (/** @type {string} */ name) => part(document, name);
/** @type {Map<string, PersonRow>} by the account's id */
const rows = new Map();

class PersonRow {
  /** @type {Person} */
  #person;
  element = cloneTemplate("person-template");

  /** @param {Person} person */
  constructor(person) {
    this.#person = person;
    const on = (/** @type {string} */ name, /** @type {() => Promise<void>} */ action) => this.#part(name).addEventListener("click", action);
    on("reset", () => this.#reset());
    on("disable", () => this.#change({ is_disabled: this.#person.disabled_at === null }));
    on("remove", () => this.#remove());
    this.#role.addEventListener("change", () => this.#change({ role: this.#role.value }));
  }

  /** @param {Person} person */
  show(person) {
    this.#person = person;
    const name = visible(person.name);
    const isGone = person.removed_at !== null;
    const isMe = person.name === pageData().me;
    setText(this.#part("name"), name);
    setText(this.#part("state"), personState(person));
    setText(this.#part("kept"), keptWords(person.quota));
    this.#part("you").hidden = !isMe || isGone;
    this.element.toggleAttribute("data-gone", isGone || person.disabled_at !== null);
    this.#role.value = person.role;
    this.#role.disabled = isGone;
    this.#role.setAttribute("aria-label", t("account.role_of", { name }));
    this.#part("actions").hidden = isGone;
    setText(this.#part("disable"), t(person.disabled_at ? "account.enable" : "account.disable"));
    this.#part("disable").setAttribute("aria-label", t(person.disabled_at ? "account.enable_named" : "account.disable_named", { name }));
    this.#part("reset").setAttribute("aria-label", t("account.reset_named", { name }));
    this.#part("remove").setAttribute("aria-label", t("account.remove_named", { name }));
  }

  /** @param {{role?: string, is_disabled?: boolean, password?: string}} change @returns {Promise<void>} */
  async #change(change) {
    if (await act(get("people-problem"), () => callJson("PATCH", this.#address, change))) announce(t("account.person_changed"));
    await list(); // what it shows may not be what the server took
  }

  async #reset() {
    const name = visible(this.#person.name);
    if (!await confirmed(t("account.reset_named", { name }), t("account.reset_why"), t("account.reset"))) return;
    const password = newPassword();
    if (await act(get("people-problem"), () => callJson("PATCH", this.#address, { password }))) hand("account.handed_reset", name, password);
  }

  async #remove() {
    const name = visible(this.#person.name);
    if (!await confirmed(t("account.remove_named", { name }), t("account.remove_why"), t("account.remove"))) return;
    if (await act(get("people-problem"), () => callJson("DELETE", this.#address))) announce(t("account.removed", { name }));
    await list();
    this.element.focus();
  }

  /** @returns {string} */
  get #address() {
    return `/accounts/${encodeURIComponent(this.#person.id)}`;
  }

  /** @returns {HTMLSelectElement} */
  get #role() {
    return /** @type {HTMLSelectElement} */ (this.#part("role"));
  }

  /** @param {string} name */
  #part(name) {
    return part(this.element, name);
  }
}

/** Show a password that its owner gets from the admin. @param {string} message @param {string} name @param {string} password */
function hand(message, name, password) {
  setText(get("handed-text"), t(message, { name }));
  setText(get("handed-password"), password);
  get("handed").hidden = false;
  get("handed").focus();
}

async function list() {
  try {
    /** @type {{items: Person[]}} */
    const { items } = await callJson("GET", "/accounts");
    setChildren(get("people-list"), inOrder(items).map((person) => {
      const row = rows.get(person.id) ?? new PersonRow(person);
      rows.set(person.id, row);
      row.show(person);
      return row.element;
    }));
  } catch (error) {
    say(get("people-problem"), reasonOf(error));
  }
}

mountCopy(get("handed-copy"), get("handed-password"));
mountForm(/** @type {HTMLFormElement} */ (get("add-form")), get("add-problem"), async (fields, form) => {
  const name = String(fields.get("name") ?? "").trim();
  const password = newPassword();
  await callJson("POST", "/accounts", { name, role: fields.get("role"), password });
  form.reset();
  hand("account.handed_new", visible(name), password);
  void list();
});
void list();
const live = new LivePage(); // it also hears when the session ends
live.follow("audit", null, { events: () => void list() });
