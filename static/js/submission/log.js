// The live log: one line for each step; it follows the end until the person scrolls up. Earlier lines come from the server when
// somebody asks for them.

import { callJson } from "../core/api.js";
import { clientText, exactTime } from "../core/format.js";
import { t } from "../core/messages.js";
import { cloneTemplate, paced, part, setText } from "../core/page.js";
import { VirtualList } from "../core/virtual-list.js";
import { isStep, lineOf, textOf } from "./log-lines.js";

/** @typedef {import("../core/live.js").LiveEvent} LiveEvent */
/** @typedef {import("./log-lines.js").Line} Line */

const MAX_LINES = 20_000; // in memory; the server has the rest
const FIRST_EVENTS = 200;
const MORE_EVENTS = 1000; // the API's limit
const NEAR_END_PX = 24;
const GESTURE_MS = 1000; // a flick scrolls for about that long after the finger has left
const COPIED_MS = 2000;

/** The log beside the rows. */
export class LogView {
  #root;
  #topic;
  #box;
  #follow;
  #earlier;
  #list;
  /** @type {Line[]} */
  #lines = [];
  /** @type {LiveEvent[]} */
  #waiting = [];
  #filter = "";
  #client = "";
  #isFollowing = true;
  #isConnected = true;
  #touchedAt = -Infinity;
  #unread = 0;
  /** Events before this cursor are not loaded. */
  #begin = 0;
  #isLoading = false;
  #askDraw = paced(() => this.#draw());

