// /config: the script's config as text. It saves exactly what was typed, and never overwrites someone else's save unasked.

import "../frame/frame-page.js";
import { Problem, callJson, reasonOf } from "../core/api.js";
import { ConfigCheck } from "./check.js";
import { mountDiff } from "./diff.js";
import { ConfigDocument } from "./document.js";
import { YamlEditor } from "./editor.js";
import { schemaSupport } from "./schema.js";
import { ConfigForm } from "./form.js";
import { timeOfSecond, visible } from "../core/format.js";
import { HistoryPanel } from "./history.js";
import { matchLines } from "./lines.js";
import { LivePage } from "../core/live-page.js";
import { MergePanel, whoSaved } from "./merge-view.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, paced, part, setText } from "../core/page.js";
import { released, whenReleased } from "../core/press.js";
import { pageData } from "../core/page-data.js";
import { problemText } from "../core/problem.js";
import { RetryBar } from "./retry-bar.js";

/** @typedef {import("./check.js").Finding} Finding */
/** @typedef {import("./check.js").Report} Report */
/** @typedef {import("./document.js").Revision} Revision */

const WRAP_KEY = "dropmill-wrap"; // in localStorage; without it, lines wrap on narrow screens alone

const config = new ConfigDocument();
const check = new ConfigCheck(config);
const history = new HistoryPanel(part(document, "history"), /** @type {HTMLDialogElement} */ (part(document, "compare")), config);
const describe = (/** @type {string} */ etag) => history.describe(etag.slice(1, -1)); // an ETag is the quoted SHA-256
new MergePanel(part(document, "merge"), config, describe);
const form = new ConfigForm(part(document, "form"), config);
const retryBar = new RetryBar(part(document, "retry-bar"), config, pageData().came_from);
const page = new LivePage();

const saveButton = /** @type {HTMLButtonElement} */ (part(document, "save"));
const seeButton = /** @type {HTMLButtonElement} */ (part(document, "see-changes"));
const changesBox = part(document, "changes");
const messageInput = /** @type {HTMLInputElement} */ (part(document, "changes-message"));
/** @type {YamlEditor | null} null until the text is loaded */
let editor = null;
let isFieldOpen = false; // a field of the form holds typed text that is not in the editor yet

// --- the text and its state ---

config.addEventListener("change", () => {
  isFieldOpen = false;
  editor?.replaceText(config.text);
  drawState();
});
config.addEventListener("focus", () => {
  hideChanges();
  editor?.focus();
});

function drawState() {
  const { isUnsaved, isSaving } = config;
  page.live.editing(isUnsaved);
  part(document, "unsaved").hidden = !isUnsaved;
  if (isUnsaved) part(document, "saved").hidden = true;
  drawCount();
  saveButton.disabled = isSaving || !(isUnsaved || isFieldOpen);
  seeButton.disabled = !isUnsaved;
  setText(saveButton, t(isSaving ? "config.saving" : "config.save"));
  setText(part(document, "changes-save"), t(isSaving ? "config.saving" : "config.save"));
  document.title = `${isUnsaved ? "● " : ""}${t("core.page.config")} · Dropmill`;
  if (!changesBox.hidden) {
    if (isUnsaved) drawChanges();
    else hideChanges();
  }
}

const drawCount = paced(() => {
  if (!config.isUnsaved) return;
  const changed = matchLines(config.original.lines, config.text.split("\n")).filter((from) => from === -1).length;
  setText(part(document, "unsaved-text"), changed ? t("config.unsaved_changed", { n: changed }) : t("config.unsaved_removed"));
});

/** @param {string} sentence "" hides the box */
function sayProblem(sentence) {
  const box = part(document, "config-problem");
  box.hidden = sentence === "";
  setText(box, sentence);
}

// --- what the checks found ---

check.addEventListener("report", async (event) => {
  await released();
  const { errors, warnings } = /** @type {CustomEvent<Report>} */ (event).detail;
  showMarks(errors, warnings);
  setText(part(document, "verdict"), errors.length ? "" : t("config.valid"));
  const found = [errors.length && t("config.errors", { n: errors.length }), warnings.length && t("config.warnings", { n: warnings.length })].filter(Boolean);
  announce(found.join(" ") || t("config.is_valid"));
});
check.addEventListener("unchecked", async (event) => {
  await released();
  showMarks([], []);
  setText(part(document, "verdict"), t("config.unchecked", { reason: /** @type {CustomEvent<string>} */ (event).detail }));
});

/** @param {Finding[]} errors @param {Finding[]} warnings */
function showMarks(errors, warnings) {
  editor?.mark(errors, warnings);
  const list = part(document, "marks");
  list.replaceChildren(...errors.map((found) => markLine(found, "error")), ...warnings.map((found) => markLine(found, "warning")));
  list.hidden = list.childElementCount === 0;
}

/** @param {Finding} finding @param {"error" | "warning"} kind */
function markLine({ line, column, message }, kind) {
  const row = cloneTemplate("mark-template");
  row.dataset.mark = kind;
  const jump = part(row, "jump");
  jump.textContent = t("config.place", { line: String(line), column: String(column) });
  jump.addEventListener("click", () => editor?.goTo(line, column));
  part(row, "kind").textContent = t(kind === "error" ? "config.error" : "config.warning");
  part(row, "message").textContent = visible(message);
  return row;
}

// --- saving, and reviewing first ---

