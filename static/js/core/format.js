// Numbers, sizes, times and names as text for people. No DOM.

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
const whole = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const oneDigit = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 1, hourCycle: "h23",
});
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const ORDINALS = ["next", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];
const ordinal = new Intl.PluralRules("en", { type: "ordinal" });
/** @type {Partial<Record<Intl.LDMLPluralRule, string>>} */
const SUFFIXES = { one: "st", two: "nd", few: "rd" };

/** @param {number} n */
export const count = (n) => whole.format(n);

/** @param {number} n @param {string} one @param {string} [many] */
export const counted = (n, one, many = `${one}s`) => `${whole.format(n)} ${n === 1 ? one : many}`;

/** @param {number} fraction 0 to 1; rounded down: 100 % only for 1 */
export const percent = (fraction) => `${whole.format(fraction < 1 ? Math.floor(fraction * 100) : 100)} %`;

/** @param {number} size in bytes; binary units */
export function bytes(size) {
  let value = size;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit === 0) return counted(size, "byte");
  return `${value >= 1000 ? whole.format(Math.round(value)) : short.format(value)} ${UNITS[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 0.1) return `${whole.format(Math.max(1, Math.round(seconds * 1000)))} ms`;
  if (seconds < 10) return `${oneDigit.format(seconds)} s`;
  const rounded = Math.round(seconds);
  if (rounded < 60) return `${rounded} s`;
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min ${rounded % 60} s`;
  return `${Math.floor(rounded / 3600)} h ${Math.floor((rounded % 3600) / 60)} min`;
}

/** @param {number} seconds that keep counting, so in whole seconds */
export const elapsed = (seconds) => (seconds < 60 ? `${Math.floor(seconds)} s` : duration(Math.floor(seconds)));

/** @param {number} seconds an estimate, so rounded */
export function roughly(seconds) {
  if (seconds < 10) return "a few seconds left";
  if (seconds < 90) return `about ${Math.round(seconds / 10) * 10} s left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${Math.round(seconds / 3600)} h left`;
}

/** @param {string} iso RFC 3339 @returns {string} local time of day to a tenth of a second */
export const timeOfDay = (iso) => clock.format(new Date(iso));

/** @param {string} iso RFC 3339 */
export const localDateTime = (iso) => dateTime.format(new Date(iso));

const AGO_UNITS = /** @type {const} */ ([["day", 86_400], ["hour", 3600], ["minute", 60]]);
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

/** @param {string} iso RFC 3339 @returns {string} how long ago that was; "just now" also for a time slightly in the future, as clocks differ */
export function ago(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  const found = AGO_UNITS.find(([, length]) => seconds >= length);
  return found ? relative.format(-Math.floor(seconds / found[1]), found[0]) : "just now";
}

/** @param {string} iso RFC 3339 @returns {string} the same time in UTC, for a tooltip */
export const exactTime = (iso) => `${new Date(iso).toISOString().replace("T", " ").replace("Z", "")} UTC`;

/** @param {number} exitCode of a process; -n is signal n */
export const exitText = (exitCode) => (exitCode < 0 ? `signal ${-exitCode}` : `exit ${exitCode}`);

/** @param {number} position in the queue, 1 is next */
export const queuePosition = (position) =>
  `${ORDINALS[position - 1] ?? whole.format(position) + (SUFFIXES[ordinal.select(position)] ?? "th")} in the queue`;

/**
 * Make invisible characters of a client's text visible: control characters, and those that reverse or hide text.
 * Same as `visible_text` of the server's templates.
 * @param {string} text
 */
export function visible(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  });
}

/**
 * @param {{ip: string, host?: string | null} | null | undefined} client
 * @returns {string} the address, with its host name if known
 */
export const clientText = (client) => (client ? [client.ip, client.host].filter(Boolean).join(" ") : "");
