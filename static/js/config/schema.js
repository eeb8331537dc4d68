// Completion and hover from the config's JSON Schema: the keys and values to choose from, and what a key means. Text from
// the schema is shown as text only. The server validates; this module does not.

import { hoverTooltip, startCompletion, syntaxTree, yamlLanguage } from "../../vendor/codemirror.js";
import { visible } from "../core/format.js";
import { has, t } from "../core/messages.js";

/** @typedef {Record<string, any>} Schema a JSON Schema that is an object */
/** @typedef {import("@lezer/common").SyntaxNode} SyntaxNode */
/** @typedef {(string | number)[]} Path keys, and indexes of lists */

const WORD = /[\w./-]*$/; // the text that a completion replaces
const KEY_BEFORE = /^\s*(?:- +)*$|[{,]\s*$/; // the text before a key being typed
const VALUE_BEFORE = /(?::|-|\[|,)\s+$|\[$/;
const PLAIN = /^[a-z_/][\w ./-]*(?<! )$/i;
const NOT_TEXT = /^(?:true|false|null|yes|no|on|off|y|n|~)$/i; // some YAML readers take these for something other than text
const PROBE = "x";
const TIP_PX = 320; // the width below which a tip would wrap too often
const TIP_GAP_PX = 16;
const LIMITS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"];

/**
 * @param {any} root the parsed `config.schema.json`
 * @returns {import("@codemirror/state").Extension} completion and hover by it
 */
export function schemaSupport(root) {
  const schemas = new Schemas(root);
  return [
    yamlLanguage.data.of({ autocomplete: (/** @type {import("@codemirror/autocomplete").CompletionContext} */ context) => complete(schemas, context) }),
    hoverTooltip((view, position, side) => {
      const pair = pairAt(syntaxTree(view.state).resolveInner(position, side));
      const key = pair?.getChild("Key");
      if (!pair || !key) return null;
      const text = (/** @type {SyntaxNode} */ { from, to }) => view.state.sliceDoc(from, to);
      const path = [...pathOf(pair, text), keyText(text(key))];
      const about = schemas.about(path);
      return about && { pos: key.from, end: key.to, create: () => ({ dom: aboutElement(about), getCoords: (at) => besideLine(view, at) }) };
    }),
  ];
}

/**
 * Where a tip is shown: behind the text of its line if there is room, else below; above it would cover the line read last.
 * @param {import("@codemirror/view").EditorView} view @param {number} at
 * @returns {import("@codemirror/view").Rect}
 */
function besideLine(view, at) {
  const { left, right, top, bottom } = view.coordsAtPos(at) ?? { left: 0, right: 0, top: 0, bottom: 0 };
  const end = view.coordsAtPos(view.state.doc.lineAt(at).to);
  if (!end || end.top !== top || end.right + TIP_PX > view.dom.getBoundingClientRect().right) return { left, right, top, bottom };
  return { left: end.right + TIP_GAP_PX, right: end.right + TIP_GAP_PX, top, bottom: top };
}

// --- what the schema says ---------------------------------------------------------------------------------------------

/** @typedef {{title: string, description: string, kind: string, isMany: boolean, isRequired: boolean, facts: string[]}} About `isMany`: a list or a mapping */

/** @type {About} */
const NOTHING = { title: "", description: "", kind: "", isMany: false, isRequired: false, facts: [] };

export class Schemas {
  #root;

  /** @param {any} root */
  constructor(root) {
    this.#root = root;
  }

  /** @param {Path} path @returns {Schema[]} all schemas that apply to that path */
  at(path) {
    let found = this.#applying([this.#root]);
    for (const step of path) found = this.#applying(found.flatMap((schema) => below(schema, step)));
    return found;
  }

  /** @param {Path} path @returns {Map<string, About>} the keys that a mapping at that path may have */
  keys(path) {
    const names = this.at(path).flatMap((schema) => Object.keys(object(schema.properties)));
    return new Map(names.map((name) => [name, this.about([...path, name]) ?? NOTHING]));
  }

  /** @param {Path} path @returns {any[]} values to choose from at that path */
  values(path) {
    const found = this.at(path).flatMap((schema) => [
      ...("default" in schema ? [schema.default] : []),
      ...list(schema.enum),
      ...("const" in schema ? [schema.const] : []),
      ...(list([schema.type].flat()).includes("boolean") ? [true, false] : []),
      ...list(schema.examples),
    ]);
    return [...new Map(found.map((value) => [JSON.stringify(value), value])).values()];
  }

  /** @param {Path} path @returns {About | null} null: the schema says nothing about it */
  about(path) {
    const found = this.at(path);
    if (found.length === 0) return null;
    const first = (/** @type {string} */ word) => found.map((schema) => schema[word]).find((value) => value !== undefined);
    const text = (/** @type {unknown} */ value) => (typeof value === "string" ? visible(value.replaceAll("\n", " ")) : "");
    const types = [...new Set(found.flatMap(({ type }) => list([type].flat())))];
    const isRequired = this.at(path.slice(0, -1)).some((schema) => list(schema.required).includes(path.at(-1)));
    const choices = list(first("enum")).map(yamlText).join(", ");
    const words = types.filter((type) => has(`config.schema.${type}`)).map((type) => t(`config.schema.${type}`));
    const kind = words.length ? words.reduce((one, other) => t("config.schema.either", { one, other })) : "";
    const facts = [
      kind,
      isRequired ? t("config.schema.required") : "",
      choices && t("config.schema.one_of", { values: choices.length > 200 ? `${choices.slice(0, 200)}…` : choices }),
      ...LIMITS.map((word) => (typeof first(word) === "number" ? t(`config.schema.${word}`, { value: String(first(word)) }) : "")),
      typeof first("pattern") === "string" ? t("config.schema.pattern", { value: visible(first("pattern")) }) : "",
      first("default") === undefined ? "" : t("config.schema.default", { value: yamlText(first("default")) }),
      first("deprecated") === true ? t("config.schema.deprecated") : "",
    ].filter(Boolean);
    const isMany = types.includes("array") || types.includes("object");
    const about = { title: text(first("title")), description: text(first("description")), kind, isMany, isRequired, facts };
    return about.title || about.description || facts.length ? about : null;
  }

  /** @param {any[]} schemas @returns {Schema[]} with the schemas that they refer to or combine */
  #applying(schemas) {
    const found = new Set();
    const waiting = [...schemas];
    for (let schema = waiting.shift(); schema !== undefined; schema = waiting.shift()) {
      if (object(schema) !== schema || found.has(schema)) continue; // `true` allows anything; references may be circular
      found.add(schema);
      if (typeof schema.$ref === "string") waiting.push(this.#target(schema.$ref));
      for (const word of ["allOf", "anyOf", "oneOf"]) waiting.push(...list(schema[word]));
      waiting.push(schema.then ?? true, schema.else ?? true);
    }
    return [...found];
  }

  /** @param {string} reference "#/..." @returns {any} true, which allows anything, if it is not in this schema */
  #target(reference) {
    let found = this.#root;
    try {
      for (const token of decodeURIComponent(reference).split("/").slice(1)) {
        found = found?.[token.replaceAll("~1", "/").replaceAll("~0", "~")];
      }
    } catch {
      return true; // not a URI
    }
    return reference.startsWith("#") ? found ?? true : true;
  }
}

/** @param {Schema} schema @param {string | number} step @returns {any[]} the schemas of that member */
function below(schema, step) {
  if (typeof step === "number") return [list(schema.prefixItems)[step] ?? schema.items ?? true];
  const own = Object.entries(object(schema.properties)).filter(([name]) => name === step);
  const patterns = Object.entries(object(schema.patternProperties)).filter(([pattern]) => matches(pattern, step));
  const found = [...own, ...patterns].map(([, member]) => member);
  return found.length ? found : [schema.additionalProperties ?? true];
}

/** @param {string} pattern @param {string} text */
function matches(pattern, text) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return false; // a regular expression of another language
  }
}

