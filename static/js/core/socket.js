// One WebSocket to /api/v1/live: JSON in and out, and its end, said once. It knows a dead connection by missing ticks. No DOM.

/** @typedef {import("./positions.js").Message} Message */
/** @typedef {{code: number, isGreeted: boolean, isSilent: boolean}} End `isGreeted`: the server's first message had come; `isSilent`: nothing came for too long */

export const OPEN_MS = 8000; // until the server's first message: longer only where something swallows it
const SILENT_HEARTBEATS = 2.5; // a tick may be late; two missing ticks mean a dead connection

export class LiveSocket {
  #socket;
  #take;
  /** @type {((end: End) => void) | null} null: it has been said, or nobody wants to know */
  #ended;
  #watchdog = 0;
  #heartbeatMs = 0;

  /**
   * @param {string} url
   * @param {(message: Message) => void} take called with each message
   * @param {(end: End) => void} ended called once
   */
  constructor(url, take, ended) {
    this.#take = take;
    this.#ended = ended;
    this.#socket = new WebSocket(url, "dropmill.v1");
    this.#socket.addEventListener("message", (message) => this.#receive(message.data));
    this.#socket.addEventListener("close", ({ code }) => this.#end(code, false));
    this.#resetWatchdog();
  }

  get isGreeted() {
    return this.#heartbeatMs > 0;
  }

  /** @param {Record<string, any>} message @returns {boolean} false without an open connection */
  send(message) {
    if (!this.isGreeted || this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Close it without telling anybody. */
  close() {
    clearTimeout(this.#watchdog);
    this.#ended = null;
    this.#socket.close();
  }

  /** @param {string} text */
  #receive(text) {
    if (!this.#ended) return;
    const message = JSON.parse(text);
    if (message.type === "hello") this.#heartbeatMs = message.heartbeat * 1000;
    this.#resetWatchdog();
    this.#take(message);
  }

  #resetWatchdog() {
    clearTimeout(this.#watchdog);
    const ms = this.isGreeted ? this.#heartbeatMs * SILENT_HEARTBEATS : OPEN_MS;
    this.#watchdog = window.setTimeout(() => {
      this.#end(0, true);
      this.#socket.close(); // its close event may come minutes later
    }, ms);
  }

  /** @param {number} code @param {boolean} isSilent */
  #end(code, isSilent) {
    clearTimeout(this.#watchdog);
    const ended = this.#ended;
    this.#ended = null;
    ended?.({ code, isGreeted: this.isGreeted, isSilent });
  }
}
