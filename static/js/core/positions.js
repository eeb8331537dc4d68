// What a page follows and how far it has got, whichever transport brings the messages. Every message passes `take` once:
// what was seen before is dropped here, so transports may overlap and repeat. No DOM.

/** @typedef {{cursor: number, at: string, name: string, subject: Record<string, any>, data: Record<string, any>}} LiveEvent */
/** @typedef {{after: number | null, attempt: number | null, ledger: string | null}} Position `after`: a cursor or byte offset; null: a snapshot is wanted */
/** @typedef {{topic: string, after: number | null, ledger?: string | null, attempt?: number | null}} Join as docs/live.md has it, without `id` */
/** @typedef {Record<string, any> & {type: string}} Message */

const OUTPUT = "output:";

export class Positions {
  /** @type {Map<string, Position>} */
  #topics = new Map();
  /** @type {string | null} id of the ledger that the server has now */
  #ledger = null;

  /** @param {string} topic @param {number | null} after @param {number | null} [attempt] @param {string | null} [ledger] null: the server's */
  follow(topic, after, attempt = null, ledger = this.#ledger) {
    this.#topics.set(topic, { after, attempt, ledger });
  }

  /** @param {string} topic @returns {boolean} whether it was followed */
  leave(topic) {
    return this.#topics.delete(topic);
  }

  /** @param {string} topic */
  has(topic) {
    return this.#topics.has(topic);
  }

  /** @param {string} topic @returns {Join | null} how to go on with it; null if it is not followed */
  join(topic) {
    const position = this.#topics.get(topic);
    if (!position) return null;
    const { after, attempt, ledger } = position;
    return topic.startsWith(OUTPUT) ? { topic, after, attempt } : { topic, after, ledger };
  }

  /** @returns {Join[]} how to go on with everything */
  joins() {
    return [...this.#topics.keys()].map((topic) => /** @type {Join} */ (this.join(topic)));
  }

  /**
   * Whether messages about a topic that begin at another position leave something out.
   * @param {string} topic
   * @param {Join | undefined} from the position that they begin at
   */
  isBehind(topic, from) {
    const position = this.#topics.get(topic);
    if (!position) return false;
    if (!from || position.after === null) return true;
    if (topic.startsWith(OUTPUT)) return position.attempt !== (from.attempt ?? null) ? (from.after ?? 0) > 0 : position.after < (from.after ?? 0);
    return position.ledger !== (from.ledger ?? null) || position.after < (from.after ?? 0);
  }

  /** @param {Message} message from the server @returns {Message | null} what is new in it; null: nothing that the page follows */
  take(message) {
    switch (message.type) {
      case "hello":
        this.#ledger = message.ledger;
        for (const position of this.#topics.values()) position.ledger ??= message.ledger;
        return message;
      case "snapshot":
        return this.#snapshot(message);
      case "events":
        return this.#events(message);
      case "output":
        return this.#output(message);
      case "sending":
      case "presence":
        return this.#topics.has(message.topic) ? message : null;
      default: // among them `gap`: the snapshot before it has moved the position
        return message;
    }
  }

  /** @param {Message} message */
  #snapshot(message) {
    if (!this.#topics.has(message.topic)) return null;
    this.follow(message.topic, message.cursor);
    return message;
  }

  /** @param {Message} message */
  #events(message) {
    const position = this.#topics.get(message.topic);
    if (!position) return null; // the topic was left
    const after = position.after ?? 0;
    const events = message.events.filter((/** @type {LiveEvent} */ event) => event.cursor > after);
    position.after = Math.max(after, message.cursor);
    return events.length ? { ...message, events } : null;
  }

  /** @param {Message} message */
  #output(message) {
    const position = this.#topics.get(`${OUTPUT}${message.job_id}`);
    if (!position) return null;
    const isSameAttempt = position.attempt === message.attempt;
    if (isSameAttempt && message.offset < (position.after ?? 0)) return null; // received before the reconnect
    position.attempt = message.attempt;
    position.after = message.end;
    return message;
  }
}