/** @param {any} value @returns {Record<string, any>} itself, or {} for anything but an object */
const object = (value) => (typeof value === "object" && value !== null && !Array.isArray(value) ? value : {});

/** @param {any} value @returns {any[]} itself, or [] for anything but an array */
const list = (value) => (Array.isArray(value) ? value : []);

/** @param {any} value @returns {string} as YAML on one line */
function yamlText(value) {
  if (typeof value === "string" && PLAIN.test(value) && !NOT_TEXT.test(value)) return value;
  return JSON.stringify(value) ?? "";
}

// --- where in the text ------------------------------------------------------------------------------------------------

/** @param {SyntaxNode | null} node @returns {SyntaxNode | null} the pair whose key or scalar value it is */
function pairAt(node) {
  while (node && node.name !== "Pair") {
    if (/^(?:Block|Flow)(?:Mapping|Sequence)$/.test(node.name)) return null;
    node = node.parent;
  }
  return node;
}

/** @param {SyntaxNode} node @param {(node: SyntaxNode) => string} text @returns {Path} of the collection around it, or of the pair whose value it is */
function pathOf(node, text) {
  /** @type {Path} */
  const path = [];
  for (let child = node, parent = node.parent; parent; child = parent, parent = parent.parent) {
    const key = parent.name === "Pair" ? parent.getChild("Key") : null;
    if (key && child.name !== "Key") path.unshift(keyText(text(key)));
    if (child.name === "Item") path.unshift(parent.getChildren("Item").findIndex(({ from }) => from === child.from));
  }
  return path;
}

