// Why a job failed: the script's own words if there are any, and a plain sentence beside them. No DOM.

import { visible } from "../core/format.js";
import { has, t } from "../core/messages.js";

/** @typedef {{type: string, message: string}} JobError of a Job of the API */

/** @type {Record<string, string>} types of errors that the server writes, by their sentence; every other error is the script's own */
const BY_THE_SERVER = {
  // @ts-ignore: without a prototype, a type called `constructor` is none of them
  __proto__: null,
  signal: "signal", timed_out: "timed_out", cannot_start: "cannot_start", input_changed: "input_changed", no_result: "no_result", lost: "lost",
  cpu_time_exceeded: "limit", file_size_exceeded: "limit", too_many_processes: "limit", out_of_memory: "limit",
  too_many_results: "results", results_too_large: "results", results_not_stored: "results",
};

/** @param {JobError} error @returns {boolean} whether an executable left nothing that could be its reason */
const isSilent = ({ type, message }) => type === "exit_code" && /^exited with code \d+$/.test(message);

/** @param {JobError | null} error @returns {string} "" if the script said nothing */
export function wordsOf(error) {
  if (!error || error.type in BY_THE_SERVER || isSilent(error)) return "";
  return error.message.split("\n").map(visible).join("\n").trim();
}

/** @param {JobError | null} error @param {number | null} exitCode @returns {string} a sentence */
export function sentenceOf(error, exitCode) {
  if (!error) return t("job.failure.silent");
  const name = `job.failure.${BY_THE_SERVER[error.type] ?? ""}`;
  if (has(name)) return t(name, { message: visible(error.message) });
  const code = String(exitCode ?? "?");
  if (error.type === "exit_code") return t(isSilent(error) ? "job.failure.exit" : "job.failure.printed", { code });
  if (error.type === "SystemExit") return t("job.failure.stopped");
  return t("job.failure.raised", { type: visible(error.type) });
}
