// /r/<id> and /s/<id> before this browser has entered the link: sends the secret, once, and asks for what the link wants to know.
// The form of a browser without scripts has its secret in the path, and posts itself.

import "../frame/frame-page.js";
import { mountForm, say } from "../account/form.js";
import { Problem, callJson, reasonOf } from "../core/api.js";
import { t } from "../core/messages.js";
import { part, setText } from "../core/page.js";
import { visible } from "../core/format.js";
import { takeSecret } from "../visitor/secret.js";

const NOT_FOUND = 404;
const form = /** @type {HTMLFormElement} */ (part(document, "form"));
const field = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
let secret = "";

/** @param {Record<string, string>} [given] what the link asks for */
async function enter(given = {}) {
  await callJson("POST", "/enter", { secret, ...given });
  location.replace(location.pathname); // the same address shows the link now
}

/** Show the fields of what is missing. @param {Record<string, any>} body of the answer */
function ask({ asks = [], label }) {
  part(document, "opening").hidden = true;
  part(document, "label").hidden = !label;
  setText(part(document, "label-text"), visible(label ?? ""));
  for (const name of ["passphrase", "name"]) {
    const isAsked = asks.includes(name);
    part(form, name).hidden = !isAsked;
    field(name).required = isAsked;
  }
  part(form, "name-hint").hidden = !asks.includes("name");
  form.hidden = false;
  /** @type {HTMLInputElement | null} */ (form.querySelector("label:not([hidden]) input"))?.focus();
}

/** @param {string} sentence @param {string} [title] */
function end(sentence, title = t("visitor.enter.title")) {
  part(document, "opening").hidden = true;
  setText(part(document, "title"), title);
  form.hidden = true;
  say(part(document, "ended"), sentence);
}

async function begin() {
  secret = takeSecret();
  say(part(document, "ended"), "");
  setText(part(document, "title"), t("visitor.enter.title"));
  if (!secret) {
    end(t("visitor.enter.incomplete"));
    return;
  }
  part(document, "opening").hidden = false;
  try {
    await enter();
  } catch (error) {
    if (error instanceof Problem && error.body.code === "link_asks") ask(error.body);
    else if (error instanceof Problem && error.status === NOT_FOUND) end(t("visitor.ended"), t("visitor.ended_title"));
    else {
      ask({}); // its button tries again
      say(part(form, "problem"), reasonOf(error));
    }
  }
}

if (form.dataset.plain === undefined) {
  part(document, "plain").remove(); // what browsers without scripts show
  mountForm(form, part(form, "problem"), async (fields) => {
    /** @type {Record<string, string>} */
    const given = {};
    for (const name of ["passphrase", "name"]) if (!part(form, name).hidden) given[name] = String(fields.get(name) ?? "");
    try {
      await enter(given);
    } catch (error) {
      if (error instanceof Problem && error.body.code === "link_asks") ask(error.body);
      else if (error instanceof Problem && error.status === NOT_FOUND) end(t("visitor.ended"), t("visitor.ended_title"));
      else {
        field("passphrase").select();
        throw error;
      }
    }
  });
  addEventListener("hashchange", () => { if (location.hash) void begin(); }); // the whole link was pasted over this address
  void begin();
}
