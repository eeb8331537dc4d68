// CodeMirror's looks. It lives in shadow roots, which only the custom properties of tokens.css reach; they carry light and dark.

import { Decoration, EditorView, HighlightStyle, ViewPlugin, syntaxHighlighting, syntaxTree, tags } from "../../vendor/codemirror.js";

const TARGET = "var(--target)";
const wavy = (/** @type {string} */ colour) => ({ backgroundImage: "none", textDecoration: `underline wavy ${colour} 1px`, textUnderlineOffset: "0.2em", textDecorationSkipInk: "none" });
const box = { border: "1px solid var(--line-control)", borderRadius: "0.5rem", backgroundColor: "var(--surface)", color: "var(--text)", boxShadow: "0 0.25rem 1rem var(--shade)" };

const look = EditorView.theme({
  "&": { minBlockSize: "var(--editor-least)", maxBlockSize: "var(--editor-most)", color: "var(--text)", backgroundColor: "var(--surface)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", fontSize: "0.8125rem", lineHeight: "1.75", overscrollBehavior: "contain" },
  ".cm-content": { paddingBlock: "0.625rem", caretColor: "var(--text)" },
  ".cm-line": { paddingInline: "0.375rem 1rem" },
  ".cm-cursor, .cm-dropCursor": { borderInlineStart: "2px solid var(--text)", marginInlineStart: "-1px" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { background: "color-mix(in srgb, var(--accent) 28%, transparent)" },
  ".cm-content ::selection": { backgroundColor: "color-mix(in srgb, var(--accent) 28%, transparent)" },
  ".cm-activeLine": { backgroundColor: "transparent" },
  "&.cm-focused .cm-activeLine": { backgroundColor: "color-mix(in srgb, var(--surface-quiet) 55%, transparent)" },
  ".cm-gutters": { backgroundColor: "var(--surface)", color: "var(--text-faint)", border: "0" },
  ".cm-lineNumbers .cm-gutterElement": { minInlineSize: "2.25rem", paddingInline: "0.25rem", fontVariantNumeric: "tabular-nums" },
  ".cm-activeLineGutter": { backgroundColor: "transparent", color: "var(--text)" },
  ".cm-foldGutter .cm-gutterElement": { paddingInline: "0.125rem", color: "var(--text-faint)", cursor: "pointer" },
  ".cm-foldPlaceholder": { border: "0", backgroundColor: "var(--surface-quiet)", color: "var(--text-soft)", paddingInline: "0.375rem" },
  ".cm-not-text": { color: "var(--green)" },
  ".cm-specialChar": { color: "var(--red)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--accent-tint)", outline: "1px solid var(--accent)" },
  "&.cm-focused .cm-nonmatchingBracket": { backgroundColor: "var(--red-tint)" },
  ".cm-selectionMatch": { backgroundColor: "var(--surface-quiet)" },
  ".cm-searchMatch": { backgroundColor: "var(--amber-tint)", outline: "1px solid var(--amber)" },
  ".cm-searchMatch-selected": { backgroundColor: "color-mix(in srgb, var(--amber) 45%, transparent)" },

  // what the checks found
  ".cm-gutter-lint": { inlineSize: "1.5rem" },
  ".cm-gutter-lint .cm-gutterElement": { padding: "0", textAlign: "center" },
  ".cm-lint-marker": { inlineSize: "1.5rem", blockSize: "auto", cursor: "default", fontFamily: "var(--mono)", fontWeight: "700", lineHeight: "inherit" },
  ".cm-lint-marker-error": { content: "normal", color: "var(--red)" },
  ".cm-lint-marker-error::before": { content: '"!"' },
  ".cm-lint-marker-warning": { content: "normal", color: "var(--amber)" },
  ".cm-lint-marker-warning::before": { content: '"?"' },
  ".cm-lintRange-error": wavy("var(--red)"),
  ".cm-lintRange-warning": wavy("var(--amber)"),
  ".cm-lintRange-active": { backgroundColor: "var(--surface-quiet)" },
  ".cm-lintPoint-error::after": { borderBlockEndColor: "var(--red)" },
  ".cm-lintPoint-warning::after": { borderBlockEndColor: "var(--amber)" },
  ".cm-line.cm-marked-error, &.cm-focused .cm-line.cm-marked-error": { backgroundColor: "var(--red-tint)" },
  ".cm-line.cm-marked-warning, &.cm-focused .cm-line.cm-marked-warning": { backgroundColor: "var(--amber-tint)" },
  ".cm-diagnostic": { padding: "0.375rem 0.75rem", font: "var(--small)/1.5 var(--sans)", whiteSpace: "pre-wrap" },
  ".cm-diagnostic-error": { borderInlineStart: "3px solid var(--red)" },
  ".cm-diagnostic-warning": { borderInlineStart: "3px solid var(--amber)" },

  // what the schema says
  ".cm-tooltip": { ...box, maxInlineSize: "min(26rem, 90vw)", overflow: "hidden" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", fontSize: "0.875rem", maxBlockSize: "16rem" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { display: "flex", alignItems: "center", gap: "0.5rem", minBlockSize: "1.75rem", paddingInline: "0.75rem" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-tooltip-autocomplete [aria-selected] .cm-completionDetail": { color: "inherit" },
  ".cm-completionIcon": { display: "none" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "700" },
  ".cm-completionDetail": { marginInlineStart: "auto", color: "var(--text-faint)", fontStyle: "normal", fontSize: "var(--tiny)" },
  ".cm-tooltip.cm-completionInfo": { padding: "0" },
  ".cm-schema": { padding: "0.5rem 0.75rem", font: "var(--small)/1.5 var(--sans)", overflowWrap: "anywhere" },
  ".cm-schema p": { margin: "0" },
  ".cm-schema * + p": { marginBlockStart: "0.25rem" },
  ".cm-schema-facts": { color: "var(--text-soft)" },

  // search
  ".cm-panels": { backgroundColor: "var(--surface-quiet)", color: "var(--text)", font: "var(--small) var(--sans)" },
  ".cm-panels.cm-panels-top": { borderBlockEnd: "1px solid var(--line)" },
  ".cm-panels.cm-panels-bottom": { borderBlockStart: "1px solid var(--line)" },
  ".cm-panel.cm-search": { display: "flex", flexWrap: "wrap", alignItems: "center", gap: "0.375rem", padding: "0.5rem 3rem 0.5rem 0.75rem" },
  ".cm-panel.cm-search br": { flexBasis: "100%", content: '""' },
  ".cm-panel.cm-search label": { display: "inline-flex", alignItems: "center", gap: "0.25rem", minBlockSize: TARGET, margin: "0 0.25rem", fontSize: "inherit" },
  ".cm-panel.cm-search input[type=checkbox]": { inlineSize: "1rem", blockSize: "1rem", margin: "0", accentColor: "var(--accent)" },
  ".cm-textfield, .cm-panel.cm-search .cm-textfield": { boxSizing: "border-box", minBlockSize: TARGET, margin: "0", border: "1px solid var(--line-control)", borderRadius: "0.5rem", paddingInline: "0.625rem", backgroundColor: "var(--surface)", color: "var(--text)", fontSize: "1rem" },
  ".cm-button, .cm-panel.cm-search .cm-button": { boxSizing: "border-box", minBlockSize: TARGET, margin: "0", border: "1px solid var(--line-control)", borderRadius: "0.5rem", backgroundImage: "none", backgroundColor: "var(--surface)", color: "var(--text)", fontSize: "inherit", textTransform: "capitalize", cursor: "pointer" },
  ".cm-panel.cm-search [name=close]": { insetBlockStart: "0.25rem", insetInlineEnd: "0.25rem", inlineSize: TARGET, blockSize: TARGET, color: "var(--text-soft)", fontSize: "1.25rem", cursor: "pointer" },
  ".cm-panel :focus-visible": { outline: "2px solid var(--accent)", outlineOffset: "1px" },

  // differences
  ".cm-changedLine, .cm-insertedLine, .cm-deletedChunk": { "--text-faint": "var(--text-soft)" }, // the faint colour lacks contrast on a tint
  ".cm-changedLine, .cm-insertedLine": { backgroundColor: "var(--teal-tint)" },
  "&.cm-merge-a .cm-changedLine, .cm-deletedChunk": { backgroundColor: "var(--amber-tint)" },
  ".cm-changedText, &.cm-merge-b .cm-changedText": { background: "color-mix(in srgb, var(--teal) 22%, transparent)" },
  "&.cm-merge-a .cm-changedText, .cm-deletedChunk .cm-deletedText": { background: "color-mix(in srgb, var(--amber) 26%, transparent)" },
  ".cm-changedText, .cm-changedText *, .cm-deletedText, .cm-deletedText *": { color: "var(--text)" }, // no other colour has enough contrast on that tint
  ".cm-deletedChunk": { paddingInlineStart: "0.375rem" },
  "&.cm-merge-a .cm-changedLineGutter, .cm-deletedLineGutter": { background: "var(--amber)" },
  ".cm-changedLineGutter, &.cm-merge-b .cm-changedLineGutter": { background: "var(--teal)" },
  ".cm-collapsedLines": { display: "flex", alignItems: "center", justifyContent: "center", gap: "0.5rem", minBlockSize: "2rem", padding: "0", backgroundImage: "none", backgroundColor: "var(--surface-quiet)", color: "var(--text-soft)", fontFamily: "var(--sans)", cursor: "pointer" },
  ".cm-collapsedLines::before, .cm-collapsedLines::after": { content: '"⋯"', margin: "0" },

  "@media (max-width: 48rem)": {
    ".cm-scroller": { fontSize: "1rem", lineHeight: "1.6" }, // phones zoom into text fields below 16 px
    ".cm-lineNumbers .cm-gutterElement": { minInlineSize: "1.25rem", paddingInline: "0" },
    ".cm-gutter-lint, .cm-lint-marker": { inlineSize: "1rem" },
    ".cm-foldGutter": { display: "none" }, // its marks are too small for fingers
    ".cm-line": { paddingInline: "0.25rem 0.5rem" },
    ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { minBlockSize: TARGET },
    ".cm-collapsedLines": { minBlockSize: TARGET },
  },
});

const colours = syntaxHighlighting(HighlightStyle.define([
  { tag: tags.comment, color: "var(--text-faint)" },
  { tag: [tags.definition(tags.propertyName), tags.propertyName], color: "var(--teal)" },
  { tag: tags.string, color: "var(--amber)" },
  { tag: [tags.labelName, tags.typeName, tags.keyword, tags.meta], color: "var(--green)" },
  { tag: [tags.punctuation, tags.separator, tags.squareBracket, tags.brace], color: "var(--text-soft)" },
  { tag: tags.invalid, color: "var(--red)" },
]));

const NOT_TEXT = /^(?:~|null|Null|NULL|true|True|TRUE|false|False|FALSE|[-+]?(?:\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN|[-+]?(?:\d+|\.\d+|\d+\.\d*)(?:[eE][-+]?\d+)?|0o[0-7]+|0x[0-9a-fA-F]+)$/;
const notText = Decoration.mark({ class: "cm-not-text" });

/** Numbers, true, false and null, as YAML 1.2 reads them: the colour shows which values are not text. */
const values = ViewPlugin.define((view) => ({
  decorations: found(view),
  /** @param {import("@codemirror/view").ViewUpdate} update */
  update(update) {
    if (update.docChanged || update.viewportChanged || syntaxTree(update.startState) !== syntaxTree(update.state)) this.decorations = found(update.view);
  },
}), { decorations: (plugin) => plugin.decorations });

/** @param {EditorView} view */
function found({ state, visibleRanges }) {
  /** @type {import("@codemirror/state").Range<Decoration>[]} */
  const marks = [];
  for (const { from, to } of visibleRanges) {
    syntaxTree(state).iterate({ from, to, enter: (node) => {
      if (node.name === "Key") return false;
      if (node.name === "Literal" && NOT_TEXT.test(state.sliceDoc(node.from, node.to))) marks.push(notText.range(node.from, node.to));
      return true;
    } });
  }
  return Decoration.set(marks, true);
}

/** For every CodeMirror on the pages. */
export const theme = [look, colours, values];
