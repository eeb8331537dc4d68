// The live log: one line per event; it follows the end until the person scrolls up.

import { clientText, exactTime, timeOfDay } from "../core/format.js";
import { cloneTemplate, paced, part, setText } from "../core/page.js";
import { eventAbout, eventTone, eventWord } from "../core/words.js";

/** @typedef {import("../core/live.js").LiveEvent} LiveEvent */

const MAX_LINES = 1000; // the log file and the API have the rest
const NEAR_END_PX = 24;
const GESTURE_MS = 1000; // a flick scrolls for about that long after the finger has left

/** The log beside the rows. */
export class LogView {
  #box;
  #lines;
  #follow;
  #earlier;
  #isFollowing = true;
  #touchedAt = -Infinity;
  #unread = 0;
  /** @type {LiveEvent[]} */
  #waiting = [];
  #askDraw = paced(() => this.#draw());

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#box = part(root, "log-box");
    this.#lines = part(root, "log-lines");
    this.#follow = part(root, "log-follow");
    this.#earlier = part(root, "log-earlier");
    for (const gesture of ["wheel", "touchmove", "keydown", "pointerdown"]) {
      this.#box.addEventListener(gesture, () => { this.#touchedAt = performance.now(); }, { passive: true });
    }
    this.#box.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#box;
      if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) this.#setFollowing(true);
      // A box scrolls when its size changes, too; only a person's scrolling pauses.
      else if (performance.now() - this.#touchedAt < GESTURE_MS) this.#setFollowing(false);
    });
    this.#follow.addEventListener("click", () => {
      this.#box.scrollTop = this.#box.scrollHeight;
      this.#setFollowing(true);
    });
    this.#drawButton();
  }

  /** @param {LiveEvent[]} events in cursor order */
  add(events) {
    this.#waiting.push(...events);
    this.#askDraw();
    if (this.#waiting.length > 2 * MAX_LINES) this.#waiting.splice(0, this.#waiting.length - MAX_LINES);
  }

  #draw() {
    const events = this.#waiting.slice(-MAX_LINES);
    let isCut = events.length < this.#waiting.length;
    this.#waiting = [];
    const lines = document.createDocumentFragment();
    for (const event of events) lines.append(lineOf(event));
    this.#lines.append(lines);
    while (this.#lines.childElementCount > MAX_LINES) {
      this.#lines.firstElementChild?.remove();
      isCut = true;
    }
    if (isCut) this.#earlier.hidden = false;
    if (this.#isFollowing) this.#box.scrollTop = this.#box.scrollHeight;
    else this.#unread += events.length;
    this.#drawButton();
  }

  /** @param {boolean} isFollowing */
  #setFollowing(isFollowing) {
    this.#isFollowing = isFollowing;
    if (isFollowing) this.#unread = 0;
    this.#drawButton();
  }

  #drawButton() {
    setText(this.#follow, this.#isFollowing ? "following" : this.#unread ? `follow, ${this.#unread} new` : "paused, follow");
    this.#follow.setAttribute("aria-pressed", String(this.#isFollowing));
  }
}

/** @param {LiveEvent} event @returns {HTMLElement} */
function lineOf({ at, name, subject, data }) {
  const line = cloneTemplate("log-line-template");
  line.dataset.tone = eventTone(name, data);
  const time = /** @type {HTMLTimeElement} */ (part(line, "time"));
  time.dateTime = at;
  time.title = exactTime(at);
  time.textContent = timeOfDay(at);
  const word = part(line, "word");
  word.textContent = eventWord(name);
  word.title = name;
  const text = eventAbout({ name, subject, data });
  const about = part(line, "about");
  about.textContent = text;
  about.title = text;
  const client = clientText(name === "client.identified" ? { ...subject.client, ...data } : subject.client);
  const from = part(line, "client");
  from.textContent = client;
  from.title = client;
  return line;
}
