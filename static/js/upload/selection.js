// The list before Submit: the chosen files, what is wrong with them, and the buttons to sort, remove and submit.

import { bytes, visible } from "../core/format.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, part, setText } from "../core/page.js";
import { VirtualList } from "../core/virtual-list.js";
import { names } from "./checks.js";
import { Chosen } from "./chosen.js";

/** @typedef {import("./chosen.js").Choice} Choice */
/** @typedef {import("./checks.js").Rules} Rules */
/** @typedef {import("./reading.js").Dropped} Dropped */

const END = 12; // characters of a long name that are always seen: extension and number
const THUMBNAIL_MAX = 8 * 1024 * 1024; // bytes of a picture that is decoded to be shown small
const THUMBNAIL = new Set(["image/avif", "image/gif", "image/jpeg", "image/png", "image/webp"]);
const ICONS = [["image", /^image\//], ["video", /^video\//], ["audio", /^audio\//], ["archive", /zip|tar|compressed|x-7z|x-xz/]];

/** Dispatches `change` after each change of what is chosen. */
export class Selection extends EventTarget {
  #root;
  #chosen;
  /** @type {VirtualList<Choice>} */
  #list;

  /** @param {HTMLElement} root @param {Rules} rules */
  constructor(root, rules) {
    super();
    this.#root = root;
    this.#chosen = new Chosen(rules);
    this.#list = new VirtualList(part(root, "selected"), {
      keyOf: ({ key }) => key,
      kindOf: ({ problem, folder }) => `${problem !== ""} ${folder !== ""}`,
      make: (choice) => this.#row(choice),
    });
    part(root, "clear").addEventListener("click", () => {
      this.clear();
      document.getElementById("files")?.focus();
      announce(t("upload.removed_all"));
    });
    part(root, "remove-bad").addEventListener("click", () => {
      this.#chosen.remove(this.#chosen.bad);
      this.#draw();
      this.#focusNear(0);
      announce(this.#sum());
    });
    for (const button of root.querySelectorAll("[data-order]")) {
      button.addEventListener("click", () => {
        this.#chosen.order = /** @type {HTMLElement} */ (button).dataset.order ?? "name";
        this.#draw();
      });
    }
  }

  /** @returns {Chosen} */
  get chosen() {
    return this.#chosen;
  }

  /** @param {Dropped} dropped @param {boolean} isPasted */
  add({ items, unreadable }, isPasted) {
    const again = this.#chosen.add(items, isPasted);
    note("again", again.length ? t("upload.again", { n: again.length, names: names(again) }) : "");
    note("unreadable", unreadable.length ? t("upload.unreadable", { names: names(unreadable) }) : "");
    this.#draw();
    if (items.length) announce(this.#sum());
  }

  /** Remove every file. */
  clear() {
    this.#chosen.remove(this.#chosen.rows);
    note("again", "");
    note("unreadable", "");
    this.#draw();
  }

  /** @param {boolean} isSubmitting whether the list is on its way: nothing in it can be changed */
  set isSubmitting(isSubmitting) {
    for (const name of ["bad", "head", "selected", "clear"]) part(this.#root, name).inert = isSubmitting;
    part(this.#root, "submit").setAttribute("aria-busy", String(isSubmitting));
    this.#drawSubmit();
  }

  /** @returns {string} what is chosen, for screen readers */
  #sum() {
    const { good, bad } = this.#chosen;
    return [t("upload.selected", { n: good.length + bad.length }), ...(bad.length ? [t("upload.bad", { n: bad.length })] : [])].join(" ");
  }

  #draw() {
    const { rows, good, bad, size, order } = this.#chosen;
    const root = this.#root;
    root.hidden = rows.length === 0;
    part(root, "bad").hidden = bad.length === 0;
    setText(part(root, "bad-text"), t("upload.bad", { n: bad.length }));
    setText(part(root, "remove-bad"), t("upload.remove_bad", { n: bad.length }));
    setText(part(root, "total"), t("upload.total", { n: good.length, size: bytes(size) }));
    part(root, "sort").hidden = good.length < 2;
    for (const button of root.querySelectorAll("[data-order]")) {
      button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.order === order));
    }
    this.#list.show(rows);
    this.#drawSubmit();
    this.dispatchEvent(new Event("change"));
  }

  #drawSubmit() {
    const submit = part(this.#root, "submit");
    const { length } = this.#chosen.good;
    const isBusy = submit.getAttribute("aria-busy") === "true";
    submit.setAttribute("aria-disabled", String(isBusy || length === 0)); // `disabled` would take the focus away
    setText(submit, isBusy ? t("upload.submitting") : length ? t("upload.submit", { n: length }) : t("upload.submit_none"));
  }

  /** Focus the button of a row that is there now; the file chooser if none is. @param {number} at */
  #focusNear(at) {
    const { rows } = this.#chosen;
    const next = rows[Math.min(at, rows.length - 1)];
    if (next) this.#list.reveal(next.key);
    const element = next && this.#list.row(next.key)?.element;
    (element ? part(element, "remove") : document.getElementById("files"))?.focus();
  }

  /** @param {Choice} choice @returns {import("../core/virtual-list.js").Row} */
  #row(choice) {
    const { item: { path, file }, folder, name } = choice;
    const element = cloneTemplate("selected-template");
    const whole = visible(path);
    const shown = [...visible(name)];
    const cut = Math.max(0, shown.length - END);
    setText(part(element, "name-start"), shown.slice(0, cut).join(""));
    setText(part(element, "name-end"), shown.slice(cut).join(""));
    part(element, "name").title = whole;
    setText(part(element, "folder"), visible(folder));
    setText(part(element, "size"), bytes(file.size));
    const address = picture(part(element, "icon"), file);
    const remove = part(element, "remove");
    remove.setAttribute("aria-label", t("upload.remove", { name: whole }));
    remove.addEventListener("click", () => {
      const at = this.#chosen.rows.indexOf(choice);
      this.#chosen.remove([choice]);
      this.#draw();
      this.#focusNear(at);
      announce(t("upload.removed", { name: whole, n: this.#chosen.rows.length }));
    });
    return {
      element,
      render: () => {
        element.classList.toggle("bad", choice.problem !== "");
        setText(part(element, "problem"), choice.problem);
      },
      remove: () => URL.revokeObjectURL(address),
    };
  }
}

/** @param {string} name of a part of the page @param {string} text "" hides it */
function note(name, text) {
  const element = part(document, name);
  element.hidden = text === "";
  setText(element, text);
}

/**
 * Show a picture small, and anything else as the icon of its type.
 * @param {HTMLElement} place
 * @param {File} file
 * @returns {string} address to revoke; "" if there is none
 */
function picture(place, file) {
  const [icon] = ICONS.find(([, pattern]) => /** @type {RegExp} */ (pattern).test(file.type)) ?? ["file"];
  place.querySelector("use")?.setAttribute("href", `#icon-${icon}`);
  if (!THUMBNAIL.has(file.type) || file.size > THUMBNAIL_MAX) return "";
  const image = new Image();
  const address = URL.createObjectURL(file);
  image.alt = "";
  image.decoding = "async";
  image.addEventListener("load", () => place.replaceChildren(image));
  image.src = address;
  return address;
}
