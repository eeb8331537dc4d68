// What each page has for whoever has signed in: the menu in its head, and the dialog that asks to sign in again when the session
// has ended.

import { callJson, reasonOf, signIn } from "../core/api.js";
import { base } from "../core/base.js";
import { part, setText } from "../core/page.js";
import { session } from "../core/session.js";
import { forgetPerson } from "./forget.js";

/** Says to the other pages of this browser who has signed in again. Without it, each page asks by itself. */
const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel(`dropmill-session:${base}`) : null;

/** Mount what the page has of both. */
export function mountAccount() {
  const signOut = document.querySelector("[data-part=sign-out]"); // a proxy that has signed somebody in has its own
  const dialog = document.getElementById("sign-in-again");
  if (signOut instanceof HTMLElement) mountSignOut(signOut);
  if (dialog instanceof HTMLDialogElement) mountDialog(dialog);
}

/** @param {HTMLElement} button */
function mountSignOut(button) {
  const problem = part(document, "sign-out-problem");
  button.addEventListener("click", async () => {
    if (asksBeforeLeaving() && !confirm(button.dataset.question)) return; // a sign-out ends what is being sent
    problem.hidden = true;
    session.canAsk = false; // the page is about to leave
    try {
      await callJson("DELETE", "/session");
      await forgetPerson();
      location.assign(`${base}/sign-in`);
    } catch (error) {
      session.canAsk = true;
      setText(problem, reasonOf(error));
      problem.hidden = false;
    }
  });
}

/** @returns {boolean} whether this page would lose something: its parts say so to whoever closes it */
const asksBeforeLeaving = () => !dispatchEvent(new Event("beforeunload", { cancelable: true }));

/** @param {HTMLDialogElement} dialog */
function mountDialog(dialog) {
  const form = dialog.querySelector("form"); // without it, the person has no password here, and signs in on another page
  const account = /** @type {HTMLElement} */ (dialog.querySelector("[data-account]")).dataset.account;

  session.canAsk = true;
  session.addEventListener("needed", () => {
    if (!dialog.open) dialog.showModal();
  });
  session.addEventListener("signed-in", () => dialog.close());
  channel?.addEventListener("message", ({ data }) => {
    if (data === account) session.signedIn(); // another account would see other things than this page shows
  });
  channel?.postMessage(account); // who opens this page is signed in, perhaps because another one asked for it
  dialog.addEventListener("close", () => {
    if (session.isNeeded) session.decline();
  });
  part(dialog, "sign-in-later").addEventListener("click", () => dialog.close());
  if (form) mountPassword(form);
}

/** @param {HTMLFormElement} form */
function mountPassword(form) {
  const password = /** @type {HTMLInputElement} */ (form.elements.namedItem("password"));
  const name = /** @type {HTMLInputElement} */ (form.elements.namedItem("name"));
  const problem = part(form, "sign-in-problem");
  let isAsking = false;

  session.addEventListener("signed-in", () => {
    password.value = "";
    problem.hidden = true;
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isAsking) return;
    isAsking = true;
    try {
      await signIn({ name: name.value, password: password.value });
      channel?.postMessage(name.value);
      session.signedIn();
    } catch (error) {
      setText(problem, reasonOf(error));
      problem.hidden = false;
      password.select();
    } finally {
      isAsking = false;
    }
  });
}
