// Which events are lines of the live log, and their text: one line for each step. No DOM.

import { clientText, timeOfDay } from "../core/format.js";
import { t } from "../core/messages.js";
import { eventAbout, eventTone, eventWord } from "../core/words.js";

/** @typedef {import("../core/live.js").LiveEvent} LiveEvent */
/** @typedef {{key: string, at: string, name: string, tone: import("../core/words.js").Tone, time: string, word: string, about: string, client: string}} Line */

const SHORT_SENDING_BYTES = 8 * 1024 * 1024; // a smaller file is sent in one step

/** @param {LiveEvent} event @returns {boolean} whether it is a step of its own */
export function isStep({ name, data }) {
  if (name === "upload.started") return data.size === null || data.size > SHORT_SENDING_BYTES;
  if (name === "job.queued") return data.reason !== "stored"; // every stored file waits
  if (name === "job.settled") return data.duration === null; // else its attempt said so
  return true;
}

/**
 * @param {LiveEvent} event
 * @param {string} client of the submission, which needs no mention
 * @returns {Line}
 */
export function lineOf({ cursor, at, name, subject, data }, client) {
  const from = clientText(name === "client.identified" ? { ...subject.client, ...data } : subject.client);
  // Before its host name is looked up, the client is an address: in events, and in the head.
  const isOther = from !== client && !client.startsWith(`${from} `) && !from.startsWith(`${client} `);
  return {
    key: String(cursor), at, name, tone: eventTone(name, data), time: timeOfDay(at),
    word: eventWord(name, data),
    about: eventAbout({ name: name === "job.settled" ? `attempt.${data.error ? "failed" : "cancelled"}` : name, subject, data }),
    client: isOther ? from : "",
  };
}

/** @param {Line} line @returns {string} for the clipboard and for files: with the date, in UTC */
export const textOf = ({ at, word, about, client }) => [at, word, about, client && t("submission.log.from", { client })].filter(Boolean).join("  ");
