// Labels, colours and icons of states and events. No DOM.

import { exitText, visible } from "./format.js";
import { has, t } from "./messages.js";

/** @typedef {import("../submission/model.js").Entry} Entry */
/** @typedef {"quiet" | "sending" | "working" | "good" | "bad"} Tone colour of a state; its label is always beside it */

/** @type {Record<string, {tone: Tone, icon: string}>} */
export const LOOKS = {
  announced: { tone: "quiet", icon: "up" },
  receiving: { tone: "sending", icon: "up" },
  stored: { tone: "quiet", icon: "clock" },
  arrived: { tone: "good", icon: "check" },
  aborted: { tone: "bad", icon: "stop" },
  given_up: { tone: "quiet", icon: "stop" },
  paused: { tone: "quiet", icon: "pause" },
  retrying: { tone: "working", icon: "clock" },
  refused: { tone: "bad", icon: "alert" },
  broken: { tone: "working", icon: "pause" },
  queued: { tone: "quiet", icon: "clock" },
  running: { tone: "working", icon: "play" },
  succeeded: { tone: "good", icon: "check" },
  failed: { tone: "bad", icon: "alert" },
  cancelled: { tone: "quiet", icon: "stop" },
  lost: { tone: "bad", icon: "alert" },
};

/** @type {Record<string, Tone>} */
const EVENT_TONES = {
  "upload.aborted": "bad",
  "attempt.started": "working",
  "attempt.succeeded": "good",
  "attempt.failed": "bad",
  "attempt.lost": "bad",
  "config.rejected": "bad",
  "config.saved": "good",
  "submission.settled": "good",
};

/** @type {Set<string | null>} states of this page's sending that say more than the upload's state */
const HELD = new Set(["paused", "retrying", "refused"]);

/** @param {Entry} entry @returns {string} the one state that a file is in, upload and job together */
export function stateOf({ job, sending, upload, cause, received, isBroken, isStalled, endsStored }) {
  if (job) return job.state;
  if (upload === "stored" && endsStored) return "arrived";
  if (sending === null && upload === "aborted" && cause === "cancelled") return "given_up";
  if (sending === null) return isBroken ? "broken" : upload;
  if (upload === "stored") return upload;
  if (isStalled) return "retrying";
  if (HELD.has(sending)) return sending;
  if (sending !== "waiting" && received > 0) return "receiving";
  return upload === "aborted" ? "announced" : upload; // it is about to be announced again
}

/** @param {"state" | "event" | "part" | "cause"} kind @param {string} name @returns {string} an unknown one is its own label */
export const label = (kind, name) => (has(`core.${kind}.${name}`) ? t(`core.${kind}.${name}`) : name);

/** @param {string} state */
export const stateWord = (state) => label("state", state);

/** @param {string} state */
export const stateLook = (state) => LOOKS[state] ?? { tone: "quiet", icon: "clock" };

/** @param {string} name of an event @param {Record<string, any>} data @returns {string} */
export function eventWord(name, data) {
  if (name === "job.settled") return stateWord(data.state).toLowerCase();
  return isGivenUp(name, data) ? stateWord("given_up").toLowerCase() : label("event", name);
}

/** @param {string} name of an event @param {Record<string, any>} data */
const isGivenUp = (name, data) => name === "upload.aborted" && data.cause === "cancelled";

/** @param {string} name of an event @param {Record<string, any>} data @returns {Tone} */
export function eventTone(name, data) {
  if (name === "job.settled") return stateLook(data.state).tone;
  const isNoFailure = isGivenUp(name, data) || data.cause === "replaced";
  return isNoFailure ? "quiet" : EVENT_TONES[name] ?? "quiet";
}

/**
 * @param {Pick<import("./live.js").LiveEvent, "name" | "subject" | "data">} event
 * @returns {string} what the event is about, for its line in the log: mostly the file's name
 */
export function eventAbout({ name, subject, data }) {
  const file = subject.name ? visible(subject.name) : "";
  switch (name) {
    case "upload.aborted":
      return isGivenUp(name, data) ? file : `${file}: ${data.cause ? label("cause", data.cause) : data.reason}`;
    case "attempt.failed":
      return `${file}: ${data.error ? visible(data.error.message) : exitText(data.exit_code)}`;
    case "job.settled":
      return `${file}: ${stateWord(data.state).toLowerCase()}`;
    case "job.queued":
      return has(`core.queued.${data.reason}`) ? `${file}: ${t(`core.queued.${data.reason}`)}` : file; // unless it is its first time
    case "client.identified":
      return [subject.client?.ip, hostOf(data)].filter(Boolean).join(" ");
    case "job.cancel_requested":
    case "job.retry_requested":
      return file || t("core.about.submission");
    case "submission.opened":
    case "submission.sealed":
    case "submission.settled":
      return t("core.about.submission");
    default:
      return file;
  }
}

/** @param {Record<string, any>} data of `client.identified` @returns {string} */
function hostOf({ host, verified }) {
  if (!host) return t("core.about.no_host");
  return verified ? host : t("core.about.not_confirmed", { host });
}
