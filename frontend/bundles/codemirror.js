// The text editor: what static/js/config-editor.js, config-schema.js and config-diff.js use of CodeMirror.
export { autocompletion, completionKeymap } from "@codemirror/autocomplete";
export { indentWithTab } from "@codemirror/commands";
export { yaml, yamlLanguage } from "@codemirror/lang-yaml";
export { HighlightStyle, ensureSyntaxTree, indentUnit, syntaxHighlighting, syntaxTree } from "@codemirror/language";
export { lintGutter, setDiagnostics } from "@codemirror/lint";
export { MergeView, unifiedMergeView } from "@codemirror/merge";
export { openSearchPanel } from "@codemirror/search";
export { Annotation, Compartment, EditorState, Text, Transaction } from "@codemirror/state";
export { EditorView, hoverTooltip, keymap, lineNumbers } from "@codemirror/view";
export { tags } from "@lezer/highlight";
export { basicSetup } from "codemirror";
