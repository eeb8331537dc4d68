// What every page that follows something live has: the connection with its badge and the site's notices, the server's clock,
// a tick each second, and polling while the connection is away.

import { isOfLink } from "./base.js";
import { followConfigProblem } from "./config-problem.js";
import { mountConnectionBadge } from "./connection.js";
import { Live } from "./live.js";
import { Notices } from "./notices.js";

/** @typedef {import("./live.js").EventsMessage} EventsMessage */
/** @typedef {import("./live.js").ProgressMessage} ProgressMessage */

/**
 * @typedef {object} Followed what happens to a topic
 * @property {(message: EventsMessage) => void} events
 * @property {(state: any, cursor: number) => void} [snapshot] the state at a cursor: events before it are not sent
 * @property {(fileIds: string[]) => void} [sending] all files of a submission that are being sent at this moment
 * @property {(presence: import("./live.js").PresenceMessage) => void} [presence] who else follows it
 */

const TICK_EVERY_MS = 1000;
const POLL_EVERY_MS = 3000;

/** The live connection of a page. */
export class LivePage {
  live = new Live();
  /** Checks at once whether the config file and all parts of the server are in order, for the notices of every page. */
  checkNotices;
  #skew = 0;
  #isOver = false;

  /** Connects, and shows the badge. */
  constructor() {
    const { live } = this;
    mountConnectionBadge(live);
    this.checkNotices = isOfLink ? () => {} : followConfigProblem(live); // how the server does is none of a guest's business
    live.addEventListener("hello", (event) => {
      this.#skew = Date.parse(/** @type {CustomEvent} */ (event).detail.server_time) - Date.now();
    });
    const notices = new Notices();
    this.#on("notice", (notice) => notices.show(notice));
    this.#on("notice_withdrawn", ({ id }) => notices.remove(id));
    this.everySecond((now) => notices.expire(now));
    live.start();
  }

  /** @returns {number} ms since 1970 by the server's clock */
  get now() {
    return Date.now() + this.#skew;
  }

  /** @returns {boolean} whether events arrive at once; else what the page does not know yet is unknown, not empty */
  get isConnected() {
    return this.live.isConnected;
  }

  /** Ask for nothing more: what this page shows has ended for whoever looks at it. */
  end() {
    this.#isOver = true;
  }

  /** @returns {boolean} whether there is no connection, none is being opened for the first time, and no sign-in is missing */
  get isAway() {
    return !this.#isOver && !this.isConnected && this.live.connection !== "connecting" && this.live.connection !== "signed_out";
  }

  /**
   * Follow a topic.
   * @param {string} topic
   * @param {number | null} after cursor of the state that the page has
   * @param {Followed} followed
   */
  follow(topic, after, { events, snapshot, sending, presence }) {
    this.#on("events", (message) => { if (message.topic === topic) events(message); });
    this.#on("snapshot", (message) => { if (message.topic === topic) snapshot?.(message.state, message.cursor); });
    this.#on("sending", (message) => { if (message.topic === topic) sending?.(message.file_ids); });
    this.#on("presence", (message) => { if (message.topic === topic) presence?.(message); });
    this.live.join(topic, after);
  }

  /** @param {(progress: ProgressMessage) => void} take progress of any followed submission */
  onProgress(take) {
    this.#on("progress", take);
  }

  /** @param {() => void} changed the connection came or went */
  onConnection(changed) {
    this.live.addEventListener("connection", changed);
  }

  /** @param {(now: number) => void} tick called each second with the server's time */
  everySecond(tick) {
    setInterval(() => tick(this.now), TICK_EVERY_MS);
  }

  /**
   * Ask the server regularly, while it is wanted. A failure is left to the next time: the badge says that the server is away.
   * @param {() => Promise<unknown>} ask
   * @param {() => boolean} isWanted
   * @param {number} [everyMs]
   */
  poll(ask, isWanted, everyMs = POLL_EVERY_MS) {
    let isAsking = false;
    setInterval(async () => {
      if (isAsking || !isWanted()) return;
      isAsking = true;
      try {
        await ask();
      } catch {
        // said by the badge
      } finally {
        isAsking = false;
      }
    }, everyMs);
  }

  /** @param {string} type @param {(detail: any) => void} take */
  #on(type, take) {
    this.live.addEventListener(type, (event) => take(/** @type {CustomEvent} */ (event).detail));
  }
}
