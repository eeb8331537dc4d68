// Sends one submission's files: announces them, gives each to a transfer, at most three at once, retries after temporary
// failures, seals at the end. No DOM; transfers.js sends the bytes. The model receives the state of each file; `change` is
// dispatched when the possible actions have changed.

import { Problem, callJson, furtherFiles } from "../core/api.js";
import { FormTransfer, ResumableTransfer, Stopped, canRead, removeUpload } from "./transfers.js";

/** @typedef {import("./transfers.js").Item} Item */
/** @typedef {import("../submission/model.js").Entry} Entry */
/** @typedef {import("../submission/model.js").SubmissionModel} SubmissionModel */

/**
 * @typedef {object} Send one file that this page sends
 * @property {Item} item
 * @property {Entry | null} entry null until it is announced
 * @property {ResumableTransfer | FormTransfer | null} transfer that sends it now
 */

const AT_ONCE = 3; // of the six connections that a browser opens to a host
const ANNOUNCED_AT_ONCE = 1000; // the API's limit
const LARGE = 8 * 1024 * 1024; // larger files get a resumable upload of their own
const FORM_FILES = 500; // per form: large enough to amortise its request, small enough to end soon
const FORM_BYTES = 32 * 1024 * 1024;
const RETRY_FIRST_MS = 500;
const SETTLING_MAX_MS = 60_000; // longer than the server's idle timeout of a dead connection
const RETRY_MAX_MS = 20_000;
const SPEED_OVER_S = 3; // averaging window: the number stays readable, and follows a change

/**
 * @param {Item[]} items
 * @returns {Promise<Record<string, any>>} a new, open submission; the first files are announced in it
 */
export const openSubmission = (items) => callJson("POST", "/submissions", announcement(items.slice(0, ANNOUNCED_AT_ONCE)));

/** @param {Item[]} items */
const announcement = (items) => ({
  files: items.map(({ path, file: { size, type } }) => ({ name: path.slice(path.lastIndexOf("/") + 1), path, size, type })),
});

