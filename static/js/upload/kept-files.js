// Remembers in this browser which files a submission sends, so that a page can go on with them after a reload: their dates,
// and the handles of what was dropped where the browser gives handles. Where the browser keeps nothing (a private window, a
// full disk, storage denied) all of it does nothing, and the person picks the files again. No DOM.

import { base, isOfLink } from "../core/base.js";
import { inParallel } from "./parallel.js";

/** @typedef {import("./transfers.js").Item} Item */
/** @typedef {{id: string, path: string}} Named a file of the submission */

/**
 * @typedef {object} KeptFile
 * @property {string} path
 * @property {number} modified its `lastModified` when it was chosen
 * @property {FileSystemHandle | null} from the file, or the folder that begins its path
 */

/** @typedef {{submission: string, base?: string, at: number, from: FileSystemHandle | null, files: {id: string, path: string, modified: number}[], gone: string[]}} Kept */

const STORE = "kept";
const KEPT_MS = 30 * 86_400_000; // longer than a server keeps unfinished uploads unless its operator decides otherwise

/** @type {Promise<IDBDatabase> | null} */
let opening = null;

function open() {
  opening ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open("dropmill", 1);
    asked.addEventListener("upgradeneeded", () => {
      asked.result.createObjectStore(STORE, { autoIncrement: true }).createIndex("submission", "submission");
    });
    asked.addEventListener("success", () => {
      asked.result.addEventListener("close", () => { opening = null; });
      resolve(asked.result);
    });
    for (const event of ["error", "blocked"]) asked.addEventListener(event, () => reject(asked.error));
  });
  return opening;
}

/**
 * @template R
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<R> | void} action
 * @returns {Promise<R | undefined>} undefined too if the browser refuses
 */
async function run(mode, action) {
  try {
    const database = await open();
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(STORE, mode);
      transaction.addEventListener("abort", () => reject(transaction.error));
      const asked = action(transaction.objectStore(STORE));
      transaction.addEventListener("complete", () => resolve(asked?.result));
    });
  } catch {
    return undefined;
  }
}

/** @param {(kept: Kept) => boolean} isWanted is asked about each record; those that are not are removed */
const sweep = (isWanted) => run("readwrite", (store) => {
  const walking = store.openCursor();
  walking.addEventListener("success", () => {
    const cursor = walking.result;
    if (!cursor) return;
    if (!isWanted(cursor.value)) cursor.delete();
    cursor.continue();
  });
});

/** Forget the files of every submission: whoever chose them has signed out. */
export const forgetFiles = () => run("readwrite", (store) => store.clear());

/** What this browser remembers of one submission's files. */
export class KeptFiles {
  #submission;
  #isForgotten = false;
  /** @type {Map<string, KeptFile>} as it was read, by the file's id */
  #files = new Map();
  /** @type {Promise<unknown>} actions run one after another, or a late one could keep what was forgotten */
  #last = Promise.resolve();

  /** @param {string} submissionId */
  constructor(submissionId) {
    this.#submission = submissionId;
  }

