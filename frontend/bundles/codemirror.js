// The text editor: what static/js/config-*.js and merge.js use of CodeMirror.
export { acceptCompletion, startCompletion } from "@codemirror/autocomplete";
export { indentWithTab, isolateHistory } from "@codemirror/commands";
export { yaml, yamlLanguage } from "@codemirror/lang-yaml";
export { HighlightStyle, indentUnit, syntaxHighlighting, syntaxTree } from "@codemirror/language";
export { lintGutter, setDiagnostics } from "@codemirror/lint";
export { MergeView, diff, unifiedMergeView } from "@codemirror/merge";
export { EditorSelection, EditorState, StateEffect, StateField } from "@codemirror/state";
export { Decoration, EditorView, ViewPlugin, hoverTooltip, keymap, lineNumbers } from "@codemirror/view";
export { tags } from "@lezer/highlight";
export { basicSetup } from "codemirror";