/** @param {string} [message] */
async function save(message) {
  await form.written(); // includes what was just entered in the form
  isFieldOpen = false;
  drawState();
  if (config.isSaving || !config.isUnsaved) return;
  sayProblem("");
  const isPressed = document.activeElement === saveButton;
  try {
    await config.save(message);
    // The button is disabled, which takes its focus away, and what it did is said here.
    if (isPressed && !part(document, "saved").hidden) part(document, "saved").focus();
  } catch (error) {
    if (error instanceof Problem && error.status === 422) {
      hideChanges();
      showMarks(error.body.errors ?? [], []);
      sayProblem(t("config.not_valid"));
    } else sayProblem(t("config.not_saved", { reason: reasonOf(error) }));
    if (isPressed) saveButton.focus();
  }
}

config.addEventListener("saved", (event) => {
  const { sha256, saved_at: savedAt } = /** @type {CustomEvent<{sha256: string, saved_at: string}>} */ (event).detail;
  page.checkNotices(); // the file is replaced by now; the save's event may arrive earlier
  messageInput.value = "";
  part(document, "newer").hidden = true;
  part(document, "saved").hidden = config.isUnsaved; // more was typed during the request
  setText(part(document, "saved-text"), t("config.saved_at", { time: timeOfSecond(savedAt), revision: sha256.slice(0, 8) }));
  announce(t("config.saved_spoken"));
  void retryBar.look(savedAt);
  history.refresh();
});
config.addEventListener("conflict", hideChanges);

/** @type {string | null} the text whose changes are drawn */
let drawn = null;

function drawChanges() {
  if (drawn === config.text) return;
  drawn = config.text;
  mountDiff(part(document, "changes-diff"), { before: config.base, after: drawn, beforeLabel: t("config.changes_before"), afterLabel: t("config.changes_after") });
}

function showChanges() {
  part(document, "writing").hidden = true;
  changesBox.hidden = false;
  seeButton.hidden = saveButton.hidden = true;
  drawChanges();
  changesBox.focus();
}

function hideChanges() {
  if (changesBox.hidden) return;
  changesBox.hidden = true;
  drawn = null;
  part(document, "changes-diff").replaceChildren();
  part(document, "writing").hidden = false;
  seeButton.hidden = saveButton.hidden = false;
  editor?.focus();
}

seeButton.addEventListener("click", showChanges);
part(document, "changes-back").addEventListener("click", hideChanges);
part(document, "changes-form").addEventListener("submit", (event) => {
  event.preventDefault();
  save(messageInput.value.trim());
});
part(document, "config-form").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "s" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
  event.preventDefault();
  const { activeElement } = document;
  if (isFieldOpen && activeElement instanceof HTMLElement) {
    activeElement.blur(); // a field reports its value when it loses the focus
    activeElement.focus();
  }
  save(changesBox.hidden ? "" : messageInput.value.trim());
});
addEventListener("beforeunload", (event) => {
  if (config.isUnsaved || isFieldOpen) event.preventDefault();
});

// --- what others do ---

config.addEventListener("newer", async (event) => {
  part(document, "saved").hidden = true;
  void retryBar.look();
  const { etag } = /** @type {CustomEvent<Revision>} */ (event).detail;
  const entry = await describe(etag);
  await released();
  if (config.etag !== etag) return; // a still newer one has its own event
  const sentence = t("config.newer.shown", { what: whoSaved(entry) });
  setText(part(document, "newer-text"), sentence);
  part(document, "newer").hidden = false;
  announce(sentence);
});
part(document, "newer-close").addEventListener("click", () => {
  part(document, "newer").hidden = true;
  editor?.focus();
});

page.live.addEventListener("hello", () => check.check());
page.live.addEventListener("refused", (event) => {
  const { error } = /** @type {CustomEvent<{error: {detail: string}}>} */ (event).detail;
  sayProblem(t("config.not_followed", { reason: problemText(error) }));
});
page.follow("config", pageData().cursor, {
  events({ events }) {
    if (events.some(({ name }) => name === "config.saved")) config.follow();
    if (events.some(({ name }) => name === "config.purged")) history.refresh();
  },
  presence({ editing }) {
    whenReleased(() => { part(document, "others-editing").hidden = !editing; });
  },
});

// --- the panels beside the text ---

const tabs = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[role=tab]")]);

/** @param {HTMLElement} chosen */
function choose(chosen) {
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
    /** @type {HTMLElement} */ (document.getElementById(tab.getAttribute("aria-controls") ?? "")).hidden = tab !== chosen;
  }
  form.shown = chosen.id === "tab-form";
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  });
}

part(document, "fields").addEventListener("input", () => {
  isFieldOpen = true;
  drawState();
});

// --- start ---

/** @returns {Promise<import("@codemirror/state").Extension>} completion and hover by the schema; none without a usable schema */
async function schemaExtensions() {
  if (!pageData().has_schema) return [];
  try {
    return schemaSupport(await callJson("GET", "/config/schema"));
  } catch {
    return []; // the check reports what is wrong with it
  }
}

/** @returns {boolean | null} whether the person wants long lines to wrap; null: no choice is kept */
function keptWrap() {
  try {
    const kept = localStorage.getItem(WRAP_KEY);
    return kept === null ? null : kept === "true";
  } catch {
    return null; // storage is disabled
  }
}

/** Load the config and replace the page's read-only text with the editor. */
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
  const made = new YamlEditor(body, { text: config.text, label, extensions });
  made.addEventListener("edit", () => {
    part(document, "newer").hidden = true;
    config.replaceText(made.text);
  });
  editor = made;
  const wrap = /** @type {HTMLInputElement} */ (part(document, "wrap"));
  wrap.checked = made.isWrapping = keptWrap() ?? made.isWrapping;
  wrap.addEventListener("change", () => {
    made.isWrapping = wrap.checked;
    try {
      localStorage.setItem(WRAP_KEY, String(wrap.checked));
    } catch {
      // storage is disabled: the choice lasts as long as the page
    }
  });
}

await start();
void retryBar.look();
history.refresh();
const linked = new URLSearchParams(location.search).get("revision");
if (linked) history.open(linked);
