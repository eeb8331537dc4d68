// Files that a person drops or pastes, on every page: the browser never opens them. The page takes them, or else a new
// submission is offered, whose list opens beside this page: only that way can files get from one page to another.

import { home } from "../core/base.js";
import { t } from "../core/messages.js";
import { announce, part, setText } from "../core/page.js";
import { readDropped } from "./reading.js";

/** @typedef {import("./reading.js").Dropped} Dropped */

/**
 * @typedef {object} Receiver what takes files on this page
 * @property {() => "list" | "add" | "new"} use what happens to files now: they get into a list, or into the submission on this
 *   page; or the page takes none, and a new submission is offered
 * @property {(dropped: Dropped, isPasted: boolean) => void} take not called for `new`
 */

const READY = "dropmill-ready"; // a page says so to the one that opened it
const SHOW_READING_AFTER_MS = 300;
const HIDE_AFTER_MS = 400; // leave also fires for every element that is crossed; some browsers then report the drag that late
const EDITABLE = "input, textarea, select, [contenteditable]";

/** @type {Receiver} */
let receiver = { use: () => "new", take: () => {} };
let leaving = 0;
let reading = new AbortController();
/** @type {Map<object, number>} files found so far, by each reading that goes on */
const found = new Map();
/** @type {Dropped} */
let offered = { items: [], unreadable: [] };

/** Say what takes the files that are dropped on this page. @param {Receiver} taker */
export function receiveFiles(taker) {
  receiver = taker;
}

/**
 * Take files over from the page that opened this one.
 * @param {(dropped: Dropped) => void} take
 */
export function takeOver(take) {
  if (!opener) return;
  addEventListener("message", ({ source, origin, data }) => {
    if (source !== opener || origin !== location.origin || !data?.dropped) return;
    /** @type {{items: {path: string, file: File, from: FileSystemHandle | null}[], unreadable: string[]}} */
    const { items, unreadable } = data.dropped;
    const handles = new Map(items.map(({ from }) => [from, Promise.resolve(from)])); // one for all files of a folder
    take({ items: items.map(({ from, ...item }) => ({ ...item, from: handles.get(from) })), unreadable });
  });
  opener.postMessage(READY, location.origin);
}

/** Have every drop on this page handled. Of this module's values only functions are used before the page is loaded. */
export function mountDrop() {
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    claim(event);
    setText(part(document, "overlay-text"), describe(event));
    showOverlay(true);
  }, true);
  addEventListener("dragleave", () => { // a drag that was given up no longer says what it held
    clearTimeout(leaving);
    leaving = window.setTimeout(() => showOverlay(false), HIDE_AFTER_MS);
  }, true);
  addEventListener("dragover", (event) => {
    const { dataTransfer, target } = event;
    if (!dataTransfer) return;
    if (hasFiles(event)) {
      claim(event);
      dataTransfer.dropEffect = "copy";
      showOverlay(true);
    } else if (dataTransfer.types.includes("text/uri-list") && !isEditable(target)) {
      event.preventDefault(); // a browser would leave for the address of a dropped link
      dataTransfer.dropEffect = "none";
    }
  }, true);
  addEventListener("drop", (event) => {
    if (!hasFiles(event) || !event.dataTransfer) return;
    claim(event);
    showOverlay(false);
    void read(event.dataTransfer);
  }, true);
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0 || isEditable(event.target)) return;
    passFiles({ items: files.map((file) => ({ path: file.name, file })), unreadable: [] }, true);
  });
  part(document, "reading-cancel").addEventListener("click", () => {
    reading.abort();
    reading = new AbortController();
    announce(t("drop.cancelled"));
  });
  const offer = offerBox();
  offer.addEventListener("close", () => { offered = { items: [], unreadable: [] }; });
  part(offer, "offer-cancel").addEventListener("click", () => offer.close());
  part(offer, "offer-open").addEventListener("click", openList);
}

