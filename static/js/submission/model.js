// One submission as the page knows it: the server's snapshot, the events after it, and what this page sends. No DOM.
// Folding an event twice, or one that the snapshot includes, leads to the same state. An event costs the same with one file
// and with 10,000: counts and sums are kept up to date, not computed.

import { stateOf } from "../core/words.js";

/** @typedef {import("../core/live.js").LiveEvent} LiveEvent */
/** @typedef {import("../core/live.js").ProgressMessage} ProgressMessage */

/**
 * @typedef {object} Job
 * @property {string} id
 * @property {"queued" | "running" | "succeeded" | "failed" | "cancelled"} state
 * @property {string | null} started_at
 * @property {number | null} duration seconds of the newest attempt
 * @property {number | null} position in the queue, 1 is next; an estimate
 * @property {number | null} exit_code -n is signal n
 * @property {{type: string, message: string} | null} error
 * @property {number} output_size
 * @property {number} result_count results of the newest attempt
 * @property {{path: string, size: number}[]} results the first of them
 * @property {number} attempts how many were started
 * @property {{value: number, total: number | null, label: string | null} | null} progress
 */

/**
 * @typedef {object} Entry one file
 * @property {string} id
 * @property {string} path given by the client
 * @property {number | null} size
 * @property {number} received bytes
 * @property {"announced" | "receiving" | "stored" | "aborted"} upload
 * @property {string | null} error why the upload was aborted, for people
 * @property {string | null} cause why the upload was aborted, for programs: `cancelled`, or one of the API's other causes
 * @property {boolean} isSending whether some connection brings its bytes now, of this page or another one
 * @property {boolean} isBroken whether it can still be sent and nobody does: its bytes are awaited, or it was cut off and nothing
 *   of it is left
 * @property {boolean} canContinue whether this browser keeps the file, so that this page can send the rest
 * @property {number} speed bytes a second while this page sends it; else 0
 * @property {Job | null} job
 * @property {string | null} fingerprint by which the file is recognised when a person picks it again; null if none was announced
 * @property {string | null} uploadUrl address for its bytes in requests of their own (tus)
 * @property {"waiting" | "sending" | "together" | "paused" | "retrying" | "refused" | null} sending state of the
 *   sending on this page: `together` in a form with others, `retrying` and `refused` after a failure; null: not sent here
 * @property {boolean} isStalled whether this page sends it, but this device is offline
 * @property {string} remark a note about its sending
 * @property {boolean} endsStored whether the page hears nothing more of it once it is stored
 */

/** @typedef {Record<"announced" | "receiving" | "broken" | "paused" | "retrying" | "refused" | "stored" | "arrived" | "aborted" | "given_up" | "queued" | "running" | "succeeded" | "failed" | "cancelled", number>} Counts by `stateOf` */
/** @typedef {{state: keyof Counts, received: number, size: number, speed: number, isSending: boolean, hasResults: boolean}} Tally what an entry adds to the sums */

/** @type {Record<string, number>} uploads never go back */
const UPLOAD_ORDER = { announced: 0, receiving: 1, stored: 2, aborted: 2 };
/** Causes after which sending the same file again would change nothing. */
export const FINAL_CAUSES = new Set(["cancelled", "unreadable", "refused", "replaced"]);
/** @type {(keyof Counts)[]} states of files whose bytes have not all come, and may still come */
const COMING = ["announced", "receiving", "broken", "paused", "retrying", "refused"];

/** @type {Record<string, (model: SubmissionModel, event: LiveEvent) => void>} what an event changes in the submission */
const FOLD_SUBMISSION = {
  "submission.opened": (model, { at, subject }) => {
    model.openedAt = at;
    model.client ??= subject.client;
  },
  "client.identified": (model, { data }) => {
    if (model.client) Object.assign(model.client, data);
  },
  "submission.sealed": (model) => model.seal(),
  "submission.settled": (model, { at }) => { model.settledAt = at; },
  "job.queued": (model) => { model.settledAt = null; },
};

