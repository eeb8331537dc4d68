// /sign-in: name and password. While there is no account, the form makes the first one, with the secret of the one-time link, which
// is in the fragment of the address. Without this script the form posts itself; with it, what was typed stays if it is refused.

import "../frame/frame-page.js";
import { mountForm } from "../account/form.js";
import { signIn } from "../core/api.js";
import { t } from "../core/messages.js";
import { part, setText } from "../core/page.js";

const form = /** @type {HTMLFormElement} */ (part(document, "form"));
const field = (/** @type {string} */ name) => /** @type {HTMLInputElement | null} */ (form.elements.namedItem(name));
const repeat = /** @type {HTMLInputElement | null} */ (form.querySelector("[data-part=repeat]")); // with the first account
const first = field("first");
const secret = new URLSearchParams(location.hash.slice(1)).get("first");

// What the provider sent back in the address is spent, and is of no use in the browser's history.
if (document.querySelector("[data-part=failed]")) history.replaceState(null, "", form.action);
if (secret !== null) history.replaceState(null, "", location.pathname + location.search); // it stays out of the browser's history
if (first && secret) {
  first.value = secret;
  part(form, "first").hidden = true;
  setText(part(document, "title"), t("account.first.title"));
  setText(part(document, "first-why"), t("account.first.why"));
}
mountForm(form, part(form, "problem"), async () => {
  const password = field("password");
  const typed = { name: field("name")?.value ?? "", password: password?.value ?? "" };
  if (repeat && repeat.value !== typed.password) throw new Error(t("account.not_the_same"));
  try {
    await signIn(first ? { first: first.value, ...typed } : typed);
  } catch (error) {
    password?.focus();
    password?.select();
    throw error;
  }
  location.replace(location.href); // the server leads whoever has signed in on to `next`
});
