// One poll for all tabs of a browser. The tab that holds a lock polls for everybody's topics and passes each answer on; if it
// closes, the browser gives the lock to another tab, and if it stops responding, another tab takes it. A tab owns its
// positions: an answer that begins behind what it has seen is not taken; the tab asks for the rest itself. So nothing is lost
// in a change of the leader, or while a tab was frozen. No DOM.

import { Polling, pollOnce } from "./poll.js";
import { Positions } from "./positions.js";

/** @typedef {import("./positions.js").Message} Message */
/** @typedef {import("./positions.js").Join} Join */
/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {{kind: "want", tab: string, topics: Join[]} | {kind: "bye", tab: string}} ToLeader `want` asks for an `alive`, too */
/** @typedef {{kind: "alive" | "who"} | {kind: "news", messages: Message[], from: Join[]} | {kind: "failed", status: number, body: Record<string, any>}} FromLeader `who`: a new leader asks for wants */

const ASK_MS = 5000; // how often a tab says what it wants; the leader answers at once
const SILENT_ASKS = 2; // unanswered: the leader does not respond
const TAKEOVER_MS = 1000; // tabs take over at a random moment within, so that one of them is first
const FORGET_MS = 150_000; // a tab that says nothing is gone; browsers let hidden tabs run once a minute

/**
 * @typedef {object} Sharing what the browser offers
 * @property {{request: (name: string, options: {steal?: boolean, signal?: AbortSignal}, held: () => Promise<void>) => Promise<void>}} locks
 * @property {(name: string) => {postMessage: (message: any) => void, close: () => void, onmessage: ((event: any) => void) | null}} channel
 * @property {string} name of the lock and the channel
 * @property {string} client names this browser in `presence`
 * @property {() => boolean} isHidden hidden tabs take nothing over: browsers slow them down
 */

/** The same to its owner as `Polling`. */
export class SharedPolling {
  #sharing;
  #positions;
  #take;
  #failed;
  #tab = Math.random().toString(36).slice(2);
  /** @type {ReturnType<Sharing["channel"]> | null} null: not running */
  #channel = null;
  /** @type {Leading | null} */
  #leading = null;
  #asks = 0; // since the leader was heard
  #timer = 0;
  #takeover = 0;
  /** @type {AbortController | null} of the lock that was asked for */
  #waiting = null;
  #isCatchingUp = false;
  #isBehind = false;

  /**
   * @param {Sharing} sharing
   * @param {Positions} positions of this tab; `take` moves them
   * @param {(messages: Message[], from: Join[]) => void} take
   * @param {(problem: Problem | {status: number, body: Record<string, any>}) => void} failed
   */
  constructor(sharing, positions, take, failed) {
    this.#sharing = sharing;
    this.#positions = positions;
    this.#take = take;
    this.#failed = failed;
  }

  /** @returns {boolean} whether this tab polls for all */
  get isLeader() {
    return this.#leading !== null;
  }

