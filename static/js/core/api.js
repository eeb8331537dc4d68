// Calls of the HTTP API: JSON in and out, problems as errors. No DOM.

import { api } from "./base.js";
import { t } from "./messages.js";
import { problemText } from "./problem.js";
import { needsSignIn, session } from "./session.js";

/** What the server says went wrong (application/problem+json), or that it could not be reached (status 0). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {Record<string, any>} body
   */
  constructor(status, body) {
    super(problemText(body) || t("core.answered", { status: String(status) }));
    this.status = status;
    this.body = body;
  }

  /** @param {number} status @param {string} text @returns {Problem} */
  static from(status, text) {
    try {
      return new Problem(status, JSON.parse(text));
    } catch {
      return new Problem(status, {});
    }
  }
}

/** @param {unknown} error caught @returns {string} a sentence */
export const reasonOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * Send a request. If the session has ended, it waits until the person has signed in again, and is sent once more.
 * @param {string} method
 * @param {string} path below /api/v1
 * @param {{body?: BodyInit, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>} an answer below 400
 * @throws {Problem}
 */
export async function call(method, path, options = {}) {
  for (;;) {
    const { signIns } = session;
    const response = await answerOf(method, path, options);
    if (response.ok) return response;
    const problem = Problem.from(response.status, await response.text());
    if (!needsSignIn(problem) || !(await session.again(signIns, options.signal))) throw problem;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{body?: BodyInit, headers?: Record<string, string>, signal?: AbortSignal}} options
 * @returns {Promise<Response>} whatever its status
 * @throws {Problem} the server cannot be reached
 */
async function answerOf(method, path, options) {
  try {
    return await fetch(`${api}${path}`, {
      method,
      body: options.body,
      signal: options.signal,
      headers: { Accept: "application/json", ...options.headers },
    });
  } catch {
    throw new Problem(0, { detail: t("core.unreachable") });
  }
}

/**
 * @param {string} method
 * @param {string} path below /api/v1
 * @param {any} [value] sent as JSON
 * @param {AbortSignal} [signal] ends the request
 * @returns {Promise<any>} the answer's JSON; null if it has no body
 * @throws {Problem}
 */
export async function callJson(method, path, value, signal) {
  const options = value === undefined
    ? { signal }
    : { signal, body: JSON.stringify(value), headers: { "Content-Type": "application/json" } };
  const text = await (await call(method, path, options)).text();
  return text ? JSON.parse(text) : null;
}

/**
 * Sign in; the answer's cookie is the session.
 * @param {{name: string, password: string, first?: string}} credentials `first`: the secret of the one-time link, which makes the
 *   first account
 * @returns {Promise<void>}
 * @throws {Problem}
 */
export async function signIn(credentials) {
  await callJson("POST", "/session", credentials);
}

/**
 * Every file of a submission, page after page.
 * @param {{id: string, files: any[], files_next: string | null}} submission with its first files
 * @returns {AsyncGenerator<any[]>} the pages behind the first
 */
export async function* furtherFiles(submission) {
  let next = submission.files_next;
  while (next) {
    const page = await callJson("GET", `/submissions/${submission.id}/files?limit=1000&before=${encodeURIComponent(next)}`);
    yield page.items;
    next = page.next;
  }
}
