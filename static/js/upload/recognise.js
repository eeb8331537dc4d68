// Finds out which files of a submission a person has picked again. A file goes on only if nothing in it seems changed: two
// versions are never joined. No DOM.

import { fingerprintOf } from "./fingerprint.js";
import { inParallel } from "./parallel.js";

/** @typedef {import("./transfers.js").Item} Item */
/** @typedef {import("../submission/model.js").Entry} Entry */

/**
 * @typedef {object} Recognised
 * @property {[Item, Entry][]} same files that can go on
 * @property {[Item, Entry][]} changed files with the name of one, but with another content or date
 * @property {Item[]} stored files that the server has already, by path and content
 * @property {Item[]} other the rest
 */

/**
 * @param {Item[]} items
 * @param {Entry[]} wanted files whose rest can be sent
 * @param {Entry[]} stored files that the server has
 * @param {(entry: Entry) => number | undefined} modified the `lastModified` that a file had when it was chosen, where that is known
 * @returns {Promise<Recognised>}
 */
export async function recognise(items, wanted, stored, modified) {
  const left = new Set(wanted);
  const byPath = grouped(wanted, ({ path }) => path);
  const byName = grouped(wanted, ({ path }) => nameOf(path));
  const bySize = grouped(wanted, ({ size }) => size);
  const had = grouped(stored, ({ path }) => path);
  const mayMatch = items.filter(({ path, file }) => bySize.has(file.size) || had.has(path));
  /** @type {Map<Item, string | null>} */
  const prints = new Map();
  await inParallel(mayMatch, async (item) => { prints.set(item, await fingerprintOf(item.file)); });

  /** @param {Item} item @param {Entry} entry */
  const isSame = (item, { path, size, received, fingerprint }) => size === item.file.size
    && (fingerprint === null
      ? received === 0 && nameOf(path) === nameOf(item.path) // another client announced it: nothing is there to be joined
      : fingerprint === prints.get(item));
  /** @param {Item} item @param {Entry} entry @returns {boolean} whether what came before may be of another version */
  const isNewer = ({ file }, entry) => entry.received > 0 && (modified(entry) ?? file.lastModified) !== file.lastModified;

  /** @type {Recognised} */
  const found = { same: [], changed: [], stored: [], other: [] };
  /** @type {(candidates: (item: Item) => Entry[] | undefined) => (item: Item) => boolean} */
  const take = (candidates) => (item) => {
    const entry = candidates(item)?.find((one) => left.has(one) && isSame(item, one));
    if (!entry) return true;
    left.delete(entry);
    (isNewer(item, entry) ? found.changed : found.same).push([item, entry]);
    return false;
  };
  // By path first: of two files with the same content, each goes to its own row.
  let rest = items.filter(take(({ path }) => byPath.get(path)));
  rest = rest.filter((item) => {
    const isStored = had.get(item.path)?.some(({ size, fingerprint }) => size === item.file.size && fingerprint === prints.get(item));
    if (isStored) found.stored.push(item);
    return !isStored;
  });
  rest = rest.filter(take(({ path }) => byName.get(nameOf(path)))).filter(take(({ file }) => bySize.get(file.size)));
  for (const item of rest) {
    const isAlone = !item.path.includes("/"); // picked without its folder
    const entry = (byPath.get(item.path) ?? (isAlone ? byName.get(item.path) : undefined))?.find((one) => left.has(one));
    if (entry) found.changed.push([item, entry]);
    else found.other.push(item);
  }
  return found;
}

/** @param {string} path */
const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);

/**
 * @template K
 * @param {Entry[]} entries
 * @param {(entry: Entry) => K} keyOf
 */
function grouped(entries, keyOf) {
  /** @type {Map<K, Entry[]>} */
  const groups = new Map();
  for (const entry of entries) {
    const key = keyOf(entry);
    const some = groups.get(key);
    if (some) some.push(entry);
    else groups.set(key, [entry]);
  }
  return groups;
}
