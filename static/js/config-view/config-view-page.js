// /config for who may read the config, but not change it: the newest text, kept up to date, and its history.

import "../frame/frame-page.js";
import { ConfigDocument } from "../config/document.js";
import { YamlEditor } from "../config/editor.js";
import { HistoryPanel } from "../config/history.js";
import { schemaSupport } from "../config/schema.js";
import { callJson, reasonOf } from "../core/api.js";
import { LivePage } from "../core/live-page.js";
import { t } from "../core/messages.js";
import { announce, part, setText } from "../core/page.js";
import { pageData } from "../core/page-data.js";
import { problemText } from "../core/problem.js";

const config = new ConfigDocument();
const history = new HistoryPanel(part(document, "history"), /** @type {HTMLDialogElement} */ (part(document, "compare")), config, {
  mayChange: false, seesAuthors: pageData().sees_authors,
});
const page = new LivePage();

/** @param {string} sentence "" hides the box */
function sayProblem(sentence) {
  const box = part(document, "config-problem");
  box.hidden = sentence === "";
  setText(box, sentence);
}

/** @returns {Promise<import("@codemirror/state").Extension>} what a key means, by the schema; nothing without a usable one */
async function schemaExtensions() {
  if (!pageData().has_schema) return [];
  try {
    return schemaSupport(await callJson("GET", "/config/schema"));
  } catch {
    return [];
  }
}

/** Load the config and replace the page's plain text. */
async function start() {
  try {
    await config.load();
  } catch (error) {
    if (error instanceof TypeError) sayProblem(t("config.not_text"));
    else sayProblem(t("config.not_loaded", { reason: reasonOf(error) }));
    return;
  }
  const extensions = await schemaExtensions();
  const body = part(document, "editor-body");
  const label = body.querySelector("label")?.textContent ?? "";
  body.replaceChildren();
  const shown = new YamlEditor(body, { text: config.text, label, extensions, isReadOnly: true });
  config.addEventListener("change", () => shown.replaceText(config.text));
  const wrap = /** @type {HTMLInputElement} */ (part(document, "wrap"));
  wrap.checked = shown.isWrapping;
  wrap.addEventListener("change", () => { shown.isWrapping = wrap.checked; });
}

config.addEventListener("newer", () => {
  announce(t("config.view.newer"));
  history.refresh();
});
page.live.addEventListener("refused", (event) => {
  const { error } = /** @type {CustomEvent<{error: {detail: string}}>} */ (event).detail;
  sayProblem(t("config.not_followed", { reason: problemText(error) }));
});
page.follow("config", pageData().cursor, {
  events({ events }) {
    if (events.some(({ name }) => name === "config.saved")) config.follow();
    if (events.some(({ name }) => name === "config.purged")) history.refresh();
  },
});

await start();
history.refresh();
const linked = new URLSearchParams(location.search).get("revision");
if (linked) history.open(linked);
