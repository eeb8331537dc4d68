// One value of the config as a field of the form: its label, its kind of control, what it shows, what was entered. No DOM.

import { visible } from "../core/format.js";
import { has, t } from "../core/messages.js";

/** @typedef {{title?: string, description?: string, type?: string | string[], enum?: any[], minimum?: number, maximum?: number, exclusiveMinimum?: number, exclusiveMaximum?: number, multipleOf?: number, minLength?: number, maxLength?: number, pattern?: string, default?: any, examples?: any[], is_required?: boolean}} FieldSchema what the schema knows of a field */
/** @typedef {{path: string, key: string, kind: "text" | "integer" | "number" | "boolean" | "null" | "date" | "list" | "mapping", value: any, source: string | null, tag: string | null, is_multiline: boolean, is_secret: boolean, help: string | null, line: number, column: number, depth: number, refusal: string | null, can_add: boolean, can_remove: boolean, schema: FieldSchema | null, missing: {key: string, schema: FieldSchema | null}[]}} Field as the API gives it; path "" is the config itself */

/** @param {string} refusal why the server cannot edit the value @returns {string} */
export const refusalText = (refusal) => t(has(`config.refusal.${refusal}`) ? `config.refusal.${refusal}` : "config.refusal.other");

/** A key as a token of a JSON Pointer (RFC 6901). @param {string} key */
export const token = (key) => key.replaceAll("~", "~0").replaceAll("/", "~1");

/** @param {string} path @returns {string} the path of the list or mapping around it */
export const parentOf = (path) => path.slice(0, path.lastIndexOf("/"));

/** @param {Field} field @param {boolean} isItem of a list, where the key is a number from 0 */
export function labelOf(field, isItem) {
  if (field.schema?.title) return field.schema.title;
  return isItem ? `${Number(field.key) + 1}.` : visible(field.key);
}

const TO_EDITORS = /^(?:yaml-language-server:|vim?:|-\*-)/; // comments that are not for people
const DECORATION = /[-=*#~_+]{3,}/; // rulers, and headings in them; the server leaves them out, too

/** @param {string} text a config with "\n" @returns {string} the comment at its beginning, on one line; "" without one */
export function headerOf(text) {
  const lines = text.split("\n");
  const end = lines.findIndex((line) => !line.startsWith("#"));
  const said = lines.slice(0, end === -1 ? lines.length : end).map((line) => line.replace(/^#+/, "").trim());
  return said.filter((line) => line && !DECORATION.test(line) && !TO_EDITORS.test(line)).join(" ");
}

/**
 * What is known about a value, for people.
 * @param {Field} field
 * @param {string} header the comment at the beginning of the text, which the form shows once at its top
 * @returns {{kind: "schema" | "comment", text: string}[]}
 */
export function notesOf(field, header) {
  const comments = (field.help ?? "").split("\n\n").map((text) => text.replace(/\s+/g, " ").trim());
  const description = field.schema?.description?.replaceAll("\n", " ") ?? "";
  return [
    { kind: /** @type {const} */ ("schema"), text: description },
    ...comments.filter((text) => text !== header).map((text) => ({ kind: /** @type {const} */ ("comment"), text })),
  ].filter(({ text }) => text !== "");
}

/** @param {FieldSchema | null} schema @returns {any} the first value of a new setting */
export function firstValue(schema) {
  if (schema?.default !== undefined) return schema.default;
  if (schema?.enum?.length) return schema.enum[0];
  const type = Array.isArray(schema?.type) ? schema.type[0] : schema?.type;
  if (type === "integer" || type === "number") return schema?.minimum ?? 0;
  if (type === "boolean") return false;
  if (type === "null") return null;
  if (type === "array") return [];
  if (type === "object") return {};
  return schema?.examples?.[0] ?? "";
}

/** @param {Field} field @returns {"select" | "switch" | "number" | "area" | "input"} */
export function controlKind(field) {
  const { schema, kind } = field;
  if (schema?.enum) return "select";
  if (kind === "boolean") return "switch";
  if (kind === "integer" || kind === "number") return "number";
  return field.is_multiline ? "area" : "input";
}

/** @param {Field} field @returns {string} numbers and dates as written in the text: 1e3, 0x1F, digits beyond a double */
export const shownValue = (field) => (field.kind === "null" ? "" : field.source) ?? (field.value === null ? "" : String(field.value));

const WHOLE = /^[-+]?\d+$/;
const OTHER_NOTATION = /^[-+]?(?:0x[\da-f]+|0o[0-7]+|\d+e\+?\d+)$/i; // 0x1F, 1e3
const THOUSANDS = /^([-+]?\d{1,3})((?:[., '\u00a0\u2009\u202f’]\d{3})+)$/; // 1,000 and 1.000.000
const COMMA = /^([-+]?\d*),(\d+)$/;

/**
 * @param {string} entered
 * @param {Field} field a number
 * @returns {{value: any} | {problem: string}} problem: a sentence; it is not a number of that kind, or people read it in two ways
 */
export function enteredNumber(entered, field) {
  const text = entered.trim();
  if (text === shownValue(field)) return { value: field.value };
  if (text === "") return { problem: t("config.number.missing") };
  const shown = { text: visible(text) };
  const isWhole = field.kind === "integer" && field.schema?.type !== "number";
  const thousands = THOUSANDS.exec(text);
  if (thousands) {
    const [, first, rest] = thousands;
    const isOne = rest.length === 4;
    const whole = first + rest.replace(/\D/g, "");
    if (isWhole || !isOne || !/[.,]/.test(rest)) return { problem: t("config.number.separators", shown) };
    if (rest.startsWith(",")) return { problem: t("config.number.ambiguous", { ...shown, whole, fraction: `${first}.${rest.slice(1)}` }) };
  }
  if (isWhole && !WHOLE.test(text) && !OTHER_NOTATION.test(text)) {
    return { problem: t(Number.isNaN(Number(text.replace(COMMA, "$1.$2"))) ? "config.number.none" : "config.number.not_whole", shown) };
  }
  const number = Number(text.replace(COMMA, "$1.$2"));
  if (!Number.isFinite(number)) return { problem: t("config.number.none", shown) };
  if (field.kind === "integer" && Number.isInteger(number) && !Number.isSafeInteger(number)) return { problem: t("config.number.too_long", shown) };
  return { value: number };
}
