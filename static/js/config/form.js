// The form beside the text: the config's values as fields, for people who do not know YAML. The server applies each change
// to the text in the editor as a value edit: comments stay, Undo works, and nothing is saved.

import { Problem, callJson, reasonOf } from "../core/api.js";
import { controlKind, enteredNumber, firstValue, headerOf, labelOf, notesOf, parentOf, refusalText, shownValue, token } from "./field.js";
import { visible } from "../core/format.js";
import { decode } from "./lines.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, part, setText } from "../core/page.js";

/** @typedef {import("./document.js").ConfigDocument} ConfigDocument */
/** @typedef {import("./field.js").Field} Field */
/** @typedef {{op: string, path: string, value?: any}} Operation */
/** @typedef {{element: HTMLElement, control: HTMLElement | null, field: Field, sent?: any}} Row `sent`: the value of a change that is not in the text yet */
/** @typedef {{path: string, message: string}} Finding */

const READ_AFTER_MS = 300; // after the last change of the text; the form need not follow every keystroke
const FILTER_FROM = 20; // number of fields from which a filter is shown
const OPEN_FIELDS = 60; // number of fields up to which groups start open

/** First values of a new setting that no schema describes, by its kind. */
const EMPTY = { text: "", number: 0, boolean: false };

/** The form. Reads the text while it is shown. */
export class ConfigForm {
  #root;
  #document;
  #list;
  #isShown = false;
  /** @type {string | null} the text that the fields were read from */
  #readText = null;
  /** @type {string} the fields without their values; while it is unchanged, the elements are reused */
  #shape = "";
  /** @type {Map<string, Row>} by path */
  #rows = new Map();
  /** @type {Operation[]} changes not sent yet */
  #waiting = [];
  /** @type {Promise<void> | null} null while no request is running */
  #asking = null;
  #timer = 0;
  /** @type {Map<string, boolean>} groups that the person opened or closed */
  #folds = new Map();
  #header = "";
  /** @type {Set<string> | null} paths that were there when the person added a setting, which gets the focus; null: nobody did */
  #before = null;

  /** @param {HTMLElement} root of the template `_config_form.html` @param {ConfigDocument} document */
  constructor(root, document) {
    this.#root = root;
    this.#document = document;
    this.#list = part(root, "fields");
    document.addEventListener("change", () => this.#readSoon());
    part(root, "filter").addEventListener("input", () => this.#filter());
    part(root, "fields-form").addEventListener("submit", (event) => event.preventDefault());
  }

  /** @param {boolean} isShown a hidden form sends no requests */
  set shown(isShown) {
    this.#isShown = isShown;
    if (isShown) this.#ask();
  }

  #readSoon() {
    clearTimeout(this.#timer);
    if (this.#isShown) this.#timer = window.setTimeout(() => this.#ask(), READ_AFTER_MS);
  }

  /** @param {Operation} operation */
  #change(operation) {
    this.#waiting.push(operation);
    this.#ask();
  }

  /** Wait until each change so far is in the text or was refused. */
  async written() {
    await this.#asking;
  }

  /** Send the changes and read the fields: one request at a time, each with the current text. */
  #ask() {
    this.#asking ??= this.#askAll().finally(() => { this.#asking = null; });
  }

  async #askAll() {
    while (this.#document.isLoaded && (this.#waiting.length || this.#document.text !== this.#readText)) {
      const { text } = this.#document;
      const patch = this.#waiting.splice(0, 1); // one by one: a refused change must not drop the others
      try {
        const exact = new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.#document.bytes());
        const answer = await callJson("POST", "/config/form", patch.length ? { text: exact, patch } : { text: exact });
        if (this.#document.text !== text) {
          this.#waiting.unshift(...patch); // the text changed during the request: repeat the change on the new text
          continue;
        }
        const lines = decode(new TextEncoder().encode(answer.text).buffer).lines;
        this.#readText = lines.join("\n");
        if (patch.length) {
          this.#document.replaceText(this.#readText);
          this.#reportRemoved(patch[0], answer.removed_comments);
        }
        this.#draw(answer);
      } catch (error) {
        if (patch.length) this.#refuse(patch[0], error);
        else this.#say(t("config.form.failed", { reason: reasonOf(error) }));
        if (!patch.length || !(error instanceof Problem) || error.status === 0) return; // the next change retries
      }
    }
  }