/** Have no drop on this page do anything: whoever opened it may not send. */
export function refuseDrops() {
  for (const name of /** @type {const} */ (["dragenter", "dragover"])) {
    addEventListener(name, (event) => {
      if (!hasFiles(event) || !event.dataTransfer) return;
      claim(event);
      event.dataTransfer.dropEffect = "none"; // the browser would open the file
    }, true);
  }
}

// --- dragging --------------------------------------------------------------------------------------------------------

/** @param {DragEvent} event */
const hasFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;

/** @param {EventTarget | null} target */
const isEditable = (target) => target instanceof Element && target.closest(EDITABLE) !== null;

/** Handle a drag of files before anything on the page does: an editor would read them as text. @param {DragEvent} event */
function claim(event) {
  event.preventDefault();
  event.stopPropagation();
}

/** @param {DragEvent} event */
function describe({ dataTransfer }) {
  const use = receiver.use();
  const items = [...(dataTransfer?.items ?? [])].filter(({ kind }) => kind === "file");
  // A folder has no type, and some browsers tell the number of items only at the drop.
  const isKnown = items.length > 0 && items.every(({ type }) => type !== "");
  return isKnown ? t(`drop.hint.${use}`, { n: items.length }) : t(`drop.hint.${use}_some`);
}

/** @param {boolean} isShown */
function showOverlay(isShown) {
  clearTimeout(leaving);
  part(document, "overlay").hidden = !isShown;
}

// --- reading ---------------------------------------------------------------------------------------------------------

/** @param {DataTransfer} transfer */
async function read(transfer) {
  const mine = {};
  found.set(mine, 0);
  const { signal } = reading;
  const timer = setTimeout(showReading, SHOW_READING_AFTER_MS);
  try {
    passFiles(await readDropped(transfer, { signal, onFound: (files) => found.set(mine, files) }), false);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
    found.delete(mine);
  }
}

function showReading() {
  part(document, "reading").hidden = found.size === 0;
  if (found.size === 0) return;
  setText(part(document, "reading-text"), t("drop.reading", { n: [...found.values()].reduce((sum, files) => sum + files, 0) }));
  requestAnimationFrame(showReading);
}

/** Have files taken as if they were dropped now. @param {Dropped} dropped @param {boolean} isPasted */
export function passFiles(dropped, isPasted) {
  if (receiver.use() === "new") offerNew(dropped);
  else receiver.take(dropped, isPasted);
}

// --- a new submission ------------------------------------------------------------------------------------------------

/** @returns {HTMLDialogElement} */
function offerBox() {
  return /** @type {HTMLDialogElement} */ (part(document, "offer"));
}

/**
 * Offer to start a new submission, for files that this page cannot take.
 * @param {Dropped} dropped
 */
export function offerNew({ items, unreadable }) {
  offered = { items: [...offered.items, ...items], unreadable: [...offered.unreadable, ...unreadable] };
  const { length } = offered.items;
  const lost = length ? offered.unreadable.length : 0;
  const offer = offerBox();
  setText(part(offer, "offer-title"), length ? t("drop.offer", { n: length }) : t("drop.offer.none"));
  part(offer, "offer-text").hidden = part(offer, "offer-open").hidden = length === 0;
  part(offer, "offer-blocked").hidden = true;
  setText(part(offer, "offer-unreadable"), lost ? t("drop.offer.unreadable", { n: lost }) : "");
  if (!offer.open) offer.showModal();
  part(offer, "offer-open").focus();
}

/** Open the list in a new tab, and give it the files when it is ready for them. */
function openList() {
  const offer = offerBox();
  const tab = open(home, "_blank");
  part(offer, "offer-blocked").hidden = tab !== null;
  if (tab === null) return;
  const { items, unreadable } = offered;
  /** @param {MessageEvent} event */
  const handOver = async ({ source, origin, data }) => {
    if (source !== tab || origin !== location.origin || data !== READY) return;
    removeEventListener("message", handOver);
    const files = await Promise.all(items.map(async ({ from, ...item }) => ({ ...item, from: (await from) ?? null })));
    tab.postMessage({ dropped: { items: files, unreadable } }, location.origin);
    offer.close();
  };
  addEventListener("message", handOver);
}
