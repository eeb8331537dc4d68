// One value of the config as a field of the form: its label, its kind of control, what it shows, what was entered. No DOM.

import { visible } from "../core/format.js";

/** @typedef {{title?: string, description?: string, type?: string | string[], enum?: any[], minimum?: number, maximum?: number, exclusiveMinimum?: number, exclusiveMaximum?: number, multipleOf?: number, minLength?: number, maxLength?: number, pattern?: string, default?: any, examples?: any[], is_required?: boolean}} FieldSchema what the schema knows of a field */
/** @typedef {{path: string, key: string, kind: "text" | "integer" | "number" | "boolean" | "null" | "date" | "list" | "mapping", value: any, source: string | null, tag: string | null, is_multiline: boolean, is_secret: boolean, help: string | null, line: number, column: number, depth: number, refusal: string | null, can_add: boolean, can_remove: boolean, schema: FieldSchema | null, missing: {key: string, schema: FieldSchema | null}[]}} Field as the API gives it; path "" is the config itself */

/** @type {Record<string, string>} by the reason of the server */
const REFUSALS = {
  aliased: "It is used in several places (a YAML anchor); edit the text.",
  tagged: "It has a YAML tag; edit the text.",
  complex_key: "Its key is not a plain name; edit the text.",
  ambiguous_key: "Two keys here look the same; edit the text.",
  block_indicator: "It is a block with an indentation indicator; edit the text.",
  flow: "It is inside brackets on one line; edit the text.",
  only_child: "It is the only value here; edit the text.",
  not_exact: "It cannot be changed without changing the text around it; edit the text.",
};

/** @param {string} refusal why the server cannot edit the value @returns {string} */
export const refusalText = (refusal) => REFUSALS[refusal] ?? "It cannot be changed here; edit the text.";

/** A key as a token of a JSON Pointer (RFC 6901). @param {string} key */
export const token = (key) => key.replaceAll("~", "~0").replaceAll("/", "~1");

/** @param {string} path @returns {string} the path of the list or mapping around it */
export const parentOf = (path) => path.slice(0, path.lastIndexOf("/"));

/** @param {Field} field @param {boolean} isItem of a list, where the key is a number from 0 */
export function labelOf(field, isItem) {
  if (field.schema?.title) return field.schema.title;
  return isItem ? `${Number(field.key) + 1}.` : visible(field.key);
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

/** @param {string} entered @param {Field} field a number @returns {any} undefined if it is not a number of that kind */
export function enteredNumber(entered, field) {
  const text = entered.trim().replace(",", ".");
  if (text === shownValue(field)) return field.value;
  const number = Number(text);
  const isWhole = field.kind !== "integer" || Number.isSafeInteger(number) || field.schema?.type === "number";
  return text === "" || !Number.isFinite(number) || !isWhole ? undefined : number;
}
