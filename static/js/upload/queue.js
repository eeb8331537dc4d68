// Sends files of one submission: announces them or goes on with what the server has of them, has lanes.js send them, and seals at
// the end. No DOM. The model receives the state of each file; `change` is dispatched when the possible actions have changed.

import { Problem, callJson } from "../core/api.js";
import { t } from "../core/messages.js";
import { session } from "../core/session.js";
import { FINAL_CAUSES } from "../submission/model.js";
import { ANNOUNCED_AT_ONCE, Roll, isOpen } from "./announcing.js";
import { fingerprintOf } from "./fingerprint.js";
import { KeptFiles } from "./kept-files.js";
import { Lanes } from "./lanes.js";
import { inParallel } from "./parallel.js";
import { recognise } from "./recognise.js";
import { Retrying } from "./retrying.js";
import { disconnected, removeUpload, uploadUrl } from "./transfers.js";

export { openSubmission } from "./announcing.js";

/** @typedef {import("./transfers.js").Item} Item */
/** @typedef {import("./attempt.js").Send} Send */
/** @typedef {import("../submission/model.js").Entry} Entry */
/** @typedef {import("../submission/model.js").SubmissionModel} SubmissionModel */

/**
 * @typedef {object} Taken what became of files that were added or picked again
 * @property {Item[]} resumed files that go on, or begin anew in their row
 * @property {Item[]} added new files of the submission
 * @property {Item[]} stored files that the server has already
 * @property {Item[]} ended files that were cancelled or refused before: not sent
 * @property {[Item, Entry][]} changed files that differ from the ones whose names they have: not sent
 * @property {Item[]} other files that are none of the submission, or came too late for it: not sent
 */

const LARGE = 8 * 1024 * 1024; // larger files get a resumable upload of their own
const LOOK_MS = 500; // between two looks at files that the server is storing; events mostly arrive sooner
const SETTLING_MAX_MS = 60_000; // longer than the server's idle timeout of a dead connection

