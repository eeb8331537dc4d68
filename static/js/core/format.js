// Numbers, sizes, times and names as text for people, in the page's language. No DOM.

import { language, t } from "./messages.js";

const UNITS = ["", "KiB", "MiB", "GiB", "TiB", "PiB"];
const whole = new Intl.NumberFormat(language);
const short = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
const oneDigit = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(language, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 1, hourCycle: "h23",
});
const clockSeconds = new Intl.DateTimeFormat(language, { timeStyle: "medium", hourCycle: "h23" });
const clockMinutes = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dateTime = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });
const dateTimeSeconds = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
/** @param {number} n */
export const count = (n) => whole.format(n);

/** @param {number} n @param {string} one @param {string} [many] */
export const counted = (n, one, many = `${one}s`) => `${whole.format(n)} ${n === 1 ? one : many}`;

/** @param {number} fraction 0 to 1; rounded down: 100 % only for 1 */
export const percent = (fraction) => t("core.percent", { n: fraction < 1 ? Math.floor(fraction * 100) : 100 });

/** @param {number} size in bytes; binary units */
export function bytes(size) {
  let value = size;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit === 0) return t("core.bytes", { n: size });
  return `${value >= 1000 ? whole.format(Math.round(value)) : short.format(value)} ${UNITS[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 0.1) return t("core.milliseconds", { n: Math.max(1, Math.round(seconds * 1000)) });
  if (seconds < 10) return t("core.seconds", { n: oneDigit.format(seconds) });
  const rounded = Math.round(seconds);
  if (rounded < 60) return t("core.seconds", { n: rounded });
  if (rounded < 3600) return t("core.minutes", { minutes: Math.floor(rounded / 60), seconds: rounded % 60 });
  return t("core.hours", { hours: Math.floor(rounded / 3600), minutes: Math.floor((rounded % 3600) / 60) });
}

/** @param {number} seconds that keep counting, so in whole seconds */
export const elapsed = (seconds) => (seconds < 60 ? t("core.seconds", { n: Math.floor(seconds) }) : duration(Math.floor(seconds)));

/** @param {number} seconds an estimate, so rounded */
export function roughly(seconds) {
  if (seconds < 10) return t("core.left_soon");
  if (seconds < 90) return t("core.left_seconds", { n: Math.round(seconds / 10) * 10 });
  if (seconds < 5400) return t("core.left_minutes", { n: Math.round(seconds / 60) });
  return t("core.left_hours", { n: Math.round(seconds / 3600) });
}

/** @param {string} iso RFC 3339 @returns {string} local time of day to a tenth of a second */
export const timeOfDay = (iso) => clock.format(new Date(iso));

/** @param {number} ms since 1970 @returns {string} local time, to the minute */
export const timeOfMinute = (ms) => clockMinutes.format(ms);

/** @param {string} iso RFC 3339 @returns {string} local time of day to a second */
export const timeOfSecond = (iso) => clockSeconds.format(new Date(iso));

/** @param {string} iso RFC 3339 */
export const localDateTime = (iso) => dateTime.format(new Date(iso));

/** @param {string} iso RFC 3339 */
export const localDateTimeSeconds = (iso) => dateTimeSeconds.format(new Date(iso));

const AGO_UNITS = /** @type {const} */ ([["day", 86_400], ["hour", 3600], ["minute", 60]]);
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });

/** @param {string} iso RFC 3339 @returns {string} how long ago that was; "just now" also for a time slightly in the future, as clocks differ */
export function ago(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  const found = AGO_UNITS.find(([, length]) => seconds >= length);
  return found ? relative.format(-Math.floor(seconds / found[1]), found[0]) : t("core.just_now");
}

/** @param {string} iso RFC 3339 @returns {string} the same time in UTC, for a tooltip */
export const exactTime = (iso) => `${new Date(iso).toISOString().replace("T", " ").replace("Z", "")} UTC`;

/** @param {number} exitCode of a process; -n is signal n */
export const exitText = (exitCode) => (exitCode < 0 ? t("core.signal", { number: -exitCode }) : t("core.exit", { code: exitCode }));

/** @param {number} position in the queue, 1 is next */
export const queuePosition = (position) => (position === 1 ? t("core.queue.next") : t("core.queue.position", { n: position }));

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
