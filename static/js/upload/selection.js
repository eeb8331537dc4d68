// The list before Submit: the dropped or chosen files, each with a button to remove it.

import { bytes, counted, visible } from "../core/format.js";
import { announce, cloneTemplate, part, setText } from "../core/page.js";

/** @typedef {import("./transfers.js").Item} Item */

const MAX_SHOWN = 500;

/** Files chosen and not yet submitted. */
export class Selection {
  #root;
  #list;
  /** @type {Map<string, Item>} by path: a file chosen twice counts once */
  #items = new Map();

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    this.#list = part(root, "selected");
    part(root, "clear").addEventListener("click", () => {
      this.#items.clear();
      this.#list.replaceChildren();
      this.#summarise();
      announce("Nothing is selected.");
    });
  }

  /** @returns {Item[]} */
  get items() {
    return [...this.#items.values()];
  }

  /** @param {Item[]} items @param {string[]} unreadable paths that the browser could not read */
  add(items, unreadable) {
    for (const item of items) {
      const isNew = !this.#items.has(item.path);
      this.#items.set(item.path, item);
      if (isNew && this.#list.childElementCount < MAX_SHOWN) this.#list.append(this.#row(item.path));
    }
    const note = part(this.#root, "unreadable");
    note.hidden = unreadable.length === 0;
    setText(note, `Could not be read, so not selected: ${unreadable.map(visible).join(", ")}`);
    this.#summarise();
    if (items.length) announce(`${counted(this.#items.size, "file")} selected.`);
  }

  /** @param {string} path */
  #row(path) {
    const row = cloneTemplate("selected-template");
    const name = visible(path);
    part(row, "name").textContent = name;
    part(row, "name").title = name;
    part(row, "size").textContent = bytes(this.#items.get(path)?.file.size ?? 0);
    const remove = part(row, "remove");
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => {
      const neighbour = row.nextElementSibling ?? row.previousElementSibling;
      this.#items.delete(path);
      row.remove();
      this.#summarise();
      // The focus would jump to the top of the page: move it to the next file's button, or to the file chooser.
      const target = neighbour ? part(neighbour, "remove") : document.getElementById("files");
      target?.focus();
      announce(`${name} removed, ${counted(this.#items.size, "file")} left.`);
    });
    return row;
  }

  #summarise() {
    const { items } = this;
    const size = items.reduce((sum, { file }) => sum + file.size, 0);
    const hidden = items.length - this.#list.childElementCount;
    this.#root.hidden = items.length === 0;
    setText(part(this.#root, "total"), `${counted(items.length, "file")}, ${bytes(size)}`);
    setText(part(this.#root, "unlisted"), hidden > 0 ? `and ${counted(hidden, "more file")}` : "");
    setText(part(this.#root, "submit"), `Submit ${counted(items.length, "file")}`);
    this.#root.dispatchEvent(new CustomEvent("selection", { bubbles: true, detail: items.length }));
  }
}
