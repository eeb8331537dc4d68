// /config: the script's config as text. It saves exactly what was typed, and never overwrites someone else's save unasked.

import { Problem, callJson } from "../core/api.js";
import { ConfigCheck } from "./check.js";
import { mountDiff } from "./diff.js";
import { ConfigDocument } from "./document.js";
import { YamlEditor } from "./editor.js";
import { schemaSupport } from "./schema.js";
import { ConfigForm } from "./form.js";
import { HistoryPanel } from "./history.js";
import { MergePanel } from "./merge-view.js";
import { followConfigProblem } from "../core/config-problem.js";
import { mountConnectionBadge } from "../core/connection.js";
import { ago, counted, visible } from "../core/format.js";
import { matchLines } from "./lines.js";
import { Live } from "../core/live.js";
import { announce, cloneTemplate, paced, part, setText } from "../core/page.js";
import { pageData } from "../core/page-data.js";

/** @typedef {import("./check.js").Finding} Finding */
/** @typedef {import("./check.js").Report} Report */
/** @typedef {import("./document.js").Revision} Revision */

const config = new ConfigDocument();
const check = new ConfigCheck(config);
const history = new HistoryPanel(part(document, "history"), /** @type {HTMLDialogElement} */ (part(document, "compare")), config);
const describe = (/** @type {string} */ etag) => history.describe(etag.slice(1, -1)); // an ETag is the quoted SHA-256
new MergePanel(part(document, "merge"), config, describe);
const form = new ConfigForm(part(document, "form"), config);

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
  part(document, "unsaved").hidden = !isUnsaved;
  drawCount();
  saveButton.disabled = isSaving || !(isUnsaved || isFieldOpen);
  seeButton.disabled = !isUnsaved;
  setText(saveButton, isSaving ? "Saving…" : "Save");
  setText(part(document, "changes-save"), isSaving ? "Saving…" : "Save");
  document.title = `${isUnsaved ? "● " : ""}Config · Dropmill`;
  if (!changesBox.hidden) {
    if (isUnsaved) drawChanges();
    else hideChanges();
  }
}

const drawCount = paced(() => {
  if (!config.isUnsaved) return;
  const changed = matchLines(config.original.lines, config.text.split("\n")).filter((from) => from === -1).length;
  setText(part(document, "unsaved-text"), `not saved · ${changed ? `${counted(changed, "line")} changed` : "lines removed"}`);
});

/** @param {string} sentence "" hides the box */
function sayProblem(sentence) {
  const box = part(document, "config-problem");
  box.hidden = sentence === "";
  setText(box, sentence);
}

// --- what the checks found ---

check.addEventListener("report", (event) => {
  const { errors, warnings } = /** @type {CustomEvent<Report>} */ (event).detail;
  showMarks(errors, warnings);
  setText(part(document, "verdict"), errors.length ? "" : "Valid YAML");
  const found = [errors.length && counted(errors.length, "error"), warnings.length && counted(warnings.length, "warning")].filter(Boolean);
  announce(found.length ? `${found.join(" and ")} in the config.` : "The config is valid.");
});
check.addEventListener("unchecked", (event) => {
  showMarks([], []);
  setText(part(document, "verdict"), `Not checked. ${/** @type {CustomEvent<string>} */ (event).detail}`);
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
  jump.textContent = `Line ${line}, column ${column}`;
  jump.addEventListener("click", () => editor?.goTo(line, column));
  part(row, "kind").textContent = kind === "error" ? "Error:" : "Warning:";
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
  try {
    await config.save(message);
  } catch (error) {
    if (error instanceof Problem && error.status === 422) {
      hideChanges();
      showMarks(error.body.errors ?? [], []);
      sayProblem("Not saved: the text is not valid. Nothing was changed.");
    } else sayProblem(`Not saved. ${error instanceof Error ? error.message : error} Your text is still here; try again.`);
  }
}

config.addEventListener("saved", () => {
  checkFile(); // the file is replaced by now; the save's event may arrive earlier
  messageInput.value = "";
  part(document, "newer").hidden = true;
  announce("Saved.");
  history.refresh();
});
config.addEventListener("conflict", hideChanges);

/** @type {string | null} the text whose changes are drawn */
let drawn = null;

function drawChanges() {
  if (drawn === config.text) return;
  drawn = config.text;
  mountDiff(part(document, "changes-diff"), { before: config.base, after: drawn, beforeLabel: "Saved", afterLabel: "Now" });
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
  const { etag } = /** @type {CustomEvent<Revision>} */ (event).detail;
  const entry = await describe(etag);
  if (config.etag !== etag) return; // a still newer one has its own event
  const who = !entry ? "Someone saved a newer revision"
    : !entry.client ? `The file was changed on the server ${ago(entry.saved_at)}`
    : `${visible(entry.account ?? "Someone")} saved a newer revision from ${visible(entry.client.host || entry.client.ip)} ${ago(entry.saved_at)}`;
  const sentence = `${who}; it is shown now.`;
  setText(part(document, "newer-text"), sentence);
  part(document, "newer").hidden = false;
  announce(sentence);
});
part(document, "newer-close").addEventListener("click", () => {
  part(document, "newer").hidden = true;
  editor?.focus();
});

const live = new Live();
mountConnectionBadge(live);
const checkFile = followConfigProblem(live);
live.addEventListener("hello", () => check.check());
live.addEventListener("events", (event) => {
  const { events } = /** @type {CustomEvent<import("../core/live.js").EventsMessage>} */ (event).detail;
  if (events.some(({ name }) => name === "config.saved")) config.follow();
  if (events.some(({ name }) => name === "config.purged")) history.refresh();
});
live.join("config", pageData().cursor);
live.start();

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

/** Load the config and replace the page's read-only text with the editor. */
async function start() {
  try {
    await config.load();
  } catch (error) {
    if (error instanceof TypeError) sayProblem("The file is not UTF-8 text, so it cannot be edited here. It was not changed.");
    else sayProblem(`The config could not be loaded. ${error instanceof Error ? error.message : error} Reload the page to try again.`);
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
}

await start();
history.refresh();
const linked = new URLSearchParams(location.search).get("revision");
if (linked) history.open(linked);
