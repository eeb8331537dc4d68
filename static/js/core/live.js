// The WebSocket /api/v1/live: joins topics, resumes after a lost connection, delivers each event once. No DOM.

import { api } from "./base.js";

/** @typedef {{cursor: number, at: string, name: string, subject: Record<string, any>, data: Record<string, any>}} LiveEvent */
/** @typedef {"connecting" | "live" | "reconnecting" | "offline" | "refused"} Connection `offline`: the device says so */
/** @typedef {{topic: string, cursor: number, events: LiveEvent[]}} EventsMessage */
/** @typedef {{file_id: string, stage: "upload" | "process", value: number, total: number | null, label: string | null}} ProgressMessage */
/** @typedef {{job_id: string, attempt: number, offset: number, end: number, text: string}} OutputMessage */

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;
const SILENT_HEARTBEATS = 2.5; // a tick may be late; two missing ticks mean a dead connection
const FINAL_CODES = new Set([4400, 4401, 4403]); // a retry would get the same answer

/**
 * Dispatches CustomEvents: `connection` (Connection), `hello`, `snapshot`, `events` (EventsMessage), `progress`
 * (ProgressMessage), `sending` ({topic, file_ids}), `output` (OutputMessage), `refused` ({topic, error}).
 */
export class Live extends EventTarget {
  #url;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Map<string, {after: number | null, attempt?: number | null}>} joined topics, and the position read so far */
  #topics = new Map();
  /** @type {Map<number, string>} topic of each join without a reply yet, by message id */
  #asked = new Map();
  #nextId = 1;
  #failures = 0;
  #retry = 0;
  #watchdog = 0;
  #heartbeatMs = 15_000;
  /** @type {Connection} */
  connection = "connecting";

  /** @param {string} [url] */
  constructor(url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${api}/live`) {
    super();
    this.#url = url;
    addEventListener("online", () => this.#connectNow());
    addEventListener("pageshow", () => this.#connectNow());
    addEventListener("offline", () => {
      if (this.connection !== "refused") this.#setConnection("offline");
    });
  }

  /** Connect, and reconnect whenever the connection is lost. */
  start() {
    if (this.#socket) return;
    const socket = new WebSocket(this.#url, "dropmill.v1");
    this.#socket = socket;
    socket.addEventListener("message", (message) => this.#receive(message.data));
    socket.addEventListener("close", (close) => {
      if (this.#socket === socket) this.#closed(close.code);
    });
    this.#resetWatchdog();
  }

  /**
   * Follow a topic or an output stream.
   * @param {string} topic
   * @param {number | null} after cursor or byte offset; 0 is the beginning, null requests a snapshot
   */
  join(topic, after) {
    this.#topics.set(topic, { after });
    this.#sendJoin(topic);
  }

  /** @param {string} topic */
  leave(topic) {
    if (this.#topics.delete(topic)) this.#send({ type: "leave", id: this.#nextId++, topic });
  }

  /** @param {string} topic */
  #sendJoin(topic) {
    const id = this.#nextId++;
    const position = this.#topics.get(topic);
    /** @type {Record<string, any>} */
    const message = { type: "join", id, topic, after: position?.after ?? null };
    if (topic.startsWith("output:")) message.attempt = position?.attempt ?? null;
    if (this.#send(message)) this.#asked.set(id, topic);
  }

  /** @param {Record<string, any>} message @returns {boolean} false without an open connection */
  #send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** @param {string} text */
  #receive(text) {
    this.#resetWatchdog();
    const message = JSON.parse(text);
    if (this.connection === "offline") this.#setConnection("live"); // a server on this device needs no network
    switch (message.type) {
      case "hello":
        this.#failures = 0;
        this.#heartbeatMs = message.heartbeat * 1000;
        this.#resetWatchdog();
        this.#setConnection("live");
        this.#dispatch("hello", message);
        for (const topic of this.#topics.keys()) this.#sendJoin(topic);
        break;
      case "snapshot":
        this.#moveTo(message.topic, message.cursor);
        this.#dispatch("snapshot", message);
        break;
      case "events":
        this.#events(message);
        break;
      case "output":
        this.#output(message);
        break;
      case "gap":
        this.#sendJoin(message.topic);
        break;
      case "reply":
        this.#reply(message);
        break;
      case "progress":
      case "sending":
        this.#dispatch(message.type, message);
        break;
      default: // tick, and messages of later protocols
        break;
    }
  }

  /** @param {EventsMessage} message */
  #events(message) {
    const position = this.#topics.get(message.topic);
    if (!position) return; // the topic was left
    const after = position.after ?? 0;
    const events = message.events.filter((event) => event.cursor > after);
    this.#moveTo(message.topic, Math.max(after, message.cursor));
    if (events.length) this.#dispatch("events", { ...message, events });
  }

  /** @param {OutputMessage} message */
  #output(message) {
    const position = this.#topics.get(`output:${message.job_id}`);
    if (!position) return;
    const isSameAttempt = position.attempt === message.attempt;
    if (isSameAttempt && message.offset < (position.after ?? 0)) return; // received before the reconnect
    position.attempt = message.attempt;
    position.after = message.end;
    this.#dispatch("output", message);
  }

  /** @param {{re: number, ok: boolean, error: {code: string, detail: string} | null}} message */
  #reply(message) {
    const topic = this.#asked.get(message.re);
    this.#asked.delete(message.re);
    if (message.ok || topic === undefined) return;
    this.#topics.delete(topic);
    this.#dispatch("refused", { topic, error: message.error });
  }

  /** @param {string} topic @param {number} cursor */
  #moveTo(topic, cursor) {
    const position = this.#topics.get(topic);
    if (position) position.after = cursor;
  }

  /** @param {number} code */
  #closed(code) {
    this.#socket = null;
    this.#asked.clear();
    clearTimeout(this.#watchdog);
    if (FINAL_CODES.has(code)) {
      this.#setConnection("refused");
      return;
    }
    this.#setConnection(globalThis.navigator?.onLine === false ? "offline" : "reconnecting");
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures);
    this.#failures += 1;
    // Jitter: pages that lost the same server do not all reconnect at once.
    this.#retry = window.setTimeout(() => this.start(), longest * (0.5 + Math.random() / 2));
  }

  #connectNow() {
    if (this.connection === "offline" && this.#socket) { // of another network: it would take a minute to notice
      const socket = this.#socket;
      this.#closed(0);
      socket.close();
    } else if (this.connection !== "reconnecting" && this.connection !== "offline") return;
    clearTimeout(this.#retry);
    this.start();
  }

  #resetWatchdog() {
    clearTimeout(this.#watchdog);
    this.#watchdog = window.setTimeout(() => {
      const socket = this.#socket;
      this.#closed(0);
      socket?.close(); // its close event may come minutes later
    }, this.#heartbeatMs * SILENT_HEARTBEATS);
  }

  /** @param {Connection} connection */
  #setConnection(connection) {
    if (this.connection === connection) return;
    this.connection = connection;
    this.#dispatch("connection", connection);
  }

  /** @param {string} type @param {any} detail */
  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
