// What happens on the server, as it happens: a page joins topics, and each event comes once, over the socket or by polls. This
// module keeps one of them going and says how that stands; `transport.js` has the rules. No DOM.

import { api, version } from "./base.js";
import { Positions } from "./positions.js";
import { session } from "./session.js";
import { LiveSocket } from "./socket.js";
import { Choice } from "./transport.js";

/** @typedef {import("./positions.js").LiveEvent} LiveEvent */
/** @typedef {import("./positions.js").Message} Message */
/** @typedef {import("./positions.js").Join} Join */
/** @typedef {import("./socket.js").End} End */
/** @typedef {{code: string, detail: string | null}} LiveError */
/**
 * @typedef {"connecting" | "live" | "polling" | "reconnecting" | "offline" | "signed_out" | "refused"} Connection
 *   `offline`: the device says so; `signed_out`: the person has to sign in again; `refused`: the server refuses all of it, for good
 */
/** @typedef {{topic: string, cursor: number, events: LiveEvent[]}} EventsMessage */
/** @typedef {{file_id: string, stage: "upload" | "process", value: number, total: number | null, label: string | null}} ProgressMessage */
/** @typedef {{job_id: string, attempt: number, offset: number, end: number, text: string}} OutputMessage */
/** @typedef {{id: string, text: string, expires_at: string}} NoticeMessage */
/** @typedef {{topic: string, watching: number, names: string[] | null, editing: boolean}} PresenceMessage */
/** @typedef {{start: () => void, stop: () => void, changed: () => void, editing: (isDirty: boolean) => void}} Polls */

const SIGN_IN = 401;
const EDITING_MS = 30_000; // without a socket the server believes it for 60 s
const PASSING = new Set(["unavailable", "storage_unavailable", "out_of_space", "too_many_connections"]); // of refused joins

/**
 * Dispatches CustomEvents: `connection` (Connection), `status` (something else that the badge shows has changed), `hello` (once
 * a connection), `snapshot`, `events` (EventsMessage), `progress` (ProgressMessage), `sending` ({topic, file_ids}), `output`
 * (OutputMessage), `notice` (NoticeMessage), `notice_withdrawn` ({id}), `presence` (PresenceMessage), `refused` ({topic, error}): for good.
 */
export class Live extends EventTarget {
  #url;
  #positions = new Positions();
  #choice;
  #session;
  /** @type {LiveSocket | null} */
  #socket = null;
  /** @type {Polls | null} while the socket is blocked */
  #polls = null;
  /** @type {Map<number, string>} topic of each join without a reply yet, by message id */
  #asked = new Map();
  #nextId = 1;
  #retry = 0;
  #rejoin = 0;
  #editing = 0;
  #isDirty = false; // whether this page has unsaved changes of the config
  #isAsking = false; // whether HTTP works
  #isGreeted = false; // since the connection was lost
  #pageVersion = version;
  /** @type {Connection} */
  connection = "connecting";
  /** When the next attempt begins, in ms since 1970; 0: now, or no attempt is planned. */
  retryAt = 0;
  /** Since when nothing comes, in ms since 1970; 0: something does. */
  lostAt = 0;
  /** Whether the server runs another version than the one that made this page. */
  isUpdated = false;
  /** Whether what blocks the socket swallows it, instead of refusing it. */
  isSwallowed = false;
  /** @type {() => boolean} whether this page has something to send, which goes on whatever happens here */
  isSending = () => false;
  /** @type {Map<string, LiveError>} joins that the server refuses, by topic */
  refusals = new Map();