/** A form's header cannot hold line breaks and quotes, so files with such names are sent by tus, too. @param {Item} item */
const isLarge = ({ path, file }) => file.size > LARGE || /["\r\n]/.test(path);

/** What this page sends of one submission. */
export class Sending extends EventTarget {
  #model;
  #roll;
  #kept;
  /** @type {Set<Send>} */
  #sends = new Set();
  /** @type {Map<string, Send>} by the id of its entry, and of each that it replaced */
  #byEntry = new Map();
  #retrying = new Retrying(() => this.#changed());
  #lanes;
  #announcing = Promise.resolve();
  #isListKnown = true; // false while the server may have announced files whose answer was lost
  #isPaused = false;
  #working = 0; // running lanes and requests
  #isEnded = false; // whether the person stopped sending, and wants none of what broke off
  #isMine = false; // whether this page may seal: it or this browser sends some of it, or its person ends it
  #isSealed = false;
  /** @type {Problem | null} why sending has stopped */
  #problem = null;

  /** @param {SubmissionModel} model @param {Item[]} [items] files to send, in their order */
  constructor(model, items = []) {
    super();
    this.#model = model;
    this.#roll = new Roll(model);
    this.#kept = new KeptFiles(model.id);
    this.#lanes = new Lanes(model, this.#retrying, {
      turn: (send, sending, remark) => this.#turn(send, sending, remark),
      renew: (sends, eventsMs) => this.#renew(sends, eventsMs),
      dropUnreadable: (send) => this.#drop(send, t("sending.unreadable"), "unreadable"),
      work: (action) => this.#work(action),
    });
    for (const item of items) this.#add(item);
    model.expected = items.length;
    model.addEventListener("change", () => this.#seal()); // the last file may be another page's
  }

  // --- what a person sees and does -----------------------------------------------------------------------------------

  /** @returns {boolean} whether it is sending or retrying: leaving the page would end that */
  get isSending() {
    const isGoing = (/** @type {Send} */ { entry }) => (entry === null ? !this.#isPaused : entry.sending !== "paused" && entry.sending !== "refused");
    return this.#working > 0 && this.#unsettled.some(isGoing);
  }

  /** @returns {boolean} whether it is sending, or ends the submission, or tells the server what is not sent any more */
  get isActive() {
    return this.#working > 0 && (this.#unsettled.length === 0 || this.isSending);
  }

  /** @returns {boolean} whether the submission is sealed: nothing is left to send */
  get isOver() {
    return this.#isSealed || (!this.#model.isOpen && this.#unsettled.length === 0);
  }

  /** @returns {boolean} whether only the seal is left to do: no page sends anything more, as far as this page knows */
  get isSealDue() {
    return this.#isMine && this.#model.isOpen && !this.#isSealed && !this.#problem && this.#model.isComplete && this.#unsettled.length === 0
      && !this.#model.entries.some(({ upload, isBroken }) => upload === "announced" || upload === "receiving" || (isBroken && !this.#isEnded));
  }

  /** @returns {boolean} whether any file is sent in pieces */
  get hasLarge() {
    return [...this.#sends].some(({ inPieces }) => inPieces);
  }

  /** @returns {string} the problem that delays it; "" if there is none */
  get trouble() {
    return this.#retrying.trouble;
  }

  /**
   * @returns {{paused: number, refused: number, broken: number, kept: number, reason: string}} files that wait for the person:
   *   `broken` are not sent by any page, this browser keeps `kept` of them; and the reason of the first refusal
   */
  get held() {
    let paused = 0;
    let refused = 0;
    let reason = this.#problem?.message ?? "";
    for (const { entry } of this.#sends) {
      if (entry?.sending === "paused") paused += 1;
      if (entry?.sending !== "refused") continue;
      refused += 1;
      reason ||= entry.remark;
    }
    const broken = this.#model.isOpen ? this.#broken : [];
    return { paused, refused, broken: broken.length, kept: broken.filter(({ canContinue }) => canContinue).length, reason };
  }

  /** Start what was given to the constructor. */
  start() {
    this.resume();
    void this.#kept.tidy(isOpen);
  }

  /** @param {string} [id] of an entry; without it, every file that is not sent yet */
  pause(id) {
    if (id === undefined) this.#isPaused = true; // what is announced from now on waits, too
    const chosen = this.#chosen(id).filter(({ entry }) => entry?.sending && entry.sending !== "refused");
    for (const send of chosen) this.#turn(send, "paused");
    for (const transfer of new Set(chosen.map((send) => send.transfer))) transfer?.stop();
    this.tryNow(); // waiting loops wake, find nothing to do, and end
    this.#changed();
  }

  /** @param {string} [id] of an entry; without it, every paused or refused file goes on */
  resume(id) {
    this.#problem = null;
    if (session.isNeeded) session.ask();
    if (id === undefined) this.#isPaused = false;
    const held = this.#chosen(id).filter(({ entry }) => entry?.sending === "paused" || entry?.sending === "refused");
    void this.#run(async () => {
      const refused = held.filter(({ entry }) => entry?.sending === "refused");
      if (refused.length) await this.#renew(refused);
      for (const send of held) if (send.entry?.sending) this.#turn(send, "waiting");
      await this.#announce();
    });
  }

  /** @param {string} id of an entry that is not in a running form */
  cancel(id) {
    for (const send of this.#chosen(id)) this.#drop(send, t("sending.cancelled"), "cancelled");
  }

  /** Stop sending for good, what broke off as well. Only while nothing is being sent. */
  giveUp() {
    this.#problem = null;
    this.#isMine = this.#isEnded = true;
    const reason = t("sending.stopped");
    /** @param {Entry} entry @param {boolean} hasBegun whether the server may have bytes of it, although no event said so yet */
    const end = (entry, hasBegun) => {
      if (entry.upload === "aborted" && FINAL_CAUSES.has(entry.cause ?? "")) this.#model.turn(entry, null);
      else if (hasBegun || entry.upload === "receiving" || entry.upload === "aborted") void this.#remove(entry, reason, "cancelled");
      else this.#model.giveUp(entry, reason, "cancelled"); // sealing aborts it on the server
    };
    for (const send of this.#unsettled) {
      const entry = send.entry ?? send.replaces;
      this.#turn(send, null);
      if (send.entry === null) this.#sends.delete(send);
      if (entry) end(entry, send.inPieces && send.hasBegun);
    }
    for (const entry of this.#broken) end(entry, false);
    this.#model.expected = 0; // what is not announced by now never will be
    this.#seal();
    this.#changed();
  }

  /** Retry now, without further delay. */
  tryNow() {
    this.#retrying.now();
  }

  /** The device has no network. What is being sent may still arrive: the server can be on this device. */
  offline() {
    this.#model.stall();
  }

  /** The network is back: what has not moved since it went is begun again at once. */
  online() {
    const stalled = [...this.#sends].filter(({ entry }) => entry?.isStalled);
    for (const transfer of new Set(stalled.map((send) => send.transfer))) transfer?.stop(disconnected());
    this.tryNow();
  }

  // --- after a reload ------------------------------------------------------------------------------------------------

  /** Find out what this browser remembers of the submission; seal it if this browser had sent all of it. */
  async remember() {
    if (!this.#model.isOpen) {
      await this.#kept.forget();
      return;
    }
    await this.#kept.read();
    this.#isMine ||= !this.#kept.isEmpty;
    for (const entry of this.#model.entries) if (this.#kept.canOpen(entry.id)) this.#model.keep(entry, true);
    this.#changed();
    this.#seal();
  }

  /**
   * Resume files whose handles this browser keeps. Call it in the handler of a click: the browser asks the person whether
   * this page may read them again.
   * @param {string} [id] of an entry; without it, every one that can be resumed and that nobody has cancelled
   * @returns {Promise<{resumed: number, changed: [Item, Entry][], missing: Entry[], isDenied: boolean}>} how many resume, those
   *   that were changed or are not there any more, and whether the permission was denied for some
   */
  async resumeKept(id) {
    const chosen = this.#wanted.filter((entry) => this.#kept.canOpen(entry.id)
      && (id === undefined ? !entry.isSending && !hasEnded(entry) : entry.id === id));
    const { items, missing, isDenied } = await this.#kept.open(chosen);
    for (const entry of missing) this.#model.keep(entry, false); // it can still be picked by hand
    const { same, changed } = await recognise(items, chosen, [], (entry) => this.#kept.modified(entry.id));
    this.#adopt(same);
    return { resumed: same.length, changed, missing, isDenied };
  }

  /**
   * Go on with files that a person picked again, and send new ones.
   * @param {Item[]} items
   * @param {boolean} [isNewWelcome] whether files that are none of the submission are added to it, and those that were cancelled
   *   or refused are sent after all
   * @returns {Promise<Taken>} when new files are announced
   */
  async add(items, isNewWelcome = true) {
    const ended = isNewWelcome ? [] : this.#model.entries.filter(hasEnded);
    const wanted = this.#wanted.filter((entry) => !ended.includes(entry));
    const had = [...this.#model.entries.filter(({ upload }) => upload === "stored"), ...ended];
    const { same, changed, stored, other } = await recognise(items, wanted, had, ({ id }) => this.#kept.modified(id));
    this.#adopt(same);
    const paths = new Set(ended.map(({ path }) => path));
    /** @type {Taken} */
    const taken = {
      resumed: same.map(([item]) => item), added: [], changed, other,
      stored: stored.filter(({ path }) => !paths.has(path)), ended: stored.filter(({ path }) => paths.has(path)),
    };
    if (!isNewWelcome || other.length === 0) return taken;
    const sends = this.#model.isOpen ? other.map((item) => this.#add(item)) : [];
    this.#model.expected = this.#model.total + sends.length;
    await this.#run(() => this.#announce());
    if (this.#problem?.body.code === "submission_sealed") { // since the page heard of it last
      for (const send of sends) if (send.entry === null) this.#sends.delete(send);
      this.#model.expected = 0;
      this.#problem = null;
      this.#changed();
    }
    const added = new Set(sends.filter((send) => this.#sends.has(send)).map(({ item }) => item));
    taken.added = [...added];
    taken.other = other.filter((item) => !added.has(item));
    return taken;
  }

  /**
   * Send the rest of a file that the server has partly, or all of it. What it had must be of the same file.
   * @param {Entry} entry
   * @param {Item} item
   */
  adopt(entry, item) {
    this.#adopt([[item, entry]]);
  }

  /** @param {[Item, Entry][]} files */
  #adopt(files) {
    for (const [item, entry] of files) {
      if (this.#byEntry.has(entry.id)) continue;
      const send = this.#add(item);
      this.#byEntry.set(entry.id, send);
      this.#roll.take(entry);
      if (entry.upload === "aborted") { // a form was cut off in it: nothing of it is left
        send.replaces = entry;
        continue;
      }
      send.entry = entry;
      send.inPieces ||= entry.upload === "receiving";
      send.hasBegun = entry.upload === "receiving";
      this.#turn(send, this.#isPaused ? "paused" : "waiting");
    }
    void this.#run(() => this.#announce());
  }

  /**
   * Send a file from its beginning in the place of an entry, whose bytes the server removes.
   * @param {Entry} entry
   * @param {Item} item
   */
  restart(entry, item) {
    if (this.#byEntry.has(entry.id)) return;
    const send = this.#add(item);
    this.#byEntry.set(entry.id, send);
    send.replaces = entry;
    void this.#run(async () => {
      if (entry.upload !== "aborted") await this.#remove(entry, t("sending.replaced"), "cancelled");
      await this.#announce();
    });
  }

  // --- files ---------------------------------------------------------------------------------------------------------

  /** @param {Item} item */
  #add(item) {
    /** @type {Send} */
    const send = { item, entry: null, replaces: null, inPieces: isLarge(item), hasBegun: false, isBusy: false, transfer: null };
    this.#sends.add(send);
    this.#isMine = true;
    this.#isEnded = false;
    return send;
  }

  /** @param {string | undefined} id @returns {Send[]} */
  #chosen(id) {
    if (id === undefined) return this.#unsettled;
    const send = this.#byEntry.get(id);
    return send ? [send] : [];
  }

  /** @returns {Send[]} files that are neither stored nor given up */
  get #unsettled() {
    return [...this.#sends].filter(({ entry }) => entry === null || entry.sending !== null);
  }

  /** @returns {Entry[]} files that nobody sends although their bytes are awaited */
  get #broken() {
    return this.#model.entries.filter(({ isBroken }) => isBroken);
  }

  /** @returns {Entry[]} files that this page may send; those in which a form was cut off, or that were cancelled, from their beginning */
  get #wanted() {
    return this.#model.entries.filter(({ id, upload }) => !this.#byEntry.has(id) && upload !== "stored");
  }

  /** @param {Send} send @param {Entry["sending"]} sending @param {string} [remark] */
  #turn(send, sending, remark = "") {
    if (!send.entry) return;
    this.#model.turn(send.entry, sending, remark);
    this.#lanes.note(send);
  }

  /** Announce every file that the server does not know, and send what is announced. Runs are serialised, or a file could be announced twice. */
  #announce() {
    const announcing = this.#announcing.then(async () => {
      if (!this.#isListKnown || this.#unknown.length) {
        await this.#match();
        this.#lanes.fill(); // those that were announced when the submission was opened go while the others are announced
      }
      for (let unknown = this.#unknown; unknown.length; unknown = this.#unknown) {
        const some = unknown.slice(0, ANNOUNCED_AT_ONCE);
        await this.#retrying.persist(async () => {
          if (!this.#isListKnown) await this.#readNew(); // an answer may have been lost
          const left = some.filter(({ entry }) => entry === null);
          if (left.length === 0) return;
          const posting = this.#roll.announce(left.map(({ item }) => item));
          this.#isListKnown = false;
          void inParallel(unknown.slice(some.length, 2 * some.length), ({ item }) => fingerprintOf(item.file)); // meanwhile
          await posting;
          await this.#readNew();
          if (left.some(({ entry }) => entry === null)) throw new Problem(409, { detail: t("sending.unlisted") });
        });
        this.#lanes.fill();
      }
    });
    this.#announcing = announcing.catch(() => {});
    return announcing;
  }

  /** @returns {Send[]} */
  get #unknown() {
    return [...this.#sends].filter(({ entry }) => entry === null);
  }

  async #readNew() {
    await this.#roll.readNew();
    this.#isListKnown = true;
    await this.#match();
  }

  /** Give each file the entry that the server made for it. */
  async #match() {
    const unknown = this.#unknown;
    const entries = await this.#roll.match(unknown.map(({ item }) => item));
    /** @type {{id: string, item: Item}[]} */
    const announced = [];
    this.#model.together(() => unknown.forEach((send, index) => {
      const entry = entries[index];
      if (!entry) return;
      const before = send.replaces;
      send.entry = entry;
      send.replaces = null;
      this.#byEntry.set(entry.id, send);
      if (entry.upload === "stored") return; // empty files are stored when announced
      const isHeld = this.#isPaused || before?.sending === "paused";
      this.#turn(send, isHeld ? "paused" : "waiting", before?.remark);
      if (before) this.#model.replace(before.id, entry.id);
      announced.push({ id: entry.id, item: send.item });
    }));
    if (announced.length) void this.#kept.keep(announced);
  }

  /**
   * Wait until the server has stored or aborted the files of a form: after a lost connection it still stores what it has read.
   * @param {Send[]} group
   * @param {number} eventsMs how long events may take
   */
  async #awaitSettled(group, eventsMs) {
    const end = performance.now() + SETTLING_MAX_MS;
    const entries = group.flatMap(({ entry }) => entry ?? []);
    const isStored = () => entries.every(({ upload }) => upload === "stored");
    await this.#until(isStored, eventsMs);
    while (!isStored()) {
      await this.#retrying.persist(() => this.#roll.readAgain(entries.filter(({ upload }) => upload !== "stored")));
      if (performance.now() > end || !entries.some(({ upload }) => upload === "receiving")) return;
      await this.#until(isStored, LOOK_MS);
    }
  }

  /** @param {() => boolean} isSo about the model @param {number} ms at most @returns {Promise<void>} */
  #until(isSo, ms) {
    return new Promise((resolve) => {
      const look = () => { if (isSo()) end(); };
      const end = () => {
        clearTimeout(timer);
        this.#model.removeEventListener("change", look);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#model.addEventListener("change", look);
      look();
    });
  }

  /**
   * Find out what happened to files whose sending was interrupted or refused. A file that the server aborted, or that an
   * interrupted form had started, is announced again; its row goes on.
   * @param {Send[]} sends
   * @param {number} [eventsMs] how long events may take; only for a form
   */
  async #renew(sends, eventsMs) {
    try {
      if (eventsMs !== undefined) await this.#awaitSettled(sends, eventsMs);
      else await this.#retrying.persist(() => this.#roll.readAgain(sends.flatMap(({ entry }) => entry ?? [])));
    } catch (error) {
      this.#refuse(sends, error);
      return;
    }
    /** @type {Send[]} */
    const again = [];
    this.#model.together(() => sends.forEach((send) => {
      const { entry } = send;
      if (!entry?.sending) return;
      if (entry.upload === "stored") {
        this.#turn(send, null);
      } else if (entry.upload === "aborted" || (entry.upload === "receiving" && !send.inPieces)) {
        if (entry.sending === "refused") this.#model.turn(entry, "together"); // until its new entry is there
        send.replaces = entry;
        send.entry = null;
        again.push(send);
      } else if (!send.inPieces) {
        this.#model.sent(entry, 0, 0);
      }
    }));
    if (again.length === 0) return;
    try {
      await this.#announce();
    } catch (error) {
      for (const send of again) if (send.entry === null) [send.entry, send.replaces] = [send.replaces, null];
      this.#refuse(again, error);
    }
  }

  /** @param {Send[]} sends @param {unknown} error */
  #refuse(sends, error) {
    const reason = error instanceof Error ? error.message : String(error);
    for (const send of sends) if (send.entry?.sending) this.#turn(send, "refused", reason);
  }

  /**
   * Give a file up.
   * @param {Send} send
   * @param {string} reason
   * @param {"cancelled" | "unreadable"} cause
   */
  #drop(send, reason, cause) {
    const { entry, transfer } = send;
    if (!entry?.sending) return;
    this.#turn(send, null);
    void this.#remove(entry, reason, cause);
    transfer?.stop();
  }

  /**
   * Give a file up: here at once, on the server when the request succeeds.
   * @param {Entry} entry
   * @param {string} reason
   * @param {"cancelled" | "unreadable"} cause
   */
  #remove(entry, reason, cause) {
    return this.#work(async () => { // counted before the model hears of it: the last file's end would seal
      this.#model.giveUp(entry, reason, cause);
      void this.#kept.drop(entry.id);
      await this.#retrying.persist(async () => {
        try {
          await removeUpload(entry.uploadUrl ?? uploadUrl(entry.id), cause);
        } catch (error) {
          // 404, 410: it is gone already, or was sealed. 409: it is stored already; an event reports that.
          if (!(error instanceof Problem) || ![404, 409, 410].includes(error.status)) throw error;
        }
      });
    });
  }

  // --- the end -----------------------------------------------------------------------------------------------------

  /** Do something, then send what is waiting. @param {() => Promise<unknown>} action */
  #run(action) {
    return this.#work(async () => {
      await action();
      this.#lanes.fill();
    });
  }

  /** Count an action as work until it has ended. @param {() => Promise<unknown>} action */
  async #work(action) {
    this.#working += 1;
    this.#changed();
    try {
      await action();
    } catch (error) {
      this.#problem = error instanceof Problem ? error : new Problem(0, { detail: String(error) });
    }
    this.#working -= 1;
    this.#seal();
    this.#changed();
  }

  /** Seal the submission once nothing is left to send. */
  #seal() {
    if (this.#working || !this.isSealDue) return;
    void this.#work(async () => {
      this.#model.take(await this.#retrying.persist(() => callJson("POST", `/submissions/${this.#model.id}/seal`)), true);
      this.#isSealed = true;
      await this.#kept.forget();
    });
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {Entry} entry @returns {boolean} whether nobody expects it any more: it was cancelled, refused or unreadable */
const hasEnded = ({ upload, isBroken, sending }) => upload === "aborted" && !isBroken && sending === null;
