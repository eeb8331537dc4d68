// The text editor of the config page: a textarea with line numbers and quiet colours behind it. Knows nothing of
// saving. Dispatches `edit` whenever the text changed.

const MAX_COLOURED_LINES = 3000; // above that colours would be felt while typing; the text is still all there
const TOKENS = /(?<comment>(?:^|(?<=\s))#.*$)|(?<string>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|(?<key>(?:^|(?<=[\s{[,-]))[^\s#"'{}[\],&*!|>%@`-][^#:{}[\],"']*?(?=\s*:(?:\s|$)))|(?<number>(?<=[\s[,:{]|^)[-+]?(?:0[xo])?\d[\d_]*(?:\.\d+)?(?:e[-+]?\d+)?(?=[\s,\]}]|$))/giu;

/** @typedef {{line: number, column: number, message: string}} Mark 1-based; the column counts UTF-16 units */

/** A textarea with its line numbers. */
export class Editor extends EventTarget {
  #area;
  #gutter;
  #backdrop;
  /** @type {string[]} as drawn */
  #drawn = [];
  /** @type {Map<number, "error" | "warning">} by line */
  #marks = new Map();
  #mayTabLeave = false;

  /** @param {HTMLTextAreaElement} area @param {HTMLElement} gutter @param {HTMLElement} backdrop */
  constructor(area, gutter, backdrop) {
    super();
    this.#area = area;
    this.#gutter = gutter;
    this.#backdrop = backdrop;
    area.addEventListener("input", () => {
      this.#draw();
      this.dispatchEvent(new Event("edit"));
    });
    area.addEventListener("scroll", () => this.#alignScroll());
    area.addEventListener("keydown", (event) => this.#key(event));
    area.addEventListener("blur", () => { this.#mayTabLeave = false; });
  }

  get text() {
    return this.#area.value;
  }

  set text(text) {
    this.#area.value = text;
    this.#draw();
  }

  /** @param {boolean} isReadOnly */
  set readOnly(isReadOnly) {
    this.#area.readOnly = isReadOnly;
  }

  /** @param {Mark[]} errors @param {Mark[]} warnings */
  mark(errors, warnings) {
    this.#marks = new Map([
      ...warnings.map(({ line }) => /** @type {const} */ ([line, "warning"])),
      ...errors.map(({ line }) => /** @type {const} */ ([line, "error"])),
    ]);
    this.#area.setAttribute("aria-invalid", String(errors.length > 0));
    this.#drawMarks();
  }

  /** Put the cursor there and bring it into view. @param {number} line @param {number} column */
  goTo(line, column) {
    const lines = this.text.split("\n");
    const index = Math.min(line, lines.length) - 1;
    const begin = lines.slice(0, index).reduce((sum, one) => sum + one.length + 1, 0);
    const offset = begin + Math.min(column - 1, lines[index].length);
    this.#area.focus();
    this.#area.setSelectionRange(offset, offset);
    const height = this.#area.scrollHeight / Math.max(1, lines.length);
    this.#area.scrollTop = Math.max(0, index * height - this.#area.clientHeight / 2);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === "Escape") {
      this.#mayTabLeave = true; // the next Tab moves on, so the keyboard is not trapped
      return;
    }
    if (event.key !== "Tab" || event.shiftKey || event.ctrlKey || event.metaKey || event.altKey || this.#area.readOnly) return;
    if (this.#mayTabLeave) return;
    event.preventDefault();
    const column = this.#area.selectionStart - (this.text.lastIndexOf("\n", this.#area.selectionStart - 1) + 1);
    // YAML forbids tabs for indentation. execCommand is the one way that keeps the browser's undo.
    document.execCommand("insertText", false, column % 2 ? " " : "  ");
  }

  #draw() {
    const lines = this.text.split("\n");
    while (this.#gutter.childElementCount > lines.length) this.#gutter.lastElementChild?.remove();
    for (let number = this.#gutter.childElementCount + 1; number <= lines.length; number += 1) {
      const label = document.createElement("span");
      label.textContent = String(number);
      this.#gutter.append(label);
    }
    const isColoured = lines.length <= MAX_COLOURED_LINES;
    this.#area.classList.toggle("plain", !isColoured);
    const coloured = isColoured ? lines : [];
    while (this.#backdrop.childElementCount > coloured.length) this.#backdrop.lastElementChild?.remove();
    coloured.forEach((line, index) => {
      if (index < this.#backdrop.childElementCount && this.#drawn[index] === line) return;
      const drawn = colouredLine(line);
      if (index < this.#backdrop.childElementCount) this.#backdrop.children[index].replaceWith(drawn);
      else this.#backdrop.append(drawn);
    });
    this.#drawn = coloured;
    this.#drawMarks();
    this.#alignScroll();
  }

  #drawMarks() {
    for (const column of [this.#gutter, this.#backdrop]) {
      for (const marked of column.querySelectorAll("[data-mark]")) marked.removeAttribute("data-mark");
      for (const [line, mark] of this.#marks) column.children[line - 1]?.setAttribute("data-mark", mark);
    }
  }

  #alignScroll() {
    this.#gutter.style.setProperty("translate", `0 ${-this.#area.scrollTop}px`);
    this.#backdrop.style.setProperty("translate", `${-this.#area.scrollLeft}px ${-this.#area.scrollTop}px`);
  }
}

/** @param {string} line @returns {HTMLElement} the line with its tokens coloured; only for the eye, nothing is judged by it */
function colouredLine(line) {
  const element = document.createElement("div");
  let at = 0;
  for (const token of line.matchAll(TOKENS)) {
    const kind = Object.entries(token.groups ?? {}).find(([, text]) => text !== undefined)?.[0] ?? "";
    const span = document.createElement("span");
    span.className = `token-${kind}`;
    span.textContent = token[0];
    element.append(line.slice(at, token.index), span);
    at = token.index + token[0].length;
  }
  element.append(line.slice(at) || (at ? "" : "\u200b")); // an empty line keeps its height
  return element;
}
