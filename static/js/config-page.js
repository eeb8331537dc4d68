// /config: the script's config as text. What is saved is what was typed, byte for byte; nobody is overwritten unasked.

import { Problem, call, callJson } from "./api.js";
import { mountConnectionBadge } from "./connection.js";
import { Editor } from "./editor.js";
import { bytes, clientText, counted, exactTime, localDateTime, visible } from "./format.js";
import { decode, diff, encode, matchLines } from "./lines.js";
import { Live } from "./live.js";
import { announce, cloneTemplate, pageData, part, setText } from "./page.js";

/** @typedef {import("./editor.js").Mark} Mark */
/** @typedef {import("./lines.js").Original} Original */

const CHECK_AFTER_MS = 400; // after the last key; typing is not interrupted by checks
const HISTORY_SHOWN = 8;
const CONTEXT_LINES = 2;

const area = /** @type {HTMLTextAreaElement} */ (part(document, "text"));
const editor = new Editor(area, part(document, "gutter"), part(document, "backdrop"));
const saveButton = /** @type {HTMLButtonElement} */ (part(document, "save"));
const conflictBox = part(document, "conflict");

/** @type {Original} */
let original = { hasBom: false, lines: [""], ends: [""] };
let etag = "";
/** @type {{etag: string, original: Original} | null} a newer revision than the one that is edited */
let theirs = null;
let isSaving = false;
let hasNewsWaiting = false;
let isLoaded = false;
let checkTimer = 0;
let checks = 0;

const textOf = (/** @type {Original} */ { lines }) => lines.join("\n");
const isUnsaved = () => isLoaded && editor.text !== textOf(original);

/** @returns {Promise<{etag: string, original: Original}>} the newest revision */
async function load() {
  const response = await call("GET", "/config", { headers: { Accept: "application/yaml" } });
  return { etag: response.headers.get("ETag") ?? "", original: decode(await response.arrayBuffer()) };
}

/** @param {{etag: string, original: Original}} revision */
function edit(revision) {
  ({ etag, original } = revision);
  theirs = null;
  conflictBox.hidden = true;
  isLoaded = true;
  editor.text = textOf(original);
  editor.readOnly = false;
  drawState();
  check();
}

function drawState() {
  const isChanged = isUnsaved();
  const changed = isChanged ? changedLines() : 0;
  part(document, "unsaved").hidden = !isChanged;
  setText(part(document, "unsaved-text"), `not saved · ${changed ? `${counted(changed, "line")} changed` : "lines removed"}`);
  saveButton.disabled = !isLoaded || isSaving || !isChanged;
  setText(saveButton, isSaving ? "Saving…" : "Save");
  document.title = `${isChanged ? "● " : ""}Config · Dropmill`;
}

function changedLines() {
  return matchLines(original.lines, editor.text.split("\n")).filter((from) => from === -1).length;
}

/** @param {string} sentence "" takes it away */
function sayProblem(sentence) {
  const box = part(document, "config-problem");
  box.hidden = sentence === "";
  setText(box, sentence);
}

/** @param {Mark[]} errors @param {Mark[]} warnings */
function showMarks(errors, warnings) {
  editor.mark(errors, warnings);
  const list = part(document, "marks");
  list.replaceChildren(...[
    ...errors.map((mark) => markLine(mark, "error")),
    ...warnings.map((mark) => markLine(mark, "warning")),
  ]);
  list.hidden = list.childElementCount === 0;
}

/** @param {Mark} mark @param {"error" | "warning"} kind */
function markLine({ line, column, message }, kind) {
  const row = cloneTemplate("mark-template");
  row.dataset.mark = kind;
  const jump = part(row, "jump");
  jump.textContent = `Line ${line}, column ${column}`;
  jump.addEventListener("click", () => editor.goTo(line, column));
  part(row, "kind").textContent = kind === "error" ? "Error:" : "Warning:";
  part(row, "message").textContent = visible(message);
  return row;
}

async function check() {
  clearTimeout(checkTimer);
  const number = ++checks;
  try {
    const response = await call("POST", "/config/check", {
      body: encode(original, editor.text), headers: { "Content-Type": "application/yaml" },
    });
    const { errors, warnings } = await response.json();
    if (number !== checks) return; // typed on meanwhile
    showMarks(errors, warnings);
    setText(part(document, "verdict"), errors.length ? "" : "Valid YAML");
    announce(errors.length ? `${counted(errors.length, "error")} in the config.` : "The config is valid.");
  } catch {
    setText(part(document, "verdict"), "Not checked: the server cannot be reached");
  }
}

async function save() {
  if (isSaving || !isUnsaved()) return;
  isSaving = true;
  drawState();
  sayProblem("");
  const body = encode(original, editor.text);
  try {
    const response = await call("PUT", "/config", { body, headers: { "If-Match": etag, "Content-Type": "application/yaml" } });
    etag = response.headers.get("ETag") ?? "";
    original = decode(body.buffer);
    theirs = null;
    conflictBox.hidden = true;
    announce("Saved.");
    showHistory();
  } catch (error) {
    if (error instanceof Problem && error.status === 412) await showConflict();
    else if (error instanceof Problem && error.status === 422) {
      showMarks(error.body.errors ?? [], []);
      sayProblem("Not saved: the text is not valid. Nothing was changed.");
    } else sayProblem(`Not saved. ${error instanceof Error ? error.message : error} Your text is still here; try again.`);
  } finally {
    isSaving = false;
    drawState();
    if (hasNewsWaiting) {
      hasNewsWaiting = false;
      noticeNewer().catch(() => {}); // the server is away: told again on reconnect
    }
  }
}