  /** Read what an earlier page of this browser has kept. */
  async read() {
    /** @type {Kept[]} */
    const all = (await run("readonly", (store) => store.index("submission").getAll(this.#submission))) ?? [];
    for (const { from, files } of all) for (const { id, path, modified } of files) this.#files.set(id, { path, modified, from });
    for (const id of all.flatMap(({ gone }) => gone)) this.#files.delete(id);
  }

  /** @returns {boolean} whether nothing was read */
  get isEmpty() {
    return this.#files.size === 0;
  }

  /** @param {string} id @returns {boolean} whether there is a handle to open the file by */
  canOpen(id) {
    return Boolean(this.#files.get(id)?.from);
  }

  /** @param {string} id @returns {number | undefined} the file's `lastModified` when it was chosen */
  modified(id) {
    return this.#files.get(id)?.modified;
  }

  /**
   * Open files by their handles. Call it in the handler of a click: the browser asks the person where it must.
   * @template {Named} T
   * @param {T[]} wanted
   * @returns {Promise<{items: Item[], missing: T[], isDenied: boolean}>} the files as they are on the disk now, those that are not
   *   where they were, and whether the permission was denied for some
   */
  async open(wanted) {
    /** @type {Map<FileSystemHandle, boolean>} */
    const permitted = new Map();
    const handles = wanted.map(({ id }) => this.#files.get(id)?.from ?? null);
    for (const from of handles) if (from && !permitted.has(from)) permitted.set(from, await mayRead(from));
    const readable = wanted.filter((file, index) => permitted.get(/** @type {FileSystemHandle} */ (handles[index])));
    const files = await inParallel(readable, ({ id }) => reopen(/** @type {KeptFile} */ (this.#files.get(id))));
    const items = readable.flatMap(({ id, path }, index) => {
      const file = files[index];
      return file ? [{ path, file, from: Promise.resolve(this.#files.get(id)?.from ?? null) }] : [];
    });
    return { items, missing: readable.filter((file, index) => files[index] === null), isDenied: [...permitted.values()].includes(false) };
  }

  /** @param {{id: string, item: Item}[]} files that the server has announced now */
  keep(files) {
    return this.#then(async () => {
      /** @type {Map<Item["from"] | null, Kept["files"]>} */
      const byOrigin = new Map();
      for (const { id, item } of files) {
        const some = byOrigin.get(item.from ?? null) ?? [];
        some.push({ id, path: item.path, modified: item.file.lastModified });
        byOrigin.set(item.from ?? null, some);
      }
      const kept = [];
      for (const [from, some] of byOrigin) kept.push({ from: (await from) ?? null, files: some });
      if (this.#isForgotten) return;
      if (await this.#put(kept)) return;
      await this.#put(kept.map(({ files: some }) => ({ from: null, files: some }))); // a browser that cannot store handles
    });
  }

  /** @param {string} id of a file that the person does not want sent any more */
  drop(id) {
    this.#files.delete(id);
    return this.#then(() => this.#put([{ from: null, files: [], gone: [id] }]));
  }

  /** Forget the submission: nothing of it is left to send. */
  forget() {
    this.#isForgotten = true;
    return this.#then(() => sweep(({ submission }) => submission !== this.#submission));
  }

  /**
   * Forget old submissions, and others that nothing can be sent to any more.
   * @param {(submissionId: string) => Promise<boolean>} isOpen is asked about each
   */
  async tidy(isOpen) {
    const oldest = Date.now() - KEPT_MS;
    /** @type {Kept[]} */
    const all = (await run("readonly", (store) => store.getAll())) ?? [];
    const others = new Set(all.filter((kept) => kept.submission !== this.#submission && isFromHere(kept)).map(({ submission }) => submission));
    const closed = new Set();
    for (const id of others) if (!(await isOpen(id))) closed.add(id);
    await sweep(({ submission, at }) => at >= oldest && !closed.has(submission));
  }

  /** @param {{from: FileSystemHandle | null, files: Kept["files"], gone?: string[]}[]} records @returns {Promise<boolean>} */
  async #put(records) {
    const key = await run("readwrite", (store) => {
      let asked;
      for (const record of records) asked = store.add({ submission: this.#submission, base, at: Date.now(), gone: [], ...record });
      return asked;
    });
    return key !== undefined;
  }

  /** @param {() => Promise<unknown>} action */
  #then(action) {
    this.#last = this.#last.then(action, action);
    return this.#last;
  }
}

/** What a page of a link asks about, the pages of accounts would not find, and the other way round. @param {Kept} kept */
const isFromHere = (kept) => (kept.base === undefined ? !isOfLink : kept.base === base);

/**
 * The file that a browser kept, as it is on the disk now. Its permission must have been given.
 * @param {KeptFile} kept
 * @returns {Promise<File | null>} null if it is no longer there, or may not be read
 */
async function reopen({ path, from }) {
  try {
    if (from?.kind === "file") return await /** @type {FileSystemFileHandle} */ (from).getFile();
    if (from === null) return null;
    const names = path.split("/").slice(1); // the first one is the folder itself
    let folder = /** @type {FileSystemDirectoryHandle} */ (from);
    for (const name of names.slice(0, -1)) folder = await folder.getDirectoryHandle(name);
    return await (await folder.getFileHandle(names[names.length - 1])).getFile();
  } catch {
    return null;
  }
}

/**
 * Ask for the permission to read what was dropped; the browser asks the person where it must.
 * @param {FileSystemHandle} handle
 * @returns {Promise<boolean>}
 */
async function mayRead(handle) {
  // TypeScript does not know the two methods: only some browsers have them.
  const asked = /** @type {FileSystemHandle & {queryPermission(of: object): Promise<string>, requestPermission(of: object): Promise<string>}} */ (handle);
  try {
    if ((await asked.queryPermission({ mode: "read" })) === "granted") return true;
    return (await asked.requestPermission({ mode: "read" })) === "granted";
  } catch {
    return false; // denied for good, or too long after the click
  }
}
