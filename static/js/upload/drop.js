// Gets files from the person: drop (folders too), file chooser, paste.

/** @typedef {import("./transfers.js").Item} Item */

/**
 * Call back for files that are dropped or pasted anywhere on the page, or chosen through the inputs.
 * @param {object} parts
 * @param {HTMLInputElement} parts.fileInput
 * @param {HTMLInputElement} parts.folderInput
 * @param {HTMLElement} parts.overlay shown while files are dragged over the page
 * @param {(items: Item[], unreadable: string[]) => void} onItems
 */
export function mountDrop({ fileInput, folderInput, overlay }, onItems) {
  for (const input of [fileInput, folderInput]) {
    input.addEventListener("change", () => {
      const items = [...(input.files ?? [])].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
      input.value = ""; // lets the person choose the same file again after removing it
      onItems(items, []);
    });
  }

  let depth = 0; // enter and leave also fire for every element crossed
  const show = () => { overlay.hidden = depth === 0; };
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth += 1;
    show();
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth = event.relatedTarget === null ? 0 : Math.max(0, depth - 1);
    show();
  });
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    if (event.dataTransfer) event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", async (event) => {
    if (!hasFiles(event) || !event.dataTransfer) return;
    event.preventDefault();
    depth = 0;
    show();
    const { items, unreadable } = await itemsOf(event.dataTransfer);
    onItems(items, unreadable);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) onItems(files.map((file) => ({ path: file.name, file })), []);
  });
}

/** @param {DragEvent} event */
const hasFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;

/**
 * @param {DataTransfer} transfer
 * @returns {Promise<{items: Item[], unreadable: string[]}>} every dropped file, those inside folders with their path
 */
async function itemsOf(transfer) {
  // Entries must be read before the first await: the browser empties the list when the handler returns.
  const entries = [...transfer.items].map((item) => (item.kind === "file" ? item.webkitGetAsEntry() : null));
  const handles = new Map([...transfer.items].map((item, index) => [entries[index]?.name, handleOf(item)]));
  const plain = [...transfer.files].map((file) => ({ path: file.name, file, from: handles.get(file.name) }));
  /** @type {{items: Item[], unreadable: string[]}} */
  const found = { items: plain, unreadable: [] };
  if (!entries.some((entry) => entry?.isDirectory)) return found;
  found.items = [];
  for (const entry of entries) if (entry) await collect(entry, "", found);
  for (const item of found.items) item.from = handles.get(item.path.split("/")[0]);
  return found;
}

/** @param {DataTransferItem} item @returns {Item["from"]} undefined where the browser gives no handles */
function handleOf(item) {
  if (!("getAsFileSystemHandle" in item)) return undefined;
  const asking = /** @type {{getAsFileSystemHandle(): Promise<FileSystemHandle | null>}} */ (item).getAsFileSystemHandle();
  return asking.catch(() => null); // the file is read without it
}

/**
 * @param {FileSystemEntry} entry
 * @param {string} folder "" or a path that ends in a slash
 * @param {{items: Item[], unreadable: string[]}} found
 */
async function collect(entry, folder, found) {
  const path = folder + entry.name;
  try {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => {
        /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject);
      });
      found.items.push({ path, file });
      return;
    }
    const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
    for (;;) {
      /** @type {FileSystemEntry[]} */
      const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
      if (some.length === 0) return; // browsers return a folder in portions of 100
      for (const inner of some) await collect(inner, `${path}/`, found);
    }
  } catch {
    found.unreadable.push(path); // it was removed, or the person may not read it
  }
}
