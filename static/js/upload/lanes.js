// Sends the files that wait, at most three groups at once: many small files in one form, a large one in pieces. What failed for
// the moment waits again. No DOM; attempt.js sends one group.

import { Problem } from "../core/api.js";
import { needsSignIn, session } from "../core/session.js";
import { t } from "../core/messages.js";
import { attempt, hasMoved } from "./attempt.js";
import { isTemporary } from "./retrying.js";
import { canRead } from "./transfers.js";

/** @typedef {import("./attempt.js").Send} Send */
/** @typedef {import("./retrying.js").Retrying} Retrying */
/** @typedef {import("../submission/model.js").Entry} Entry */
/** @typedef {import("../submission/model.js").SubmissionModel} SubmissionModel */

/**
 * @typedef {object} Keeper whoever keeps the files, as its lanes see it
 * @property {(send: Send, sending: Entry["sending"], remark?: string) => void} turn changes what the page does with a file, and
 *   calls `note`
 * @property {(sends: Send[], eventsMs?: number) => Promise<void>} renew finds out what happened to the files of a group; `eventsMs`
 *   is how long events may take, only for a form
 * @property {(send: Send) => void} dropUnreadable gives up a file that the browser cannot read any more
 * @property {(action: () => Promise<unknown>) => Promise<void>} work does something that counts as work until it has ended, and
 *   deals with what it throws
 */

const AT_ONCE = 3; // of the six connections that a browser opens to a host
const FORM_FILES = 500; // per form: large enough to amortise its request, small enough to end soon
// Fewer go in one form. Of more, each form takes a third of what waits, so that all lanes send until the end: the server stores a
// few files of each request at once, and had 155 files a second of three forms, 93 of one.
const FORM_LEAST = 50;
const FORM_BYTES = 32 * 1024 * 1024;
const FAILED_MS = 500; // until the server is asked about the files of a form that failed
const STORED_MS = 3000; // the same for a form that is stored: events mostly arrive sooner

/** The senders of one submission's files. */
export class Lanes {
  #model;
  #retrying;
  #keeper;
  /** @type {{small: Set<Send>, large: Set<Send>}} in the order in which they are sent */
  #waiting = { small: new Set(), large: new Set() };
  #running = 0;

  /**
   * @param {SubmissionModel} model
   * @param {Retrying} retrying
   * @param {Keeper} keeper
   */
  constructor(model, retrying, keeper) {
    this.#model = model;
    this.#retrying = retrying;
    this.#keeper = keeper;
  }

  /** Have a file wait, or wait no more, as its entry says. @param {Send} send */
  note(send) {
    const { small, large } = this.#waiting;
    const isWaiting = send.entry?.sending === "waiting";
    if (isWaiting && !send.isBusy) (send.inPieces ? large : small).add(send);
    else if (!isWaiting && !small.delete(send)) large.delete(send);
  }

  /** Send what waits, by as many lanes as are free. */
  fill() {
    while (this.#running < AT_ONCE) {
      const group = this.#take();
      if (group.length === 0) return;
      this.#running += 1;
      void this.#keeper.work(async () => {
        try {
          await this.#send(group);
        } finally {
          this.#running -= 1;
        }
      });
    }
  }

  /** @returns {Send[]} what to send next, marked as being sent: small files for one form, else one large file */
  #take() {
    const { small, large } = this.#waiting;
    /** @type {Send[]} */
    const group = [];
    let size = 0;
    const most = Math.min(FORM_FILES, Math.max(FORM_LEAST, Math.ceil(small.size / AT_ONCE)));
    // Small files first: they take little time, and would wait long behind three large ones.
    for (const send of small.size ? small : large) {
      size += send.item.file.size;
      if (group.length && (send.inPieces || size > FORM_BYTES || group.length === most)) break;
      group.push(send);
    }
    this.#model.together(() => {
      for (const send of group) {
        send.isBusy = true;
        this.#keeper.turn(send, send.inPieces ? "sending" : "together", send.entry?.remark);
      }
    });
    return group;
  }

  /** Send one group after another until none is waiting. @param {Send[]} group the first one */
  async #send(group) {
    const lane = {};
    let failures = 0;
    for (; group.length; group = this.#take()) {
      const { inPieces } = group[0];
      const { signIns } = session;
      const ended = await attempt(this.#model, group, () => this.#retrying.recovered(lane)); // what was wrong is over with the next byte
      if (ended === null && inPieces) this.#keeper.turn(group[0], null, group[0].entry?.remark);
      if (ended === null || hasMoved(group)) {
        failures = 0;
        this.#retrying.recovered(lane);
      }
      for (const send of group) send.transfer = null;
      if (ended === null && !inPieces) { // the next form need not wait for the events of this one
        const stored = group;
        void this.#keeper.work(async () => {
          await this.#close(stored, STORED_MS);
          this.fill();
        });
        continue;
      }
      if (ended instanceof Problem && needsSignIn(ended)) {
        await this.#untilSignedIn(group, ended.message, signIns);
      } else if (ended instanceof Problem) {
        const isPassing = isTemporary(ended, inPieces);
        if (isPassing && ended.status === 0) await this.#dropUnreadable(group);
        const remark = ended.status === 460 ? t("sending.damaged") : ended.message;
        for (const send of group) if (isGoing(send.entry)) this.#keeper.turn(send, isPassing ? "retrying" : "refused", remark);
        if (isPassing) failures += 1;
        if (isPassing && !(ended.status === 460 && failures === 1)) await this.#retrying.rest(lane, ended, failures);
      }
      await this.#close(group, inPieces ? undefined : FAILED_MS, ended instanceof Problem && ended.status === 460);
    }
    this.#retrying.recovered(lane);
  }

  /**
   * The session has ended: the files go on when the person has signed in again; if they do not want to, the files are held.
   * @param {Send[]} group
   * @param {string} remark
   * @param {number} since the session's `signIns` when they began
   */
  async #untilSignedIn(group, remark, since) {
    const going = group.filter(({ entry }) => isGoing(entry));
    for (const send of going) this.#keeper.turn(send, "retrying", remark);
    if (await session.again(since)) return;
    for (const send of going) if (send.entry?.sending === "retrying") this.#keeper.turn(send, "refused", remark);
  }

  /**
   * Let a group go that a lane had: what is not sent and not held waits again.
   * @param {Send[]} group
   * @param {number} [eventsMs] for a form: how long its events may take
   * @param {boolean} [keepsRemark]
   */
  async #close(group, eventsMs, keepsRemark = false) {
    if (eventsMs !== undefined) await this.#keeper.renew(group, eventsMs);
    for (const send of group) {
      send.isBusy = false;
      const { entry } = send;
      const isLeft = isGoing(entry) || entry?.sending === "retrying" || entry?.sending === "waiting";
      if (isLeft) this.#keeper.turn(send, "waiting", keepsRemark ? entry?.remark : "");
    }
  }

  /** @param {Send[]} sends */
  async #dropUnreadable(sends) {
    for (const send of sends) {
      if (isGoing(send.entry) && !(await canRead(send.item.file))) this.#keeper.dropUnreadable(send);
    }
  }
}

/** @param {Entry | null} entry */
const isGoing = (entry) => entry?.sending === "sending" || entry?.sending === "together";
