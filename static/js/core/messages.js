// The texts that people read, in the page's language. The server embeds those that the page needs; web/messages.py describes
// their form, and reads the same catalogue for templates. No other module holds a sentence. Outside a browser,
// globalThis.messages holds what a page would embed. No DOM apart from that.

/** @typedef {string | Record<string, string | Record<string, string>>} Message */

/** @type {{language: string, areas: Record<string, Record<string, Message>>}} */
const embedded = JSON.parse(globalThis.document?.getElementById("messages")?.textContent ?? /** @type {any} */ (globalThis).messages);

/** The page's language (BCP 47), for `Intl`. */
export const { language } = embedded;

const plural = new Intl.PluralRules(language);
const ordinal = new Intl.PluralRules(language, { type: "ordinal" });
const whole = new Intl.NumberFormat(language);

/**
 * A message of the catalogue.
 * @param {string} name `area.key`
 * @param {Record<string, string | number>} [values] what stands in braces; numbers get separators; `n` chooses the plural form
 * @returns {string} the name itself if there is no such message
 */
export function t(name, values = {}) {
  const dot = name.indexOf(".");
  const message = embedded.areas[name.slice(0, dot)]?.[name.slice(dot + 1)];
  if (message === undefined) return name;
  return formOf(message, Number(values.n)).replace(/\{(\w+)\}/g, (braces, key) => {
    const value = values[key];
    return typeof value === "number" ? whole.format(value) : value ?? braces;
  });
}

/** @param {string} name @returns {boolean} whether there is such a message */
export const has = (name) => t(name) !== name;

/** @param {Message} message @param {number} n @returns {string} */
function formOf(message, n) {
  if (typeof message === "string") return message;
  const [forms, rules] = typeof message.ordinal === "object" ? [message.ordinal, ordinal] : [message, plural];
  const form = forms[rules.select(n)] ?? forms.other;
  return typeof form === "string" ? form : "";
}
