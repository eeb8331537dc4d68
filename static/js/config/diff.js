// A read-only diff of two texts: side by side where there is room, else unified.

import { EditorState, EditorView, MergeView, lineNumbers, unifiedMergeView, yaml } from "../../vendor/codemirror.js";
import { theme } from "./editor-theme.js";
import { t } from "../core/messages.js";

const SIDE_BY_SIDE_PX = 760; // narrower columns would wrap most lines
const COLLAPSE = { margin: 3, minSize: 6 };

/**
 * Fill a container with the diff. Its layout follows the container's width until the container leaves the page.
 * @param {HTMLElement} container emptied first
 * @param {{before: string, after: string, beforeLabel: string, afterLabel: string}} texts
 */
export function mountDiff(container, texts) {
  const before = texts.before.replace(/\r\n?/g, "\n");
  const after = texts.after.replace(/\r\n?/g, "\n");
  if (before === after) {
    const note = document.createElement("p");
    note.className = "diff-same";
    note.textContent = t(texts.before === texts.after ? "config.diff_same" : "config.diff_line_ends");
    container.replaceChildren(note);
    return;
  }
  const names = document.createElement("div");
  names.className = "diff-names";
  for (const [side, label] of [["before", texts.beforeLabel], ["after", texts.afterLabel]]) {
    const name = document.createElement("span");
    name.dataset.side = side;
    name.textContent = label;
    names.append(name);
  }
  const host = document.createElement("div");
  host.className = "diff-host";
  const root = host.attachShadow({ mode: "open" });
  container.replaceChildren(names, host);

  /** @type {{destroy(): void} | null} */
  let shown = null;
  let isWide = false;
  const observer = new ResizeObserver(() => {
    if (!host.isConnected) {
      observer.disconnect();
      shown?.destroy();
      return;
    }
    const width = host.clientWidth;
    if (width === 0 || (shown && isWide === width >= SIDE_BY_SIDE_PX)) return; // hidden, or the layout is right already
    isWide = width >= SIDE_BY_SIDE_PX;
    names.dataset.layout = isWide ? "wide" : "narrow";
    shown?.destroy();
    shown = isWide ? sideBySide(root) : unified(root);
  });
  observer.observe(host);

  /** @param {string} label */
  const reading = (label) => [
    EditorState.readOnly.of(true),
    EditorView.editable.of(false),
    EditorView.lineWrapping,
    EditorView.contentAttributes.of({ tabindex: "0", "aria-label": label }),
    lineNumbers(),
    yaml(),
    theme,
  ];

  /** @param {ShadowRoot} parent */
  function sideBySide(parent) {
    return new MergeView({
      a: { doc: before, extensions: reading(texts.beforeLabel) },
      b: { doc: after, extensions: reading(texts.afterLabel) },
      parent,
      root: parent,
      collapseUnchanged: COLLAPSE,
    });
  }

  /** @param {ShadowRoot} parent */
  function unified(parent) {
    const changes = unifiedMergeView({ original: before, mergeControls: false, collapseUnchanged: COLLAPSE });
    const state = EditorState.create({ doc: after, extensions: [reading(t("config.diff_compared", { after: texts.afterLabel, before: texts.beforeLabel })), changes] });
    return new EditorView({ state, parent, root: parent });
  }
}