/** Somebody saved a newer revision while this text was edited: show both, let the person decide. */
async function showConflict() {
  theirs = await load();
  const wasHidden = conflictBox.hidden;
  setText(part(conflictBox, "conflict-text"), "Someone saved a newer revision while you were editing. Nothing of either was lost.");
  const lines = diff(theirs.original.lines, editor.text.split("\n"));
  part(conflictBox, "diff").replaceChildren(...diffRows(lines));
  conflictBox.hidden = false;
  if (wasHidden) conflictBox.focus();
  showHistory();
}

/** @param {import("./lines.js").DiffLine[]} lines @returns {HTMLElement[]} what differs, with a few lines around it */
function diffRows(lines) {
  /** @type {HTMLElement[]} */
  const rows = [];
  let isSkipping = false;
  lines.forEach(({ kind, text }, index) => {
    const isNear = lines.slice(Math.max(0, index - CONTEXT_LINES), index + CONTEXT_LINES + 1).some((line) => line.kind !== "same");
    if (!isNear) {
      isSkipping = true;
      return;
    }
    if (isSkipping) rows.push(diffRow("gap", "", "⋯"));
    isSkipping = false;
    rows.push(diffRow(kind, { same: "", removed: "theirs", added: "yours" }[kind], text));
  });
  return rows;
}

/** @param {string} kind @param {string} whose @param {string} text */
function diffRow(kind, whose, text) {
  const row = cloneTemplate("diff-template");
  row.dataset.kind = kind;
  part(row, "whose").textContent = whose;
  part(row, "line").textContent = text;
  return row;
}

/** Another page, or an editor on the server, saved: follow it at once, or say so if there is something to lose. */
async function noticeNewer() {
  if (!isLoaded) return;
  if (isSaving) {
    hasNewsWaiting = true; // perhaps this page's own save; looked at when that has ended
    return;
  }
  const newest = await load();
  if (newest.etag === etag) return;
  showHistory();
  if (isUnsaved()) {
    await showConflict();
    return;
  }
  edit(newest);
  announce("Someone saved a newer revision; it is shown now.");
  const note = part(document, "newer");
  note.hidden = false;
}

async function showHistory() {
  let items;
  try {
    ({ items } = await callJson("GET", `/config/revisions?limit=${HISTORY_SHOWN}`));
  } catch {
    return; // the list beside the text is left as it was
  }
  part(document, "revisions").replaceChildren(...items.map((/** @type {any} */ revision, /** @type {number} */ index) => {
    const row = cloneTemplate("revision-template");
    part(row, "what").textContent = revision.message ? visible(revision.message) : revision.client ? "Saved in the browser" : "Changed on the server";
    const who = [revision.account, clientText(revision.client)].filter(Boolean).map(visible).join(" · ");
    part(row, "who").textContent = [who, bytes(revision.size), index === 0 ? "newest" : ""].filter(Boolean).join(" · ");
    const time = /** @type {HTMLTimeElement} */ (part(row, "when"));
    time.dateTime = revision.saved_at;
    time.title = exactTime(revision.saved_at);
    time.textContent = localDateTime(revision.saved_at);
    return row;
  }));
}

editor.addEventListener("edit", () => {
  part(document, "newer").hidden = true;
  drawState();
  clearTimeout(checkTimer);
  checkTimer = window.setTimeout(check, CHECK_AFTER_MS);
});
part(document, "config-form").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "s" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
  event.preventDefault();
  save();
});
addEventListener("beforeunload", (event) => {
  if (isUnsaved()) event.preventDefault();
});
part(conflictBox, "load-theirs").addEventListener("click", () => {
  if (theirs) edit(theirs);
  area.focus();
});
part(conflictBox, "keep-mine").addEventListener("click", () => {
  if (!theirs) return;
  ({ etag, original } = theirs);
  if (isUnsaved()) save();
  else edit(theirs); // both wrote the same
});

const live = new Live();
mountConnectionBadge(live);
live.addEventListener("events", (event) => {
  const { events } = /** @type {CustomEvent<import("./live.js").EventsMessage>} */ (event).detail;
  if (events.some(({ name }) => name === "config.saved")) noticeNewer().catch(() => {}); // away: told again on reconnect
});
live.join("config", pageData().cursor);
live.start();

try {
  edit(await load());
} catch (error) {
  if (error instanceof TypeError) sayProblem("The file is not UTF-8 text, so it cannot be edited here. It is left as it is.");
  else sayProblem(`The config could not be loaded. ${error instanceof Error ? error.message : error} Reload the page to try again.`);
}
showHistory();
