// The text editor of the config page: CodeMirror in a shadow root, where the content security policy allows its
// styles. It does not save. Texts have "\n" at every line end.

import {
  Decoration, EditorSelection, EditorState, EditorView, StateEffect, StateField, acceptCompletion, basicSetup, indentUnit, indentWithTab,
  isolateHistory, keymap, lintGutter, setDiagnostics, syntaxTree, yaml,
} from "../../vendor/codemirror.js";
import { theme } from "./editor-theme.js";
import { visible } from "../core/format.js";

/** @typedef {import("./check.js").Finding} Finding */

// It takes the focus, so that keys can scroll and select, but shows no caret and no keyboard.
const readOnly = [EditorState.readOnly.of(true), EditorView.editable.of(false), EditorView.contentAttributes.of({ "aria-readonly": "true", tabindex: "0" })];
const NARROW = "(max-width: 48rem)";

/** Dispatches `edit` when the text has changed. */
export class YamlEditor extends EventTarget {
  #view;

  /**
   * @param {HTMLElement} host gets a shadow root
   * @param {{text: string, label: string, extensions: import("@codemirror/state").Extension, isReadOnly?: boolean}} options
   */
  constructor(host, { text, label, extensions, isReadOnly = false }) {
    super();
    const root = host.attachShadow({ mode: "open" });
    const state = EditorState.create({
      doc: text,
      extensions: [
        // Tab takes what completion offers, else indents: spaces, since YAML forbids tabs. Esc, then Tab leaves.
        keymap.of([{ key: "Tab", run: acceptCompletion }, indentWithTab]),
        lintGutter(),
        basicSetup,
        yaml(),
        indentUnit.of("  "),
        EditorState.tabSize.of(8),
        markedLines,
        theme,
        wrapping,
        EditorView.contentAttributes.of({ "aria-label": label, autocapitalize: "off", autocorrect: "off", spellcheck: "false" }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) this.dispatchEvent(new Event("edit"));
        }),
        isReadOnly ? readOnly : [],
        extensions,
      ],
    });
    this.#view = new EditorView({ state, root, parent: root });
  }

  get text() {
    return this.#view.state.doc.toString();
  }

  /** Whether lines that are longer than the editor is wide go on below. */
  get isWrapping() {
    return this.#view.state.field(wrapping);
  }

  /** @param {boolean} isWrapping */
  set isWrapping(isWrapping) {
    this.#view.dispatch({ effects: setWrapping.of(isWrapping) });
  }

  /** @param {string} text replaces the text as a single undo step; equal text at both ends keeps cursor and folds */
  replaceText(text) {
    const before = this.text;
    if (text === before) return;
    const most = Math.min(text.length, before.length);
    let start = 0;
    while (start < most && text[start] === before[start]) start += 1;
    let alike = 0;
    while (alike < most - start && text.at(-1 - alike) === before.at(-1 - alike)) alike += 1;
    this.#view.dispatch({ changes: { from: start, to: before.length - alike, insert: text.slice(start, text.length - alike) }, annotations: isolateHistory.of("full") });
  }

  focus() {
    this.#view.focus();
  }

  /** Mark the findings in the text. @param {Finding[]} errors @param {Finding[]} warnings */
  mark(errors, warnings) {
    const { state } = this.#view;
    const diagnostics = [
      ...errors.map((finding) => this.#diagnostic(finding, "error")),
      ...warnings.map((finding) => this.#diagnostic(finding, "warning")),
    ].sort((one, other) => one.from - other.from);
    this.#view.dispatch(setDiagnostics(state, diagnostics), { effects: setMarked.of(diagnostics) });
    this.#view.contentDOM.setAttribute("aria-invalid", String(errors.length > 0));
  }

  /** Put the cursor there and bring it into view. @param {number} line @param {number} column 1-based, UTF-16 units */
  goTo(line, column) {
    const at = this.#position(line, column);
    this.#view.dispatch({ selection: EditorSelection.cursor(at), effects: EditorView.scrollIntoView(at, { y: "center" }) });
    this.#view.focus();
  }

  /** @param {number} line @param {number} column */
  #position(line, column) {
    const { doc } = this.#view.state;
    const found = doc.line(Math.min(Math.max(line, 1), doc.lines));
    return Math.min(found.from + column - 1, found.to);
  }

  /**
   * @param {Finding} finding @param {"error" | "warning"} severity
   * @returns {import("@codemirror/lint").Diagnostic} from its place to the end of the word there, or of the line
   */
  #diagnostic({ line, column, message }, severity) {
    const { state } = this.#view;
    const at = this.#position(line, column);
    const end = state.doc.lineAt(at).to;
    const node = syntaxTree(state).resolveInner(at, 1);
    const isWord = node.firstChild === null && node.from === at && node.to <= end;
    return { from: at, to: isWord ? node.to : end, severity, message: visible(message) };
  }
}

/** @typedef {import("@codemirror/lint").Diagnostic} Diagnostic */
/** @type {import("@codemirror/state").StateEffectType<Diagnostic[]>} */
const setMarked = StateEffect.define();

/** @type {import("@codemirror/state").StateEffectType<boolean>} */
const setWrapping = StateEffect.define();

/** Whether long lines wrap. At first they do where scrolling sideways while typing would hide the cursor. */
const wrapping = StateField.define({
  create: () => matchMedia(NARROW).matches,
  update: (isWrapping, { effects }) => effects.find((effect) => effect.is(setWrapping))?.value ?? isWrapping,
  provide: (field) => EditorView.contentAttributes.from(field, (isWrapping) => ({ class: isWrapping ? "cm-lineWrapping" : "" })),
});

/** The lines with findings, tinted. */
const markedLines = StateField.define({
  create: () => Decoration.none,
  update(marked, { changes, effects, state }) {
    let now = marked.map(changes);
    for (const effect of effects) {
      if (!effect.is(setMarked)) continue;
      /** @type {Map<number, string>} */
      const lines = new Map();
      for (const { from, severity } of effect.value) {
        const start = state.doc.lineAt(from).from;
        if (lines.get(start) !== "error") lines.set(start, severity);
      }
      now = Decoration.set([...lines].map(([start, severity]) => Decoration.line({ class: `cm-marked-${severity}` }).range(start)), true);
    }
    return now;
  },
  provide: (field) => EditorView.decorations.from(field),
});