/** A form's header cannot hold line breaks and quotes, so files with such names are sent by tus, too. @param {Item} item */
const isLarge = ({ path, file }) => file.size > LARGE || /["\r\n]/.test(path);

/**
 * Whether a retry may succeed although nobody changes anything.
 * @param {Pick<Problem, "status">} problem
 * @param {boolean} isUpload a tus upload, where 409 and 460 mean: ask for its offset
 */
export const isTemporary = ({ status }, isUpload) => status === 0 || status === 408 || status === 423 || status === 429
  || (status >= 500 && status !== 507) || (isUpload && (status === 409 || status === 460));

/** The sending of one submission's files. */
export class Sending extends EventTarget {
  #model;
  /** @type {Send[]} */
  #sends;
  /** @type {Set<Entry>} that belong to a file of this page */
  #given = new Set();
  /** @type {Map<object, Problem>} the current problem of each loop that has failed at least twice in a row */
  #troubles = new Map();
  /** @type {Set<() => void>} */
  #resting = new Set();
  #announcing = Promise.resolve();
  #lanes = 0;
  #working = 0; // running lanes and requests
  #isSealed = false;
  /** @type {Problem | null} why sending has stopped */
  #problem = null;

  /** @param {SubmissionModel} model @param {Item[]} items */
  constructor(model, items) {
    super();
    this.#model = model;
    this.#sends = items.map((item) => ({ item, entry: null, transfer: null }));
  }

  // --- what a person sees and does -----------------------------------------------------------------------------------

  /** @returns {boolean} whether it is sending or retrying */
  get isActive() {
    return this.#working > 0;
  }

  /** @returns {boolean} whether the submission is sealed: nothing is left to send */
  get isOver() {
    return this.#isSealed;
  }

  /** @returns {boolean} whether any file is sent in pieces */
  get hasLarge() {
    return this.#sends.some(({ item }) => isLarge(item));
  }

  /** @returns {boolean} whether one of those is not sent yet: its bytes on the server can be resumed later */
  get isResumable() {
    return this.#unsettled.some(({ item }) => isLarge(item));
  }

  /** @returns {string} the problem that delays it; "" if there is none */
  get trouble() {
    return [...this.#troubles.values()].at(-1)?.message ?? "";
  }

  /** @returns {{paused: number, refused: number, reason: string}} files that wait for the person, and the reason of the first refusal */
  get held() {
    const refused = this.#in("refused");
    const reason = this.#problem?.message ?? refused[0]?.entry?.remark ?? "";
    return { paused: this.#in("paused").length, refused: refused.length, reason };
  }

  /** @param {string} [id] of an entry; without it, every file that is not sent yet */
  pause(id) {
    const chosen = this.#chosen(id).filter(({ entry }) => entry?.sending && entry.sending !== "refused");
    for (const { entry } of chosen) if (entry) this.#model.turn(entry, "paused");
    for (const { transfer } of chosen) transfer?.stop();
    this.tryNow(); // waiting loops wake, find nothing to do, and end
  }

  /** Start or continue. @param {string} [id] of an entry; without it, every paused or refused file */
  resume(id) {
    this.#problem = null;
    void this.#work(async () => {
      const held = this.#chosen(id).filter(({ entry }) => entry?.sending === "paused" || entry?.sending === "refused");
      const refused = held.filter(({ entry }) => entry?.sending === "refused");
      if (refused.length) await this.#renew(refused);
      for (const { entry } of held) if (entry?.sending) this.#model.turn(entry, "waiting");
      await this.#announce();
      this.#fillLanes();
    });
  }

  /** @param {string} id of an entry that is not in a running form */
  cancel(id) {
    for (const send of this.#chosen(id)) this.#drop(send, "you cancelled it");
  }

  /** Stop sending for good. Only while nothing is being sent. */
  giveUp() {
    this.#problem = null;
    for (const send of this.#unsettled) {
      const reason = "you stopped sending";
      if (send.entry?.upload === "announced") this.#model.giveUp(send.entry, reason); // sealing aborts it on the server
      else this.#drop(send, reason);
    }
    this.#sends = this.#sends.filter(({ entry }) => entry !== null);
    this.#settle();
  }

  /** Retry now, without further delay. */
  tryNow() {
    for (const wake of this.#resting) wake();
  }

  // --- files ---------------------------------------------------------------------------------------------------------

  /** @param {string | undefined} id @returns {Send[]} */
  #chosen(id) {
    return id === undefined ? this.#unsettled : this.#sends.filter(({ entry }) => entry?.id === id);
  }

  /** @param {Entry["sending"]} sending @returns {Send[]} */
  #in(sending) {
    return this.#sends.filter(({ entry }) => entry?.sending === sending);
  }

  /** @returns {Send[]} files that are neither stored nor given up */
  get #unsettled() {
    return this.#sends.filter(({ entry }) => entry === null || entry.sending !== null);
  }

  /** Announce every file that the server does not know. Runs are serialised, or a file could be announced twice. */
  #announce() {
    const announcing = this.#announcing.then(() => this.#persist(async () => {
      let unknown = this.#match();
      if (unknown.length) unknown = await this.#refresh(); // it may know them: an answer may have been lost
      while (unknown.length) {
        for (let first = 0; first < unknown.length; first += ANNOUNCED_AT_ONCE) {
          const items = unknown.slice(first, first + ANNOUNCED_AT_ONCE).map(({ item }) => item);
          await callJson("POST", `/submissions/${this.#model.id}/files`, announcement(items));
        }
        unknown = await this.#refresh();
      }
    }));
    this.#announcing = announcing.catch(() => {});
    return announcing;
  }

  /** Update the model from the API. @returns {Promise<Send[]>} files that the server does not know */
  async #refresh() {
    const submission = await callJson("GET", `/submissions/${this.#model.id}`);
    this.#model.take(submission, true);
    for await (const files of furtherFiles(submission)) this.#model.takeFiles(files, true);
    return this.#match();
  }

  /** Give each file the entry that the server made for it. @returns {Send[]} files without one */
  #match() {
    const unknown = this.#sends.filter(({ entry }) => entry === null);
    if (unknown.length === 0) return [];
    /** @type {Map<string, Entry[]>} */
    const free = new Map();
    for (const entry of this.#model.entries) {
      if (this.#given.has(entry) || entry.upload === "aborted") continue;
      const same = free.get(entry.path);
      if (same) same.push(entry);
      else free.set(entry.path, [entry]);
    }
    for (const send of unknown) {
      const entry = free.get(send.item.path)?.shift();
      if (!entry) continue;
      send.entry = entry;
      this.#given.add(entry);
      if (entry.upload !== "stored") this.#model.turn(entry, "waiting"); // empty files are stored when announced
    }
    return unknown.filter(({ entry }) => entry === null);
  }

  /**
   * Wait until the server has stored or aborted the files of a form: after a lost connection it still stores what it has read.
   * @param {Send[]} group
   */
  async #awaitSettled(group) {
    const end = performance.now() + SETTLING_MAX_MS;
    const isStored = () => group.every(({ entry }) => entry?.upload === "stored");
    if (!isStored()) await pause(RETRY_FIRST_MS); // events mostly arrive sooner than an answer
    while (!isStored()) {
      await this.#persist(() => this.#refresh());
      if (performance.now() > end || !group.some(({ entry }) => entry?.upload === "receiving")) return;
      await pause(RETRY_FIRST_MS);
    }
  }

  /**
   * Find out what happened to files whose sending was interrupted or refused. A file that the server aborted, or that an
   * interrupted form had started, gets a new entry: the server counts both.
   * @param {Send[]} sends
   * @param {boolean} isForm whether they were sent in one
   */
  async #renew(sends, isForm = false) {
    try {
      if (isForm) await this.#awaitSettled(sends);
      else await this.#persist(() => this.#refresh());
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      for (const { entry } of sends) if (entry?.sending) this.#model.turn(entry, "refused", reason);
      return;
    }
    /** @type {[Send, Entry][]} */
    const again = [];
    for (const send of sends) {
      const { entry, item } = send;
      if (!entry?.sending) continue;
      if (entry.upload === "stored") {
        this.#model.turn(entry, null);
      } else if (entry.upload === "aborted" || (entry.upload === "receiving" && !isLarge(item))) {
        again.push([send, { ...entry }]);
        this.#model.turn(entry, null);
        send.entry = null;
      } else if (!isLarge(item)) {
        this.#model.sent(entry, 0, 0);
      }
    }
    if (again.length) await this.#announce();
    for (const [{ entry }, { sending, remark }] of again) if (entry) this.#model.turn(entry, sending, remark);
  }

  /**
   * Give a file up: here at once, on the server when the request succeeds.
   * @param {Send} send
   * @param {string} reason
   */
  #drop({ entry, transfer }, reason) {
    if (!entry?.sending) return;
    this.#model.giveUp(entry, reason);
    transfer?.stop();
    void this.#work(() => this.#persist(async () => {
      try {
        if (entry.uploadUrl) await removeUpload(entry.uploadUrl);
      } catch (error) {
        // 404, 410: it is gone already. 409: it is stored already; an event reports that.
        if (!(error instanceof Problem) || ![404, 409, 410].includes(error.status)) throw error;
      }
    }));
  }

  // --- lanes ---------------------------------------------------------------------------------------------------------

  #fillLanes() {
    while (this.#lanes < AT_ONCE) {
      const group = this.#take();
      if (group.length === 0) return;
      this.#lanes += 1;
      void this.#work(async () => {
        try {
          await this.#lane(group);
        } finally {
          this.#lanes -= 1;
        }
      });
    }
  }

  /** @returns {Send[]} what to send next, marked as being sent: small files for one form, else one large file */
  #take() {
    const waiting = this.#in("waiting");
    // Small files first: they take little time, and would wait long behind three large ones.
    const small = waiting.filter(({ item }) => !isLarge(item)).slice(0, FORM_FILES);
    let size = 0;
    const form = small.filter(({ item }) => (size += item.file.size) <= FORM_BYTES);
    const group = form.length ? form : waiting.slice(0, 1);
    const how = form.length ? "together" : "sending";
    for (const { entry } of group) if (entry) this.#model.turn(entry, how, entry.remark);
    return group;
  }

  /** Send one group after another until none is waiting. @param {Send[]} group the first one */
  async #lane(group) {
    const lane = {};
    let failures = 0;
    for (; group.length; group = this.#take()) {
      const isOne = isLarge(group[0].item);
      const ended = await this.#attempt(group);
      if (ended === null || hasMoved(group)) {
        failures = 0;
        this.#recovered(lane);
      }
      for (const send of group) send.transfer = null;
      if (ended instanceof Problem) {
        const isPassing = isTemporary(ended, isOne);
        if (isPassing && ended.status === 0) await this.#dropUnreadable(group);
        const remark = ended.status === 460 ? "a piece arrived damaged and was sent again" : ended.message;
        const next = isPassing ? "retrying" : "refused";
        for (const { entry } of group) if (isGoing(entry)) this.#model.turn(entry, next, remark);
        if (isPassing) failures += 1;
        if (isPassing && !(ended.status === 460 && failures === 1)) await this.#rest(lane, ended, failures);
      }
      if (!isOne) await this.#renew(group, true);
      for (const { entry } of group) {
        if (entry?.sending !== "retrying" && entry?.sending !== "together") continue;
        const isDamaged = ended instanceof Problem && ended.status === 460; // keep the remark while the upload continues
        this.#model.turn(entry, "waiting", isDamaged ? entry.remark : "");
      }
    }
    this.#recovered(lane);
  }

  /** @param {Send[]} group @returns {Promise<Problem | Stopped | null>} why it failed; null: it did not */
  async #attempt(group) {
    const model = this.#model;
    const speed = new Speed();
    const [{ item, entry }] = group;
    if (entry === null || entry.uploadUrl === null) throw new Error("a file was taken before it was announced");
    const transfer = isLarge(item)
      ? new ResumableTransfer(entry.uploadUrl, item.file, (received) => model.sent(entry, received, speed.at(received)))
      : new FormTransfer(model.id, group.map((send) => ({ id: send.entry?.id ?? "", ...send.item })), (index, sent) => {
        const before = group.slice(0, index);
        for (const send of before) if (send.entry) model.sent(send.entry, send.item.file.size, 0);
        const now = speed.at(before.reduce((sum, send) => sum + send.item.file.size, sent));
        const current = group[index].entry;
        if (current) model.sent(current, sent, now);
      });
    for (const send of group) send.transfer = transfer;
    try {
      await transfer.run();
      if (isLarge(item)) model.turn(entry, null, entry.remark);
      return null;
    } catch (error) {
      for (const send of group) if (send.entry?.speed) model.sent(send.entry, send.entry.received, 0);
      return error instanceof Problem || error instanceof Stopped ? error : new Problem(0, { detail: String(error) });
    }
  }

  /** @param {Send[]} sends */
  async #dropUnreadable(sends) {
    for (const send of sends) {
      if (!isGoing(send.entry) || (await canRead(send.item.file))) continue;
      this.#drop(send, "the file was changed or can no longer be read");
    }
  }

  // --- retrying -----------------------------------------------------------------------------------------------------

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
    this.#settle();
    this.#changed();
  }

  /** Seal the submission once nothing is left to send. */
  #settle() {
    if (this.#working || this.#isSealed || this.#problem || this.#unsettled.length) return;
    void this.#work(async () => {
      this.#model.take(await this.#persist(() => callJson("POST", `/submissions/${this.#model.id}/seal`)), true);
      this.#isSealed = true;
    });
  }

  /**
   * Repeat a request until it succeeds: a lost connection or a restart of the server only delays it.
   * @template T
   * @param {() => Promise<T>} action
   * @returns {Promise<T>}
   * @throws {Problem} a permanent one
   */
  async #persist(action) {
    const who = {};
    for (let failures = 1; ; failures += 1) {
      try {
        const result = await action();
        this.#recovered(who);
        return result;
      } catch (error) {
        if (!(error instanceof Problem) || !isTemporary(error, false)) {
          this.#recovered(who);
          throw error;
        }
        await this.#rest(who, error, failures);
      }
    }
  }

  /** @param {object} who @param {Problem} problem @param {number} failures in a row */
  async #rest(who, problem, failures) {
    if (failures > 1) {
      this.#troubles.set(who, problem); // a first failure is shown in the row only: most retries succeed
      this.#changed();
    }
    const wait = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
    await new Promise((/** @type {(_: void) => void} */ resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#resting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, wait);
      this.#resting.add(wake);
    });
  }

  /** @param {object} who */
  #recovered(who) {
    if (this.#troubles.delete(who)) this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {Entry | null} entry @returns {entry is Entry} */
const isGoing = (entry) => entry !== null && (entry.sending === "sending" || entry.sending === "together");

/** @param {Send[]} group */
const hasMoved = (group) => group.some(({ entry, transfer }) => entry?.upload === "stored"
  || (transfer instanceof ResumableTransfer && transfer.hasMoved));

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Bytes per second, smoothed exponentially. */
class Speed {
  #value = 0;
  #last = { at: 0, bytes: -1 };

  /** @param {number} bytes sent so far @returns {number} */
  at(bytes) {
    const at = performance.now();
    const { at: before, bytes: had } = this.#last;
    if (had < 0 || bytes < had || at === before) {
      if (at !== before) this.#last = { at, bytes };
      return this.#value;
    }
    const seconds = (at - before) / 1000;
    const weight = this.#value === 0 ? 1 : 1 - Math.exp(-seconds / SPEED_OVER_S);
    this.#value += weight * ((bytes - had) / seconds - this.#value);
    this.#last = { at, bytes };
    return this.#value;
  }
}