  /** @param {Operation} operation @param {unknown} error */
  #refuse(operation, error) {
    const sentence = reasonOf(error);
    this.#before = null;
    const row = this.#rows.get(operation.path) ?? this.#rows.get(parentOf(operation.path));
    if (row) {
      row.sent = undefined;
      if (row.control) setValue(row.control, row.field);
      showError(row.element, sentence);
    } else this.#say(sentence);
    announce(t("config.form.not_changed", { reason: sentence }));
  }

  /** @param {Operation} operation @param {string[]} comments */
  #reportRemoved(operation, comments) {
    this.#say("");
    if (operation.op !== "remove") return;
    this.#say(comments.length ? t("config.form.removed_comments", { n: comments.length }) : t("config.form.removed"));
  }

  /** @param {string} sentence "" hides the note */
  #say(sentence) {
    const note = part(this.#root, "form-note");
    note.hidden = sentence === "";
    setText(note, sentence);
    if (sentence) announce(sentence);
  }

  // --- drawing ---------------------------------------------------------------------------------------------------

  /** @param {{fields: Field[], errors: Finding[], is_cut?: boolean}} answer */
  #draw({ fields, errors, is_cut }) {
    const isReadable = fields.length > 0; // fields[0] is the config itself
    part(this.#root, "unreadable").hidden = isReadable;
    this.#list.hidden = !isReadable;
    part(this.#root, "cut").hidden = !is_cut;
    part(this.#root, "filter-box").hidden = fields.length < FILTER_FROM;
    this.#header = headerOf(this.#readText ?? "");
    const header = part(this.#root, "header");
    header.hidden = this.#header === "" || !isReadable;
    setText(header, visible(this.#header));
    if (!isReadable) return; // keep the fields, hidden, until the text can be parsed again
    const shape = JSON.stringify(fields.map(({ value, source, line, column, ...rest }) => rest));
    if (shape === this.#shape) {
      for (const field of fields) this.#update(field);
    } else {
      this.#shape = shape;
      this.#rebuild(fields);
    }
    for (const { path, message } of errors) {
      const row = this.#rows.get(path) ?? this.#rows.get(parentOf(path));
      if (row) showError(row.element, message);
    }
  }

  /** @param {Field} field */
  #update(field) {
    const row = this.#rows.get(field.path);
    if (!row) return;
    const isTyping = isDirty(row) && row.control === document.activeElement;
    row.field = field;
    row.sent = undefined;
    if (isTyping) return; // keep what the person is typing
    showError(row.element, "");
    if (row.control) setValue(row.control, field);
  }

  /** @param {Field[]} fields */
  #rebuild(fields) {
    const active = document.activeElement;
    const focused = active instanceof HTMLElement && this.#list.contains(active) ? active.closest("[data-path]")?.getAttribute("data-path") ?? null : null;
    const typing = focused === null ? undefined : this.#rows.get(focused);
    const typed = typing && isDirty(typing) ? typing.control : null;
    this.#rows.clear();
    /** @type {HTMLElement[]} the open groups, by depth */
    const groups = [this.#list];
    this.#list.replaceChildren();
    const isOpen = fields.length <= OPEN_FIELDS;
    const [root, ...members] = fields;
    this.#rows.set(root.path, { element: this.#root, control: null, field: root });
    if (root.can_add) {
      const adding = cloneTemplate("adding-template");
      this.#list.append(adding);
      this.#mountAdd(adding, root);
    }
    for (const field of members) {
      const isGroup = field.kind === "mapping" || field.kind === "list";
      const parent = groups[field.depth] ?? this.#list;
      const isItem = parent.dataset.kind === "list";
      const element = isGroup ? this.#group(field, isItem, isOpen) : this.#field(field, isItem);
      const adding = parent.querySelector(":scope > [data-part='adding']");
      parent.insertBefore(element, adding);
      if (isGroup) {
        groups.length = field.depth + 1;
        groups.push(part(element, "members"));
      }
    }
    this.#filter();
    const control = focused === null ? null : this.#rows.get(focused)?.control;
    control?.focus();
    if (isTextual(control) && isTextual(typed)) control.value = typed.value;
    this.#focusAdded();
    part(this.#root, "no-fields").hidden = members.length > 0;
  }

  /** Give the setting that the person added the focus: its button was drawn anew. */
  #focusAdded() {
    const before = this.#before;
    this.#before = null;
    const added = before && [...this.#rows].find(([path]) => !before.has(path))?.[1];
    if (added) (added.control ?? added.element.querySelector("summary"))?.focus();
  }

  /** @param {Field} field @param {boolean} isItem @param {boolean} isOpen */
  #group(field, isItem, isOpen) {
    const element = /** @type {HTMLDetailsElement} */ (cloneTemplate("group-template"));
    element.dataset.path = field.path;
    element.open = this.#folds.get(field.path) ?? isOpen;
    element.addEventListener("toggle", () => this.#folds.set(field.path, element.open));
    setText(part(element, "label"), labelOf(field, isItem));
    setText(part(element, "kind"), field.kind === "list" ? t("config.form.list") : "");
    showTag(element, field);
    this.#showHelp(element, field);
    showRefusal(element, field);
    const members = part(element, "members");
    members.dataset.kind = field.kind;
    this.#mountRemove(element, field, isItem);
    if (field.can_add) {
      const adding = cloneTemplate("adding-template");
      members.append(adding);
      this.#mountAdd(adding, field);
    }
    this.#rows.set(field.path, { element, control: null, field });
    return element;
  }

  /** @param {Field} field @param {boolean} isItem */
  #field(field, isItem) {
    const element = cloneTemplate("field-template");
    element.dataset.path = field.path;
    const id = `field${field.path}`;
    const label = /** @type {HTMLLabelElement} */ (part(element, "label"));
    label.htmlFor = id;
    setText(label, labelOf(field, isItem));
    showTag(element, field);
    const control = controlFor(field);
    control.id = id;
    const notes = [];
    for (const name of field.tag === null ? ["help", "error"] : ["tag", "help", "error"]) {
      part(element, name).id = `${id}-${name}`;
      notes.push(`${id}-${name}`);
    }
    control.setAttribute("aria-describedby", notes.join(" "));
    if (field.schema?.is_required) control.setAttribute("aria-required", "true");
    part(element, "control").append(control);
    this.#showHelp(element, field);
    showRefusal(element, field);
    if (field.refusal !== null) control.setAttribute("disabled", "");
    setValue(control, field);
    /** @type {Row} */
    const row = { element, control, field };
    const take = () => {
      if (this.#rows.get(field.path) !== row) return; // a rebuild removed it while it had the focus
      const entered = valueOf(control, row.field);
      if ("problem" in entered) showError(element, entered.problem);
      else if (entered.value !== row.field.value && entered.value !== row.sent) {
        row.sent = entered.value;
        this.#change({ op: "replace", path: field.path, value: entered.value });
      }
    };
    control.addEventListener("change", take);
    control.addEventListener("blur", take); // text carried over by a rebuild fires no change event
    this.#mountRemove(element, field, isItem);
    this.#rows.set(field.path, row);
    return element;
  }

  /** What the schema says, and each comment of the text, on lines of their own. @param {HTMLElement} element @param {Field} field */
  #showHelp(element, field) {
    const help = part(element, "help");
    for (const { kind, text } of notesOf(field, this.#header)) {
      const line = document.createElement("span");
      line.dataset.note = kind;
      setText(line, visible(text));
      help.append(line, " ");
    }
    help.hidden = help.childElementCount === 0;
  }

  /** @param {HTMLElement} element @param {Field} field @param {boolean} isItem */
  #mountRemove(element, field, isItem) {
    const remove = part(element, "remove");
    remove.hidden = !field.can_remove;
    remove.setAttribute("aria-label", t("config.form.remove", { name: labelOf(field, isItem) }));
    remove.addEventListener("click", () => {
      this.#change({ op: "remove", path: field.path });
      part(this.#root, "fields-form").focus();
    });
  }

  /** @param {HTMLElement} adding @param {Field} field a list or a mapping */
  #mountAdd(adding, field) {
    const button = part(adding, "add");
    const choice = /** @type {HTMLSelectElement} */ (part(adding, "choice"));
    const name = /** @type {HTMLInputElement} */ (part(adding, "name"));
    const missing = field.missing ?? [];
    const isList = field.kind === "list";
    setText(button, t(isList ? "config.form.add_item" : "config.form.add"));
    for (const { key, schema } of missing) choice.append(new Option(schema?.title ?? key, `known:${key}`));
    for (const kind of Object.keys(EMPTY)) choice.append(new Option(t(missing.length ? `config.form.another.${kind}` : `config.form.new.${kind}`), kind));
    const drawName = () => { name.hidden = isList || choice.value.startsWith("known:"); };
    choice.addEventListener("change", drawName);
    drawName();
    const place = field.path === "" ? t("config.form.config") : visible(field.key);
    choice.setAttribute("aria-label", t(isList ? "config.form.add_item_to" : "config.form.add_setting_to", { name: place }));
    button.addEventListener("click", () => {
      const known = missing.find(({ key }) => choice.value === `known:${key}`);
      const key = isList ? "-" : known ? known.key : name.value.trim();
      if (key === "") {
        name.focus();
        return;
      }
      const value = known ? firstValue(known.schema) : EMPTY[/** @type {"text"} */ (choice.value)];
      this.#before = new Set(this.#rows.keys());
      this.#change({ op: "add", path: `${field.path}/${token(key)}`, value });
      name.value = "";
    });
  }

  /** Show the fields whose name or help contains the words, and the groups around them. */
  #filter() {
    const words = /** @type {HTMLInputElement} */ (part(this.#root, "filter")).value.trim().toLowerCase();
    /** @type {Set<string>} */
    const kept = new Set();
    for (const [path, { field }] of this.#rows) {
      const said = `${field.key} ${field.schema?.title ?? ""} ${field.help ?? ""}`.toLowerCase();
      if (words && !said.includes(words)) continue;
      for (let at = path; at; at = parentOf(at)) kept.add(at);
    }
    for (const [path, { element }] of this.#rows) {
      if (path === "") continue;
      element.hidden = !kept.has(path);
      if (words && element instanceof HTMLDetailsElement && kept.has(path)) element.open = true;
    }
  }
}

/** @param {HTMLElement} element @param {Field} field */
function showTag(element, { tag }) {
  const shown = part(element, "tag");
  shown.hidden = tag === null;
  setText(shown, visible(tag ?? ""));
}

/** @param {HTMLElement} element @param {Field} field */
function showRefusal(element, { refusal }) {
  if (refusal === null || refusal === "not_a_value") return; // people change a group by changing its members
  const why = part(element, "refusal");
  why.hidden = false;
  setText(why, refusalText(refusal));
}

/** @param {HTMLElement} element @param {string} sentence */
function showError(element, sentence) {
  const error = part(element, "error");
  error.hidden = sentence === "";
  setText(error, visible(sentence));
  const control = element.querySelector(":scope > [data-part='control'] > *");
  if (sentence) control?.setAttribute("aria-invalid", "true");
  else control?.removeAttribute("aria-invalid");
}

/** @param {Field} field @returns {HTMLElement} */
function controlFor(field) {
  const { schema } = field;
  const kind = controlKind(field);
  if (kind === "select") {
    const select = document.createElement("select");
    const values = schema?.enum ?? [];
    values.forEach((value, index) => select.append(new Option(value === null ? t("config.form.null") : visible(String(value)), String(index))));
    if (!values.includes(field.value)) select.append(new Option(t("config.form.not_allowed", { value: visible(String(field.value)) }), "own"));
    return select;
  }
  if (kind === "area") {
    const area = document.createElement("textarea");
    area.rows = 4;
    return area;
  }
  const input = document.createElement("input");
  input.autocomplete = "off";
  input.spellcheck = false;
  input.type = kind === "switch" ? "checkbox" : field.is_secret ? "password" : "text";
  if (kind === "switch") input.setAttribute("role", "switch");
  if (field.is_secret) input.autocomplete = "new-password";
  if (kind === "number") {
    input.inputMode = field.kind === "integer" && (schema?.minimum ?? -1) >= 0 ? "numeric" : "text"; // number pads of phones lack the minus sign
    input.dataset.number = field.kind;
  }
  if (field.kind === "null") input.placeholder = t("config.form.null_hint");
  if (schema?.maxLength !== undefined && field.kind === "text") input.maxLength = schema.maxLength;
  return input;
}

/** @param {unknown} control @returns {control is HTMLInputElement | HTMLTextAreaElement} whether people type into it */
const isTextual = (control) => control instanceof HTMLTextAreaElement || (control instanceof HTMLInputElement && control.type !== "checkbox");

/** @param {Row} row @returns {boolean} whether it holds typed text that is neither in the config nor being sent */
const isDirty = ({ control, field, sent }) => isTextual(control) && sent === undefined && control.value !== shownValue(field);

/** @param {HTMLElement} control @param {Field} field */
function setValue(control, field) {
  if (control instanceof HTMLSelectElement) {
    const index = (field.schema?.enum ?? []).indexOf(field.value);
    control.value = index === -1 ? "own" : String(index);
  } else if (control instanceof HTMLInputElement && control.type === "checkbox") control.checked = field.value === true;
  else if (isTextual(control) && control.value !== shownValue(field)) control.value = shownValue(field); // an assignment would move the caret
}

/** @param {HTMLElement} control @param {Field} field @returns {{value: any} | {problem: string}} what was entered, or what is wrong with it */
function valueOf(control, field) {
  if (control instanceof HTMLSelectElement) return { value: control.value === "own" ? field.value : field.schema?.enum?.[Number(control.value)] };
  if (control instanceof HTMLInputElement && control.type === "checkbox") return { value: control.checked };
  if (!isTextual(control)) return { value: field.value };
  if (control.dataset.number !== undefined) return enteredNumber(control.value, field);
  if (control instanceof HTMLInputElement && control.value === shownValue(field)) return { value: field.value };
  return { value: control.value };
}