/** @type {Record<string, (entry: Entry, event: LiveEvent) => void>} what an event changes in its file */
const FOLD_FILE = {
  "upload.started": (entry, { data }) => {
    if (entry.upload === "announced") entry.upload = "receiving"; // not one that this page has given up meanwhile
    entry.size = data.size ?? entry.size;
  },
  "upload.stored": (entry, { data }) => {
    Object.assign(entry, { upload: "stored", size: data.size, received: data.size, speed: 0, isSending: false });
  },
  "upload.aborted": (entry, { data }) => {
    abort(entry, data.cause ?? null, data.reason);
  },
  "job.queued": (entry, { subject }) => {
    entry.job = {
      id: subject.job_id, state: "queued", started_at: null, duration: null, position: null,
      exit_code: null, error: null, output_size: 0, result_count: 0, results: [],
      attempts: entry.job?.attempts ?? 0, progress: null,
    };
  },
  "attempt.started": ({ job }, { at, subject }) => {
    if (job) Object.assign(job, { state: "running", started_at: at, attempts: subject.attempt, progress: null, position: null });
  },
  "job.settled": ({ job }, { data }) => {
    const { state, exit_code, error, duration, output_size, result_count = 0, results = [] } = data;
    if (job) Object.assign(job, { state, exit_code, error, duration, output_size, result_count, results, progress: null, position: null });
  },
};

/** Events that change no submission, each for its reason. The live log shows them all the same. */
export const IGNORED_EVENTS = new Set([
  "attempt.succeeded", "attempt.failed", "attempt.cancelled", "attempt.lost", // job.settled or job.queued has the outcome
  "job.cancel_requested", "job.retry_requested", // what comes of them has events of its own
  "config.saved", "config.rejected", "config.purged", // of the topic `config`: config-page.js, config-problem.js
  "notice.posted", "notice.withdrawn", // core/notices.js shows and drops it, by messages of their own
  "link.made", "link.used", "link.revoked", // about no submission
  "account.signed_in", "account.signed_out", "account.refused", "account.changed", // about no submission
]);

/** Events that change a submission or one of its files. */
export const FOLDED_EVENTS = new Set([...Object.keys(FOLD_SUBMISSION), ...Object.keys(FOLD_FILE)]);

/** @returns {Counts} */
export const noCounts = () => ({
  announced: 0, receiving: 0, broken: 0, paused: 0, retrying: 0, refused: 0, stored: 0, arrived: 0, aborted: 0, given_up: 0, queued: 0,
  running: 0, succeeded: 0, failed: 0, cancelled: 0,
});

const AWAY_AFTER_MS = 6000; // a sender begins with its first file within seconds, and pauses for less between two

/** Dispatches `change` (CustomEvent<Set<string> | null>: ids of changed entries, null when entries came or went). */
export class SubmissionModel extends EventTarget {
  /** @type {string} */
  id;
  /** @type {Entry[]} in the order of the submission */
  entries = [];
  isOpen = true;
  /** How many files this page is about to announce: known before the server has them all. */
  expected = 0;
  /** @type {string | null} */
  openedAt = null;
  /** @type {string | null} */
  settledAt = null;
  /** @type {{ip: string, host: string | null, verified: boolean, domain: string | null} | null} */
  client = null;
  /** @type {Set<Entry>} whose script runs */
  running = new Set();
  /** @type {Map<string, Entry>} */
  #byId = new Map();
  /** @type {Map<string, Entry>} the newest entry of each path */
  #newest = new Map();
  /** @type {Map<Entry, Entry>} the entry with the same path before it */
  #earlier = new Map();
  /** @type {Set<string>} ids of files that others have replaced */
  #replaced = new Set();
  /** @type {Map<string, LiveEvent[]>} events of files that are not loaded yet, by file id */
  #early = new Map();
  /** @type {Map<Entry, Tally>} what each entry has added to the sums */
  #tallies = new Map();
  #counts = noCounts();
  #bytes = { received: 0, total: 0 };
  #speed = 0;
  #sendingFiles = 0;
  #withResults = 0;
  /** Files that the first answer counted: until so many are loaded, the server's counts are shown. */
  #awaited = 0;
  #serverCounts = noCounts();
  #isSenderAway = false;
  #senderSeenAt = 0;
  #now = 0;
  /** @type {{ids: Set<string> | null, isDue: boolean} | null} the changes that `together` gathers; null: listeners hear of each change at once */
  #gathered = null;
  #seesJobs;