/** @param {string} text a key as written in the config */
function keyText(text) {
  if (text.startsWith("'")) return text.slice(1, -1).replaceAll("''", "'");
  try {
    return text.startsWith('"') ? String(JSON.parse(text)) : text;
  } catch {
    return text.slice(1, -1); // an escape that only YAML has
  }
}

// --- completion -------------------------------------------------------------------------------------------------------

/**
 * @param {Schemas} schemas
 * @param {import("@codemirror/autocomplete").CompletionContext} context
 * @returns {import("@codemirror/autocomplete").CompletionResult | null}
 */
export function complete(schemas, { state, pos, explicit }) {
  if (/Comment|QuotedLiteral|BlockLiteral/.test(syntaxTree(state).resolveInner(pos, -1).name)) return null;
  const line = state.doc.lineAt(pos);
  const word = WORD.exec(line.text.slice(0, pos - line.from))?.[0] ?? "";
  if (word === "" && !explicit) return null;
  const from = pos - word.length;
  const before = line.text.slice(0, from - line.from);
  const rest = /^[\w./-]*(\s*:)?/.exec(line.text.slice(pos - line.from));
  const hasColon = rest?.[1] !== undefined;
  const end = pos + (rest?.[0].length ?? 0);

  /** @param {string} probe @returns {{node: SyntaxNode, text: (node: SyntaxNode) => string}} the node at the cursor if the probe were typed there */
  const withProbe = (probe) => {
    const whole = state.sliceDoc(0, from) + probe + state.sliceDoc(end);
    return { node: yamlLanguage.parser.parse(whole).resolveInner(from, 1), text: (node) => whole.slice(node.from, node.to) };
  };
  /** @type {import("@codemirror/autocomplete").Completion[]} */
  const options = [];
  if (KEY_BEFORE.test(before)) {
    const { node, text } = withProbe(`${PROBE}: ${PROBE}`);
    const pair = pairAt(node);
    if (pair?.parent) {
      const others = pair.parent.getChildren("Pair").filter((other) => other.from !== pair.from)
        .map((other) => keyText(text(other.getChild("Key") ?? other)));
      const path = pathOf(pair, text);
      options.push(...keyOptions(schemas.keys(path), others, hasColon));
    }
  }
  if (VALUE_BEFORE.test(before) && !hasColon) {
    const { node, text } = withProbe(PROBE);
    options.push(...schemas.values(pathOf(node, text)).map((value) => ({ label: yamlText(value) })));
  }
  options.forEach((option, index) => { option.boost = Math.max(99 - index, -99); }); // in the schema's order, not alphabetically
  return options.length ? { from, options, validFor: /^[\w./-]*$/ } : null;
}

/**
 * @param {Map<string, About>} keys @param {string[]} others keys that the mapping has already @param {boolean} hasColon
 * @returns {import("@codemirror/autocomplete").Completion[]}
 */
function keyOptions(keys, others, hasColon) {
  return [...keys].filter(([name]) => !others.includes(name)).map(([name, about]) => {
    const insert = hasColon ? yamlText(name) : `${yamlText(name)}:${about.isMany ? "" : " "}`;
    return {
      label: name,
      detail: [about.kind, about.isRequired ? t("config.schema.required") : ""].filter(Boolean).join(", "),
      info: () => aboutElement(about),
      apply: (view, _, from, to) => {
        view.dispatch({ changes: { from, to, insert }, selection: { anchor: from + insert.length }, userEvent: "input.complete" });
        if (insert.endsWith(" ")) startCompletion(view); // offers the values, if there are any
      },
    };
  });
}

/** @param {About} about @returns {HTMLElement} */
function aboutElement({ title, description, facts }) {
  const element = document.createElement("div");
  element.className = "cm-schema";
  for (const [name, text] of [["title", title], ["description", description], ["facts", facts.join(" · ")]]) {
    if (!text) continue;
    const line = document.createElement(name === "title" ? "b" : "p");
    line.className = `cm-schema-${name}`;
    line.textContent = text;
    element.append(line);
  }
  return element;
}