  /** @param {HTMLElement} root @param {string} topic */
  constructor(root, topic) {
    this.#root = root;
    this.#topic = topic;
    this.#box = part(root, "log-box");
    this.#follow = part(root, "log-follow");
    this.#earlier = part(root, "log-earlier");
    this.#list = new VirtualList(part(root, "log-lines"), { keyOf: (/** @type {Line} */ line) => line.key, make: rowOf });
    const box = this.#box;
    for (const gesture of ["wheel", "touchmove", "keydown", "pointerdown"]) {
      box.addEventListener(gesture, () => { this.#touchedAt = performance.now(); }, { passive: true });
    }
    box.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = box;
      const isTouched = performance.now() - this.#touchedAt < GESTURE_MS;
      if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) this.#setFollowing(true);
      // A box scrolls when its size changes, too; only a person's scrolling pauses.
      else if (isTouched) this.#setFollowing(false);
      if (scrollTop < NEAR_END_PX && isTouched) void this.#loadEarlier(MORE_EVENTS);
    });
    this.#follow.addEventListener("click", () => {
      this.#setFollowing(!this.#isFollowing);
      if (this.#isFollowing) this.#scrollToEnd();
    });
    this.#earlier.addEventListener("click", async () => {
      await this.#loadEarlier(MORE_EVENTS);
      if (this.#earlier.hidden) box.focus();
    });
    part(root, "log-fold").addEventListener("click", () => this.fold(root.dataset.folded !== "true"));
    part(root, "log-filter").addEventListener("input", (event) => {
      this.#filter = /** @type {HTMLInputElement} */ (event.target).value.trim().toLocaleLowerCase();
      this.#show();
    });
    part(root, "log-copy").addEventListener("click", () => this.#copy());
    part(root, "log-download").addEventListener("click", () => this.#download());
    this.#drawState();
  }

  /**
   * Begin at a moment. What was before is loaded on demand; the newest of it at once, as it is what a person looks for.
   * @param {number} cursor of the page's state; 0: from the beginning of the submission
   */
  begin(cursor) {
    this.#begin = cursor + 1;
    if (cursor > 0) void this.#loadEarlier(FIRST_EVENTS);
    else this.#begin = 0;
    this.#drawState();
  }

  /** @param {LiveEvent[]} events in cursor order */
  add(events) {
    this.#waiting.push(...events.filter(isStep));
    this.#askDraw();
  }

  /** @param {boolean} isFolded whether only its last lines show */
  fold(isFolded) {
    this.#root.dataset.folded = String(isFolded);
    const button = part(this.#root, "log-fold");
    button.setAttribute("aria-expanded", String(!isFolded));
    setText(button, t(isFolded ? "submission.log.unfold" : "submission.log.fold"));
    part(this.#root, "log-tools").hidden = isFolded;
    if (this.#isFollowing) this.#scrollToEnd();
  }

  /** Lines do not name the client of the submission; the head does. @param {Parameters<typeof clientText>[0]} client */
  set client(client) {
    this.#client = clientText(client);
    setText(part(this.#root, "log-client"), this.#client ? t("submission.log.of", { client: this.#client }) : "");
  }

  /** @param {boolean} isConnected whether events arrive; without them, no line does not mean that nothing happened */
  set isConnected(isConnected) {
    this.#isConnected = isConnected;
    this.#drawState();
  }

  #draw() {
    const events = this.#waiting;
    this.#waiting = [];
    for (const event of events) this.#lines.push(lineOf(event, this.#client));
    if (this.#lines.length > MAX_LINES) {
      this.#lines.splice(0, this.#lines.length - MAX_LINES);
      this.#begin = Number(this.#lines[0].key);
    }
    if (!this.#isFollowing) this.#unread += events.length;
    this.#show();
  }

  #show() {
    this.#list.show(this.#shown());
    if (this.#isFollowing) this.#scrollToEnd();
    this.#drawState();
  }

  /** @returns {Line[]} with the filter */
  #shown() {
    const filter = this.#filter;
    if (filter === "") return this.#lines;
    return this.#lines.filter(({ word, about, client }) => `${word} ${about} ${client}`.toLocaleLowerCase().includes(filter));
  }

  #scrollToEnd() {
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  /** @param {boolean} isFollowing */
  #setFollowing(isFollowing) {
    if (isFollowing) this.#unread = 0;
    if (this.#isFollowing === isFollowing) return;
    this.#isFollowing = isFollowing;
    this.#drawState();
  }

  #drawState() {
    const follow = this.#isFollowing ? t("submission.log.following") : this.#unread ? t("submission.log.paused_new", { n: this.#unread }) : t("submission.log.paused");
    setText(this.#follow, follow);
    this.#follow.setAttribute("aria-pressed", String(this.#isFollowing));
    this.#earlier.hidden = this.#begin <= 1;
    setText(this.#earlier, t(this.#filter ? "submission.log.search_earlier" : "submission.log.earlier"));
    const empty = part(this.#root, "log-empty");
    empty.hidden = this.#list.length > 0;
    const isUnknown = !this.#isConnected || this.#isLoading || this.#begin > 1;
    setText(empty, t(this.#filter ? "submission.log.no_match" : isUnknown ? "submission.log.unknown" : "submission.log.empty"));
  }

  /** @param {number} limit events */
  async #loadEarlier(limit) {
    if (this.#isLoading || this.#begin <= 1) return;
    this.#isLoading = true;
    const begin = this.#begin;
    try {
      const { events: earlier, cursor } = await callJson("GET", `/events?topic=${encodeURIComponent(this.#topic)}&before=${begin}&limit=${limit}`);
      this.#begin = cursor; // 0: there is nothing before
      const fromEnd = this.#box.scrollHeight - this.#box.scrollTop;
      this.#lines.unshift(...earlier.filter(isStep).map((/** @type {LiveEvent} */ event) => lineOf(event, this.#client)));
      this.#isLoading = false;
      this.#show();
      if (!this.#isFollowing) this.#box.scrollTop = this.#box.scrollHeight - fromEnd;
    } catch {
      // the button stays, to try again
    } finally {
      this.#isLoading = false;
      this.#drawState();
    }
  }

  async #copy() {
    const button = part(this.#root, "log-copy");
    let word = "submission.copied";
    try {
      await navigator.clipboard.writeText(this.#shown().map(textOf).join("\n"));
    } catch {
      word = "submission.copy_failed"; // over plain http, browsers have no clipboard
      getSelection()?.selectAllChildren(part(this.#root, "log-lines"));
    }
    setText(button, t(word));
    setTimeout(() => setText(button, t("submission.copy")), COPIED_MS);
  }

  /** Save the whole log, also what is not loaded. */
  async #download() {
    const button = /** @type {HTMLButtonElement} */ (part(this.#root, "log-download"));
    button.setAttribute("aria-disabled", "true"); // keeps the focus, as `disabled` would not
    try {
      const lines = [];
      let cursor = 0;
      for (;;) {
        const page = await callJson("GET", `/events?topic=${encodeURIComponent(this.#topic)}&after=${cursor}&limit=${MORE_EVENTS}`);
        for (const event of page.events) if (isStep(event)) lines.push(textOf(lineOf(event, this.#client)));
        if (page.events.length < MORE_EVENTS) break;
        cursor = page.cursor;
      }
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/plain" }));
      link.download = `${this.#topic.replace(":", "-")}.log`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      setText(button, t("submission.log.download"));
    } catch {
      setText(button, t("submission.log.download_failed"));
    } finally {
      button.removeAttribute("aria-disabled");
    }
  }
}

/** @param {Line} line @returns {import("../core/virtual-list.js").Row} */
function rowOf({ at, name, tone, time, word, about, client }) {
  const element = cloneTemplate("log-line-template");
  element.dataset.tone = tone;
  const when = /** @type {HTMLTimeElement} */ (part(element, "time"));
  when.dateTime = at;
  when.title = exactTime(at);
  when.textContent = time;
  part(element, "word").textContent = word;
  part(element, "word").title = name;
  part(element, "about").textContent = about;
  part(element, "about").title = about;
  const from = part(element, "client");
  from.hidden = client === "";
  from.textContent = client;
  from.title = client;
  return { element, render: () => {}, remove: () => {} };
}
