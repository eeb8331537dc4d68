// Reads what a person dropped: files, and folders with everything inside. No DOM.

/** @typedef {import("./transfers.js").Item} Item */

/**
 * @typedef {object} Dropped
 * @property {Item[]} items every file; one inside a folder has its path there. In no order
 * @property {string[]} unreadable paths that the browser could not read
 */

/** @typedef {{handle: FileSystemDirectoryHandle | null}} Folder null: the browser has given no handle of it, or not yet */
/** @typedef {{entry: FileSystemEntry, path: string, from: Item["from"], folder: Folder}} Found an entry that is still to be read, and the folder that it is in */

// Each answer of the browser takes a moment, whatever it reads. Chromium hands over all answers that are there in one task, and
// those that are asked for meanwhile in the same one: 500 files were one task of 185 ms of CPU. So the next ones are asked for
// in a task of their own, and no task has more answers than these (some 20 ms).
const AT_ONCE = 64;

/**
 * Read a drop. Call it in the event's handler: the browser empties the transfer when that returns.
 * @param {DataTransfer} transfer
 * @param {object} [options]
 * @param {AbortSignal} [options.signal] ends the reading
 * @param {(files: number) => void} [options.onFound] is given how many files were found so far
 * @returns {Promise<Dropped>}
 * @throws {DOMException} AbortError, once the signal is aborted
 */
export async function readDropped(transfer, { signal, onFound } = {}) {
  /** @type {Dropped} */
  const dropped = { items: [], unreadable: [] };
  /** @type {Found[]} */
  const folders = [];
  for (const item of transfer.items) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry?.() ?? null;
    const from = handleOf(item);
    const file = item.getAsFile();
    if (entry?.isDirectory) folders.push({ entry, path: entry.name, from, folder: { handle: null } });
    else if (file) dropped.items.push({ path: file.name, file, from });
    else if (entry) dropped.unreadable.push(entry.name);
  }
  if (folders.length) await readAll(folders, dropped, signal ?? new AbortController().signal, onFound ?? (() => {}));
  return dropped;
}

/**
 * @param {DataTransferItem} item
 * @returns {Item["from"]} undefined where the browser has no such handles
 */
function handleOf(item) {
  // Chromium 156 has the function on plain http, too, and ends the page that calls it there.
  if (!globalThis.isSecureContext || !("getAsFileSystemHandle" in item)) return undefined;
  const asking = /** @type {{getAsFileSystemHandle(): Promise<FileSystemHandle | null>}} */ (item).getAsFileSystemHandle();
  return asking.catch(() => null); // the file is read without it
}

/**
 * A file, by the handle of its folder where that works: Chromium takes half as long for it as for the entry. It gives handles
 * neither of all names nor of all links, so the entries say what is in a folder.
 * @param {Found} found
 * @returns {Promise<File>}
 */
async function fileOf({ entry, folder: { handle } }) {
  const file = handle && (await ifGiven(async () => (await handle.getFileHandle(entry.name)).getFile()));
  return file ?? new Promise((taken, failed) => { /** @type {FileSystemFileEntry} */ (entry).file(taken, failed); });
}

/**
 * @template T
 * @param {() => Promise<T>} ask
 * @returns {Promise<T | null>} null: the browser refuses
 */
async function ifGiven(ask) {
  try {
    return await ask();
  } catch {
    return null;
  }
}

/**
 * @param {Found} found a folder
 * @returns {Promise<Folder>}
 */
async function folderOf({ entry, from, path, folder: { handle } }) {
  /** @type {Folder} */
  const folder = { handle: null };
  if (path === entry.name) { // it was dropped itself; not awaited, because the browser may ask the person first
    from?.then((given) => { folder.handle = /** @type {FileSystemDirectoryHandle | null} */ (given); });
  } else if (handle) {
    folder.handle = await ifGiven(() => handle.getDirectoryHandle(entry.name));
  }
  return folder;
}

/**
 * @param {Found[]} waiting folders; emptied
 * @param {Dropped} dropped what was found is added to it
 * @param {AbortSignal} signal
 * @param {(files: number) => void} onFound
 */
async function readAll(waiting, dropped, signal, onFound) {
  let running = 0;
  let isAsked = false;
  const { port1: asking, port2: asked } = new MessageChannel(); // a timer would wait in a tab that is hidden
  await new Promise((/** @type {(_: void) => void} */ resolve) => {
    const startSoon = () => {
      if (isAsked) return;
      isAsked = true;
      asking.postMessage(null);
    };
    const start = () => {
      isAsked = false;
      while (running < AT_ONCE && waiting.length && !signal.aborted) {
        const found = /** @type {Found} */ (waiting.pop());
        running += 1;
        void read(found).catch(() => dropped.unreadable.push(found.path)).then(() => { // removed meanwhile, or not permitted
          running -= 1;
          startSoon();
        });
      }
      if (signal.aborted || (running === 0 && waiting.length === 0)) resolve();
    };

    /** @param {Found} found */
    const read = async (found) => {
      const { entry, path, from } = found;
      if (entry.isFile) {
        const file = await fileOf(found);
        dropped.items.push({ path, file, from });
        onFound(dropped.items.length);
        return;
      }
      const folder = await folderOf(found);
      const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
      while (!signal.aborted) {
        /** @type {FileSystemEntry[]} */
        const some = await new Promise((taken, failed) => { reader.readEntries(taken, failed); });
        if (some.length === 0) return; // browsers return a folder in portions of 100
        for (const inner of some) waiting.push({ entry: inner, path: `${path}/${inner.name}`, from, folder });
        startSoon();
      }
    };

    signal.addEventListener("abort", () => resolve(), { once: true });
    asked.addEventListener("message", start);
    asked.start();
    start();
  });
  asked.close();
  signal.throwIfAborted();
}