  /**
   * @param {string} id
   * @param {{seesJobs?: boolean}} [options] `seesJobs`: whether the server tells this page what the script makes of the files; a link
   *   may leave that out
   */
  constructor(id, { seesJobs = true } = {}) {
    super();
    this.id = id;
    this.#seesJobs = seesJobs;
  }

  /**
   * Update from a Submission of the API, which lists its first files.
   * @param {Record<string, any>} submission of the API
   * @param {boolean} [mayBeBehind] newer events than this answer may be folded already: take only what never goes
   *   back
   */
  take(submission, mayBeBehind = false) {
    if (submission.state !== "open") this.seal();
    this.openedAt = submission.opened_at;
    if (!mayBeBehind) this.settledAt = submission.settled_at;
    this.client ??= submission.client;
    if (submission.counts && (this.entries.length === 0 || !this.isComplete)) {
      this.#serverCounts = { ...noCounts(), ...submission.counts };
      if (!this.#seesJobs) Object.assign(this.#serverCounts, { arrived: submission.counts.succeeded, succeeded: 0 });
      this.#awaited = sumOf(this.#serverCounts);
    }
    this.takeFiles(submission.files, mayBeBehind);
  }

  /** @param {any[]} files of the API @param {boolean} [mayBeBehind] as for `take` */
  takeFiles(files, mayBeBehind = false) {
    /** @type {Entry[]} */
    const touched = [];
    const before = this.entries.length;
    const wasComplete = this.isComplete;
    for (const file of files) {
      if (this.#replaced.has(file.id)) continue;
      const known = this.#byId.get(file.id);
      const entry = known ?? this.#add(file.id, file.path || file.name);
      touched.push(entry);
      entry.size = file.size ?? entry.size;
      entry.uploadUrl = file.upload_url ?? entry.uploadUrl;
      entry.fingerprint = file.fingerprint ?? entry.fingerprint;
      if (!known || !mayBeBehind) entry.isSending = file.is_sending ?? true;
      if (!entry.sending) entry.received = Math.max(entry.received, file.received);
      if (UPLOAD_ORDER[file.state] >= UPLOAD_ORDER[entry.upload]) {
        entry.upload = file.state;
        if (file.state === "aborted") abort(entry, file.cause ?? null, file.error ?? null);
      }
      if (file.job && !(mayBeBehind && entry.job)) entry.job = { ...file.job, attempts: file.job.attempts.length };
      for (const event of this.#early.get(file.id) ?? []) FOLD_FILE[event.name]?.(entry, event);
      this.#early.delete(file.id);
    }
    this.#changed(touched, this.entries.length !== before || this.isComplete !== wasComplete);
    if (!wasComplete && this.isComplete) { // what is left is about files that were announced since
      const events = [...this.#early.values()].flat().sort((one, other) => one.cursor - other.cursor);
      this.#early.clear();
      this.fold(events);
    }
  }

  /**
   * Say which files are being sent at this moment, by whomever.
   * @param {string[]} fileIds all of them
   */
  takeSending(fileIds) {
    const ids = new Set(fileIds);
    const changed = this.entries.filter((entry) => entry.isSending !== ids.has(entry.id));
    for (const entry of changed) entry.isSending = ids.has(entry.id);
    if (changed.length) this.#changed(changed);
  }

  /** Notice when nobody sends what was announced. Called each second. @param {number} now ms since 1970 by the server's clock */
  tick(now) {
    this.#now = now;
    if (this.#sendingFiles > 0) this.#senderSeenAt = now;
    const isAway = this.isOpen && now - Math.max(this.#senderSeenAt, Date.parse(this.openedAt ?? "") || 0) > AWAY_AFTER_MS;
    if (isAway === this.#isSenderAway) return;
    this.#isSenderAway = isAway;
    this.#changed(this.entries.filter(({ upload }) => upload === "announced"));
  }

  /**
   * Set the state of a file's sending.
   * @param {Entry} entry
   * @param {Entry["sending"]} sending null: sent, or given up
   * @param {string} [remark]
   */
  turn(entry, sending, remark = "") {
    const isGoing = sending === "sending" || sending === "together";
    Object.assign(entry, { sending, remark, isStalled: false, speed: isGoing ? entry.speed : 0 });
    this.#changed([entry]);
  }

  /**
   * Set how many bytes of a file this page has sent. Only the server changes the upload's state.
   * @param {Entry} entry
   * @param {number} bytes after a lost connection fewer than before: an incomplete piece does not count
   * @param {number} speed bytes a second
   */
  sent(entry, bytes, speed) {
    if (entry.upload !== "announced" && entry.upload !== "receiving") return;
    Object.assign(entry, { received: bytes, speed, isStalled: false });
    this.#changed([entry]);
  }

  /** This device is offline: what this page sends rests, until bytes move again. */
  stall() {
    const stalled = this.entries.filter(({ sending }) => sending === "sending" || sending === "together");
    for (const entry of stalled) Object.assign(entry, { isStalled: true, speed: 0 });
    if (stalled.length) this.#changed(stalled);
  }

  /** No more files will come: what broke off can no longer be sent. */
  seal() {
    if (!this.isOpen) return;
    this.isOpen = false;
    const ended = this.entries.filter(({ upload }) => upload === "aborted");
    if (ended.length) this.#changed(ended);
  }

  /** Give a file up on this page. @param {Entry} entry @param {string} reason @param {string} cause */
  giveUp(entry, reason, cause) {
    Object.assign(entry, { sending: null, remark: "", cause, error: reason });
    abort(entry, cause, reason);
    this.#changed([entry]);
  }

  /** Set whether this browser keeps a file, so that this page can send the rest. @param {Entry} entry @param {boolean} canContinue */
  keep(entry, canContinue) {
    if (entry.canContinue === canContinue) return;
    entry.canContinue = canContinue;
    this.#changed([entry]);
  }

  /**
   * Let a file that was announced again take the place of its earlier entry, which goes.
   * @param {string} oldId
   * @param {string} newId
   */
  replace(oldId, newId) {
    const old = this.#byId.get(oldId);
    const entry = this.#byId.get(newId);
    if (!old || !entry || old === entry) return;
    this.entries.splice(this.entries.indexOf(entry), 1);
    this.entries[this.entries.indexOf(old)] = entry;
    this.#byId.delete(oldId);
    this.#replaced.add(oldId);
    this.#count(old, null);
    this.#changed([entry], true);
  }

  /** @param {ProgressMessage} progress */
  progress({ file_id: fileId, stage, value, total, label }) {
    const entry = this.#byId.get(fileId);
    if (!entry) return;
    if (stage === "upload" && !entry.sending) {
      entry.received = Math.max(entry.received, value);
      entry.isSending = true;
    } else if (entry.job?.state === "running") entry.job.progress = { value, total, label };
    this.#changed([entry]);
  }

  /** @param {Map<string, number>} positions by job id */
  takePositions(positions) {
    const changed = this.entries.filter(({ job }) => job?.state === "queued" && job.position !== (positions.get(job.id) ?? null));
    for (const { job } of changed) if (job) job.position = positions.get(job.id) ?? null;
    if (changed.length) this.#changed(changed);
  }

  /** @param {LiveEvent[]} events in cursor order */
  fold(events) {
    /** @type {Set<Entry>} */
    const touched = new Set();
    const before = this.entries.length;
    for (const event of events) {
      FOLD_SUBMISSION[event.name]?.(this, event);
      const { file_id: fileId } = event.subject;
      if (!fileId || this.#replaced.has(fileId)) continue;
      const known = this.#byId.get(fileId);
      if (!known && !this.isComplete) {
        this.#early.set(fileId, [...this.#early.get(fileId) ?? [], event]);
        continue;
      }
      const entry = known ?? this.#add(fileId, event.data.path ?? event.subject.name);
      FOLD_FILE[event.name]?.(entry, event);
      if (event.name === "upload.started" && Date.parse(event.at) > this.#now - AWAY_AFTER_MS) entry.isSending = true;
      touched.add(entry);
    }
    this.#changed(touched, this.entries.length !== before);
  }

  /** @param {string} id @returns {Entry | undefined} */
  entry(id) {
    return this.#byId.get(id);
  }

  /**
   * Add an entry for a file that the page did not know.
   * @param {string} id
   * @param {string} path
   * @returns {Entry}
   */
  #add(id, path) {
    /** @type {Entry} */
    const entry = {
      id, path, size: null, received: 0, upload: "announced", error: null, cause: null, isSending: true, isBroken: false, canContinue: false,
      speed: 0, job: null, fingerprint: null, uploadUrl: null, sending: null, isStalled: false, remark: "",
      endsStored: !this.#seesJobs,
    };
    this.entries.push(entry);
    this.#byId.set(id, entry);
    const earlier = this.#newest.get(path);
    if (earlier) this.#earlier.set(entry, earlier);
    this.#newest.set(path, entry);
    return entry;
  }

  /** @param {Iterable<Entry>} entries @param {boolean} [isOther] whether entries came or went */
  #changed(entries, isOther = false) {
    /** @type {Set<string>} */
    const ids = new Set();
    let hasReplaced = false;
    for (const entry of entries) {
      if (!this.#byId.has(entry.id)) continue;
      ids.add(entry.id);
      entry.isBroken = this.#isBroken(entry);
      this.#count(entry, tallyOf(entry));
      hasReplaced = this.#replaceTwin(entry) || hasReplaced;
    }
    if (!hasReplaced) this.#tell(isOther ? null : ids);
  }

  /**
   * Do something that changes many entries one by one, and notify listeners once at its end. Each change notified them
   * before: with a thousand announced files that was most of the page's longest task.
   * @param {() => void} action
   */
  together(action) {
    if (this.#gathered) {
      action();
      return;
    }
    const gathered = this.#gathered = { ids: /** @type {Set<string> | null} */ (new Set()), isDue: false };
    try {
      action();
    } finally {
      this.#gathered = null;
      if (gathered.isDue) this.#tell(gathered.ids);
    }
  }

  /** @param {Set<string> | null} ids as in the event */
  #tell(ids) {
    const gathered = this.#gathered;
    if (gathered === null) {
      this.dispatchEvent(new CustomEvent("change", { detail: ids }));
      return;
    }
    gathered.isDue = true;
    if (ids === null) gathered.ids = null;
    else for (const id of ids) gathered.ids?.add(id);
  }

  /**
   * Whoever sends a file again after it broke off announces it again: then only the newest one counts, here and in every tab,
   * also if that one broke off, too.
   * @param {Entry} entry
   * @returns {boolean}
   */
  #replaceTwin(entry) {
    const newest = this.#newest.get(entry.path) ?? entry;
    const earlier = newest === entry ? this.#earlier.get(entry) : entry;
    if (!earlier || earlier.upload !== "aborted") return false;
    if (!this.#byId.has(earlier.id)) return false;
    if (earlier.cause === "replaced") return this.#replaceWith(earlier, newest);
    if (earlier.size === null || earlier.size !== newest.size) return false;
    if (earlier.fingerprint !== null && newest.fingerprint !== null && earlier.fingerprint !== newest.fingerprint) return false;
    return this.#replaceWith(earlier, newest);
  }

  /** @param {Entry} earlier @param {Entry} newest */
  #replaceWith(earlier, newest) {
    this.replace(earlier.id, newest.id);
    return true;
  }

  /** @param {Entry} entry @returns {boolean} whether it can still be sent, and nobody does */
  #isBroken({ sending, isSending, job, upload, cause, size, received }) {
    if (sending !== null || isSending || job) return false;
    if (upload === "aborted") return this.isOpen && !FINAL_CAUSES.has(cause ?? "");
    if (upload === "announced") return this.#isSenderAway;
    return upload === "receiving" && (size === null || received < size);
  }

  /** @param {Entry} entry @param {Tally | null} now what it adds to the sums; null: it is gone */
  #count(entry, now) {
    const before = this.#tallies.get(entry);
    if (before) this.#sum(before, -1);
    if (now) {
      this.#sum(now, 1);
      this.#tallies.set(entry, now);
    } else this.#tallies.delete(entry);
    if (now?.state === "running") this.running.add(entry);
    else this.running.delete(entry);
  }

  /** @param {Tally} tally @param {1 | -1} sign */
  #sum({ state, received, size, speed, isSending, hasResults }, sign) {
    this.#counts[state] += sign;
    this.#bytes.received += sign * received;
    this.#bytes.total += sign * size;
    this.#speed += sign * speed;
    if (isSending) this.#sendingFiles += sign;
    if (hasResults) this.#withResults += sign;
  }

  /** @returns {boolean} whether every file is in `entries` */
  get isComplete() {
    return this.#byId.size + this.#replaced.size >= this.#awaited;
  }

  /** @returns {Counts} how many files are in each state; a file counts once */
  get counts() {
    return { ...(this.isComplete ? this.#counts : this.#serverCounts) };
  }

  /** @returns {number} how many files there are */
  get total() {
    return Math.max(this.expected, this.isComplete ? this.entries.length : this.#awaited);
  }

  /** @returns {{received: number, total: number}} bytes of all files except those that will not come */
  get bytes() {
    return { ...this.#bytes };
  }

  /** @returns {number} bytes per second sent by this page */
  get speed() {
    return Math.max(0, this.#speed);
  }

  /** @returns {boolean} whether any file has results */
  get hasResults() {
    return this.#withResults > 0;
  }

  /** @returns {boolean} whether no file can still arrive: each is stored or aborted, and the submission is sealed */
  get isAllStored() {
    const { counts } = this;
    return !this.isOpen && COMING.every((state) => counts[state] === 0);
  }

  /** @returns {boolean} whether nothing is left to do: each job has settled, or its file was aborted */
  get isSettled() {
    const { stored, queued, running } = this.counts;
    return this.isAllStored && stored + queued + running === 0;
  }
}

/** @param {Record<string, number>} counts */
const sumOf = (counts) => Object.values(counts).reduce((sum, files) => sum + files, 0);

/**
 * Nothing of a file is left on the server. What this page has said of it already stays, and so does a cause after which it cannot
 * be sent again, because of a file that broke off a person may still say so.
 * @param {Entry} entry
 * @param {string | null} cause null: of before causes were recorded
 * @param {string | null} reason
 */
function abort(entry, cause, reason) {
  const isNews = cause === "replaced" || !FINAL_CAUSES.has(entry.cause ?? "");
  const why = isNews && (cause !== null || entry.cause === null) ? { cause, error: reason } : {};
  Object.assign(entry, { upload: "aborted", received: 0, speed: 0, isSending: false, ...why });
}

/** @param {Entry} entry @returns {Tally} */
function tallyOf(entry) {
  const { upload, received, size, speed, sending, isSending, isBroken, job } = entry;
  const isAborted = upload === "aborted" && !isBroken;
  return {
    state: /** @type {keyof Counts} */ (stateOf(entry)),
    received: isAborted ? 0 : received,
    size: isAborted ? 0 : size ?? received,
    speed,
    isSending: (sending !== null || isSending) && (upload === "announced" || upload === "receiving"),
    hasResults: (job?.result_count ?? 0) > 0,
  };
}