  /**
   * @param {string} [url]
   * @param {Pick<Storage, "getItem" | "setItem"> | null} [store] keeps whether the socket works here
   * @param {import("./session.js").Session} [signIn] asks the person when the session has ended
   */
  constructor(url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${api}/live`, store = storage(), signIn = session) {
    super();
    this.#session = signIn;
    this.#url = url;
    this.#choice = new Choice(store);
    addEventListener("online", () => this.#resume());
    addEventListener("pageshow", () => this.#resume());
    addEventListener("pagehide", () => this.#polls?.stop()); // its lock would keep the page from being restored
    addEventListener("offline", () => {
      if (!this.#isClosed) this.#setConnection("offline");
    });
    signIn.addEventListener("needed", () => this.#signedOut());
    signIn.addEventListener("signed-in", () => {
      if (this.connection !== "signed_out") return;
      this.#setLost();
      this.#open();
    });
  }

  /** @returns {boolean} whether events arrive, over whatever transport */
  get isConnected() {
    return this.connection === "live" || this.connection === "polling";
  }

  /** @returns {boolean} whether nothing comes before the person has done something */
  get #isClosed() {
    return this.connection === "refused" || this.connection === "signed_out";
  }

  /** @param {LiveError} error @returns {boolean} whether a join that was refused so is not tried again */
  isFinal({ code }) {
    return !PASSING.has(code);
  }

  /** Connect, and reconnect whenever the connection is lost. */
  start() {
    if (this.#socket || this.#polls) return;
    if (this.#choice.beginsWithPolls) void this.#ask(true);
    else this.#open();
  }

  /** Try again now, whatever it waits for. */
  tryNow() {
    if (this.isConnected || this.#socket || this.#isClosed) return;
    clearTimeout(this.#retry);
    this.#polls?.changed();
    this.#open();
  }

  /**
   * Follow a topic or an output stream.
   * @param {string} topic
   * @param {number | null} after cursor or byte offset; 0 is the beginning, null requests a snapshot
   */
  join(topic, after) {
    this.#positions.follow(topic, after);
    this.#sendJoin(topic);
    this.#polls?.changed();
  }

  /** @param {string} topic */
  leave(topic) {
    if (this.#positions.leave(topic)) this.#socket?.send({ type: "leave", id: this.#nextId++, topic });
    if (this.refusals.delete(topic)) this.#changed();
  }

  /** @param {boolean} isDirty whether this page has unsaved changes of the config; said again after each reconnect */
  editing(isDirty) {
    if (isDirty === this.#isDirty) return;
    this.#isDirty = isDirty;
    this.#sendEditing();
  }

  #sendEditing() {
    clearTimeout(this.#editing);
    if (this.#socket?.send({ type: "editing", id: this.#nextId++, topic: "config", is_dirty: this.#isDirty })) return;
    this.#polls?.editing(this.#isDirty);
    if (this.#isDirty) this.#editing = window.setTimeout(() => this.#sendEditing(), EDITING_MS);
  }

  // --- the socket ------------------------------------------------------------------------------------------------------

  #open() {
    this.retryAt = 0;
    const socket = new LiveSocket(this.#url, (message) => this.#take(message), (end) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#ended(end);
    });
    this.#socket = socket;
    this.#changed();
  }

  /** @param {End} end */
  #ended(end) {
    this.#asked.clear();
    const next = this.#choice.socketEnded(end);
    if (next === "sign_in") {
      this.#refused(SIGN_IN);
      return;
    }
    if (this.#polls && next !== "final") {
      this.#later(this.#choice.blockedDelay);
      return;
    }
    this.isSwallowed = end.isSilent;
    if (next === "final") {
      this.#polls?.stop();
      this.#setConnection("refused");
      return;
    }
    this.#setLost();
    if (next === "ask") void this.#ask(false);
    else this.#later(this.#choice.delay(end.code));
  }

  /**
   * Ask over HTTP for what is new. If that works and the socket does not, go on by polls.
   * @param {boolean} isKnown whether it is known already that the socket is blocked
   */
  async #ask(isKnown) {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      const { pollOnce, pollsOf } = await import("./polls.js");
      for (const message of await pollOnce(this.#positions.joins())) this.#take(message);
      const isBlocked = this.#choice.httpAnswered(true) || isKnown;
      if (isBlocked && !this.isConnected) this.#polls ??= pollsOf(this.#positions, (messages) => this.#polled(messages), (problem) => this.#failed(problem));
    } catch (error) {
      this.#choice.httpAnswered(false);
      this.#failed(/** @type {any} */ (error));
    } finally {
      this.#isAsking = false;
    }
    if (this.#isClosed || this.connection === "live") return;
    if (this.#polls) {
      this.#setConnection("polling");
      this.#polls.start();
    }
    if (!this.#socket) this.#later(this.#polls ? this.#choice.blockedDelay : this.#choice.delay());
  }

  /** @param {number} ms after which the socket is tried again */
  #later(ms) {
    clearTimeout(this.#retry);
    this.retryAt = Date.now() + ms;
    this.#retry = window.setTimeout(() => this.#open(), ms);
    this.#changed();
  }

  /** @param {string} topic */
  #sendJoin(topic) {
    const id = this.#nextId++;
    if (this.#socket?.send({ type: "join", id, ...this.#positions.join(topic) })) this.#asked.set(id, topic);
  }

  // --- polls -----------------------------------------------------------------------------------------------------------

  /** @param {Message[]} messages */
  #polled(messages) {
    if (!this.#polls) return; // the socket has come back
    this.#setConnection("polling");
    for (const message of messages) this.#take(message);
  }

  /** @param {{status: number}} problem */
  #failed({ status }) {
    if (!this.#polls && status !== 401 && status !== 403) return; // the socket is tried again
    if (status === 401 || status === 403) this.#refused(status);
    else if (!this.#isClosed) this.#setLost();
  }

  /** @param {number} status 401 or 403 */
  #refused(status) {
    if (status === SIGN_IN && this.#session.canAsk) {
      void this.#session.again();
      this.#signedOut();
    } else {
      this.#polls?.stop();
      this.#setConnection("refused");
    }
  }

  /** The session has ended: nothing comes, and nothing is tried, until the person has signed in again. */
  #signedOut() {
    if (this.connection === "refused") return;
    clearTimeout(this.#retry);
    this.#polls?.stop();
    this.#polls = null;
    this.#socket?.close();
    this.#socket = null;
    this.#asked.clear();
    this.#setConnection("signed_out");
  }

  // --- messages --------------------------------------------------------------------------------------------------------

  /** @param {Message} received */
  #take(received) {
    const message = this.#positions.take(received);
    if (this.connection === "offline" && this.#socket?.isGreeted) this.#setConnection("live"); // a server on this device needs no network
    switch (message?.type) {
      case "hello":
        this.#greet(message);
        break;
      case "reply":
        this.#reply(/** @type {any} */ (message));
        break;
      case "progress":
        for (const report of message.files) this.#dispatch("progress", report);
        break;
      case "tick":
        this.#choice.spread = message.spread_s;
        break;
      case "snapshot":
      case "events":
      case "output":
      case "sending":
      case "notice":
      case "notice_withdrawn":
      case "presence":
        this.#dispatch(message.type, message);
        break;
      default: // nothing new, and messages of later protocols
        break;
    }
  }

  /** @param {Message} hello */
  #greet(hello) {
    this.#choice.spread = hello.spread_s;
    this.#pageVersion ||= hello.version;
    this.isUpdated = hello.version !== this.#pageVersion;
    if (this.#socket?.isGreeted) {
      this.#choice.socketWorks();
      this.#polls?.stop();
      this.#polls = null;
      clearTimeout(this.#retry);
      this.#setConnection("live");
    }
    if (this.#socket?.isGreeted || !this.#isGreeted) this.#dispatch("hello", hello); // each poll has one, too
    this.#isGreeted = true;
    for (const { topic } of this.#positions.joins()) this.#sendJoin(topic);
    if (this.#isDirty) this.#sendEditing();
  }

  /** @param {{re: number | string, ok: boolean, error: LiveError}} message `re`: of a poll, the topic */
  #reply({ re, ok, error }) {
    const topic = typeof re === "number" ? this.#asked.get(re) : re;
    if (typeof re === "number") this.#asked.delete(re);
    if (topic === undefined) return;
    if (ok) {
      if (this.refusals.delete(topic)) this.#changed();
      return;
    }
    this.refusals.set(topic, error);
    if (!this.isFinal(error)) {
      clearTimeout(this.#rejoin);
      this.#rejoin = window.setTimeout(() => {
        for (const [refused, why] of this.refusals) if (!this.isFinal(why)) this.#sendJoin(refused);
      }, this.#choice.delay());
    } else {
      this.#positions.leave(topic);
      this.#dispatch("refused", { topic, error });
    }
    this.#changed();
  }

  // --- its state -------------------------------------------------------------------------------------------------------

  /** The network is back, or the page: what there was may be dead without saying so. */
  #resume() {
    if (this.#isClosed || this.connection === "connecting") return;
    if (this.#polls) {
      this.#polls.start();
      this.#polls.changed();
    } else if (this.connection === "offline" && this.#socket) {
      this.#socket.close();
      this.#socket = null;
      this.#ended({ code: 0, isGreeted: true, isSilent: false });
    }
    this.tryNow();
  }

  #setLost() {
    this.#setConnection(globalThis.navigator?.onLine === false ? "offline" : "reconnecting");
  }

  /** @param {Connection} connection */
  #setConnection(connection) {
    if (this.connection === connection) return;
    this.connection = connection;
    if (this.isConnected) this.lostAt = 0;
    else {
      this.lostAt ||= Date.now();
      this.#isGreeted = false;
    }
    this.#dispatch("connection", connection);
    this.#changed();
  }

  #changed() {
    this.#dispatch("status", null);
  }

  /** @param {string} type @param {any} detail */
  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** @returns {Storage | null} null: the browser forbids it, or this is none */
function storage() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}