  start() {
    if (this.#channel) return;
    this.#channel = this.#sharing.channel(this.#sharing.name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#request(false);
    this.changed();
    this.#askRegularly();
  }

  stop() {
    if (!this.#channel) return;
    clearTimeout(this.#timer);
    clearTimeout(this.#takeover);
    this.#waiting?.abort();
    this.#leading?.end();
    this.#leading = null;
    this.#say({ kind: "bye", tab: this.#tab });
    this.#channel.close();
    this.#channel = null;
  }

  /** Something else is followed, or the network is back. */
  changed() {
    this.#leading?.wake();
    void this.#catchUp();
  }

  // --- a tab -----------------------------------------------------------------------------------------------------------

  /** @param {ToLeader | FromLeader} message */
  #say(message) {
    this.#channel?.postMessage(message);
    if (this.#leading && (message.kind === "want" || message.kind === "bye")) this.#leading.hear(message);
  }

  #want() {
    const topics = this.#positions.joins().filter(({ after }) => after !== null); // others have no snapshot yet
    this.#say({ kind: "want", tab: this.#tab, topics });
  }

  /** @param {ToLeader | FromLeader} message of another tab */
  #hear(message) {
    if (message.kind === "want" || message.kind === "bye") {
      this.#leading?.hear(message);
      return;
    }
    this.#asks = 0;
    if (message.kind === "who") this.#want();
    else if (message.kind === "news") this.#news(message.messages, message.from);
    else if (message.kind === "failed") this.#failed(message);
  }

  /** @param {Message[]} messages @param {Join[]} from */
  #news(messages, from) {
    const begins = new Map(from.map((join) => [join.topic, join]));
    const behind = new Set();
    for (const { topic, attempt = null } of this.#positions.joins()) {
      const begin = begins.get(topic);
      if (!begin || !this.#positions.isBehind(topic, begin)) continue;
      if (attempt !== (begin.attempt ?? null)) this.#positions.follow(topic, 0); // a later attempt prints now
      behind.add(topic);
    }
    this.#take(messages.filter((message) => !behind.has(message.topic ?? `output:${message.job_id}`)), from);
    if (behind.size) void this.#catchUp();
  }

  /** Ask for what this tab has not seen, then have the leader follow from there. */
  async #catchUp() {
    this.#isBehind = true;
    if (this.#isCatchingUp) return;
    this.#isCatchingUp = true;
    try {
      while (this.#isBehind && this.#channel) {
        this.#isBehind = false;
        const joins = this.#positions.joins();
        const messages = await pollOnce(joins);
        if (!this.#channel) return;
        this.#take(messages, joins);
        if (messages.some(({ type }) => type === "events" || type === "output")) this.#isBehind = true; // there may be more
      }
    } catch (error) {
      this.#isBehind = true;
      this.#failed(/** @type {Problem} */ (error));
    } finally {
      this.#isCatchingUp = false;
    }
    this.#want();
  }

  #askRegularly() {
    this.#timer = window.setTimeout(() => {
      if (!this.#leading && this.#asks >= SILENT_ASKS && !this.#sharing.isHidden()) this.#takeOver();
      if (!this.#leading) this.#asks += 1;
      if (this.#isBehind) void this.#catchUp();
      else this.#want();
      this.#askRegularly();
    }, ASK_MS);
  }

  #takeOver() {
    clearTimeout(this.#takeover);
    this.#takeover = window.setTimeout(() => {
      if (this.#channel && !this.#leading && this.#asks > 0) this.#request(true);
    }, Math.random() * TAKEOVER_MS);
  }

  // --- the leader ------------------------------------------------------------------------------------------------------

  /** @param {boolean} steal also from a leader that holds the lock and does not respond */
  #request(steal) {
    this.#waiting?.abort();
    const waiting = steal ? null : new AbortController();
    this.#waiting = waiting;
    const held = () => {
      if (!this.#channel) return Promise.resolve();
      this.#asks = 0;
      const leading = new Leading(this.#sharing.client, (message) => {
        this.#say(message);
        this.#hear(message);
      });
      this.#leading = leading;
      leading.begin();
      return leading.ended;
    };
    this.#sharing.locks.request(this.#sharing.name, waiting ? { signal: waiting.signal } : { steal }, held).catch(() => {
      // Aborted by `stop`, or another tab took the lock over: wait for it like every tab.
      if (this.#waiting !== waiting) return;
      this.#leading?.end();
      this.#leading = null;
      if (this.#channel) this.#request(false);
    });
  }
}

/** Polls for all tabs as long as this tab holds the lock. */
class Leading {
  #say;
  #polling;
  #positions = new Positions();
  /** @type {Map<string, {topics: Set<string>, heardAt: number}>} by tab */
  #tabs = new Map();
  /** @type {() => void} */
  #end = () => {};
  /** @type {Promise<void>} */
  ended = new Promise((resolve) => { this.#end = resolve; });

  /** @param {string} client @param {(message: FromLeader) => void} say to every tab, this one included */
  constructor(client, say) {
    this.#say = say;
    this.#polling = new Polling(this.#positions, client, (messages, from) => {
      for (const message of messages) this.#positions.take(message);
      for (const message of messages) if (message.type === "reply" && !message.ok) this.#positions.leave(String(message.re));
      say({ kind: "news", messages, from });
    }, ({ status, body }) => say({ kind: "failed", status, body }));
  }

  /** Ask the tabs what they want. */
  begin() {
    this.#say({ kind: "who" });
  }

  /** Poll again at once, if that waits. */
  wake() {
    this.#polling.changed();
  }

  end() {
    this.#polling.stop();
    this.#end();
  }

  /** @param {ToLeader} message */
  hear(message) {
    if (message.kind === "bye") this.#tabs.delete(message.tab);
    else {
      this.#tabs.set(message.tab, { topics: new Set(message.topics.map(({ topic }) => topic)), heardAt: Date.now() });
      this.#say({ kind: "alive" });
    }
    this.#followWanted(message.kind === "want" ? message.topics : []);
  }

  /** @param {Join[]} wanted newly */
  #followWanted(wanted) {
    const now = Date.now();
    for (const [tab, { heardAt }] of this.#tabs) if (now - heardAt > FORGET_MS) this.#tabs.delete(tab);
    let hasNew = false;
    for (const { topic, after, attempt, ledger } of wanted) {
      if (this.#positions.has(topic)) continue;
      this.#positions.follow(topic, after, attempt ?? null, ledger ?? null);
      hasNew = true;
    }
    const all = new Set([...this.#tabs.values()].flatMap(({ topics }) => [...topics]));
    for (const { topic } of this.#positions.joins()) if (!all.has(topic)) this.#positions.leave(topic);
    if (this.#positions.joins().length) this.#polling.start();
    if (hasNew) this.#polling.changed();
  }
}
