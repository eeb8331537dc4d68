// One submission as the page knows it: the server's snapshot, the events after it, and what this page sends. No DOM.
// Folding an event twice, or one that the snapshot includes, leads to the same state.

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
 * @property {string | null} error why the upload was aborted
 * @property {number} speed bytes a second while this page sends it; else 0
 * @property {Job | null} job
 * @property {string | null} uploadUrl address for its bytes in requests of their own (tus)
 * @property {"waiting" | "sending" | "together" | "paused" | "retrying" | "refused" | null} sending state of the
 *   sending on this page: `together` in a form with others, `retrying` and `refused` after a failure; null: not sent here
 * @property {string} remark a note about its sending
 */

/** @typedef {{announced: number, receiving: number, aborted: number, queued: number, running: number, succeeded: number, failed: number, cancelled: number}} Counts */

/** @type {Record<string, number>} uploads never go back */
const UPLOAD_ORDER = { announced: 0, receiving: 1, stored: 2, aborted: 2 };
const SETTLED = new Set(["succeeded", "failed", "cancelled"]);

/** @type {Record<string, (model: SubmissionModel, event: LiveEvent) => void>} what an event changes in the submission */
const FOLD_SUBMISSION = {
  "submission.opened": (model, { at, subject }) => {
    model.openedAt = at;
    model.client ??= subject.client;
  },
  "client.identified": (model, { data }) => {
    if (model.client) Object.assign(model.client, data);
  },
  "submission.sealed": (model) => { model.isOpen = false; },
  "submission.settled": (model, { at }) => { model.settledAt = at; },
  "job.queued": (model) => { model.settledAt = null; },
};

/** @type {Record<string, (entry: Entry, event: LiveEvent) => void>} what an event changes in its file */
const FOLD_FILE = {
  "upload.started": (entry, { data }) => {
    entry.upload = "receiving";
    entry.size = data.size ?? entry.size;
  },
  "upload.stored": (entry, { data }) => {
    Object.assign(entry, { upload: "stored", size: data.size, received: data.size, speed: 0 });
  },
  "upload.aborted": (entry, { data }) => {
    Object.assign(entry, { upload: "aborted", error: entry.error ?? data.reason, speed: 0 });
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
  "config.saved", "config.rejected", "config.purged", // of the topic `config`: config-page.js, config-problem.js
]);

/** Events that change a submission or one of its files. */
export const FOLDED_EVENTS = new Set([...Object.keys(FOLD_SUBMISSION), ...Object.keys(FOLD_FILE)]);

/** Dispatches `change` (CustomEvent<Set<string> | null>: ids of changed entries, null when entries were added). */
export class SubmissionModel extends EventTarget {
  /** @type {string} */
  id;
  /** @type {Entry[]} in the order of the submission */
  entries = [];
  isOpen = true;
  /** @type {string | null} */
  openedAt = null;
  /** @type {string | null} */
  settledAt = null;
  /** @type {{ip: string, host: string | null, verified: boolean, domain: string | null} | null} */
  client = null;
  /** @type {Map<string, Entry>} */
  #byId = new Map();

  /** @param {string} id */
  constructor(id) {
    super();
    this.id = id;
  }

  /**
   * Update from a Submission of the API.
   * @param {Record<string, any>} submission of the API
   * @param {boolean} [mayBeBehind] newer events than this answer may be folded already: take only what never goes
   *   back
   */
  take(submission, mayBeBehind = false) {
    this.isOpen = this.isOpen && submission.state === "open";
    this.openedAt = submission.opened_at;
    if (!mayBeBehind) this.settledAt = submission.settled_at;
    this.client ??= submission.client;
    this.takeFiles(submission.files, mayBeBehind);
  }

  /** @param {any[]} files of the API @param {boolean} [mayBeBehind] as for `take` */
  takeFiles(files, mayBeBehind = false) {
    for (const file of files) {
      const entry = this.#byId.get(file.id) ?? this.#add(file.id, file.path || file.name);
      entry.size = file.size ?? entry.size;
      entry.uploadUrl = file.upload_url ?? entry.uploadUrl;
      if (!entry.sending) entry.received = Math.max(entry.received, file.received);
      if (UPLOAD_ORDER[file.state] >= UPLOAD_ORDER[entry.upload]) {
        entry.upload = file.state;
        entry.error ??= file.error ?? null;
      }
      if (!file.job || (mayBeBehind && entry.job)) continue;
      entry.job = { ...file.job, attempts: file.job.attempts.length };
    }
    this.#changed(null);
  }

  /**
   * Set the state of a file's sending.
   * @param {Entry} entry
   * @param {Entry["sending"]} sending null: sent, or given up
   * @param {string} [remark]
   */
  turn(entry, sending, remark = "") {
    Object.assign(entry, { sending, remark, speed: sending === "sending" || sending === "together" ? entry.speed : 0 });
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
    Object.assign(entry, { received: bytes, speed });
    this.#changed([entry]);
  }

  /** Give a file up on this page. @param {Entry} entry @param {string} reason */
  giveUp(entry, reason) {
    Object.assign(entry, { upload: "aborted", error: reason, sending: null, speed: 0, remark: "" });
    this.#changed([entry]);
  }

  /** @param {ProgressMessage} progress */
  progress({ file_id: fileId, stage, value, total, label }) {
    const entry = this.#byId.get(fileId);
    if (!entry) return;
    if (stage === "upload" && !entry.sending) entry.received = Math.max(entry.received, value);
    else if (entry.job?.state === "running") entry.job.progress = { value, total, label };
    this.#changed([entry]);
  }

  /** @param {Map<string, number>} positions by job id */
  takePositions(positions) {
    const changed = this.entries.filter(({ job }) => job?.state === "queued" && job.position !== positions.get(job.id));
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
      if (!fileId) continue;
      const entry = this.#byId.get(fileId) ?? this.#add(fileId, event.data.path ?? event.subject.name);
      FOLD_FILE[event.name]?.(entry, event);
      touched.add(entry);
    }
    this.#changed(this.entries.length === before ? touched : null);
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
      id, path, size: null, received: 0, upload: "announced", error: null, speed: 0, job: null,
      uploadUrl: null, sending: null, remark: "",
    };
    this.entries.push(entry);
    this.#byId.set(id, entry);
    return entry;
  }

  /** @param {Iterable<Entry> | null} entries */
  #changed(entries) {
    const ids = entries && new Set([...entries].map((entry) => entry.id));
    this.dispatchEvent(new CustomEvent("change", { detail: ids }));
  }

  /** @returns {Counts} how many files are in each state; a file counts once */
  get counts() {
    const counts = { announced: 0, receiving: 0, aborted: 0, queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 };
    for (const { job, upload } of this.entries) {
      const state = job?.state ?? (upload === "stored" ? "queued" : upload);
      counts[state] += 1;
    }
    return counts;
  }

  /** @returns {{received: number, total: number}} bytes of all files except aborted ones */
  get bytes() {
    let received = 0;
    let total = 0;
    for (const entry of this.entries) {
      if (entry.upload === "aborted") continue;
      received += entry.received;
      total += entry.size ?? entry.received;
    }
    return { received, total };
  }

  /** @returns {number} bytes per second sent by this page */
  get speed() {
    return this.entries.reduce((sum, { speed }) => sum + speed, 0);
  }

  /** @returns {boolean} whether no file can still arrive: each is stored or aborted, and the submission is sealed */
  get isAllStored() {
    return !this.isOpen && this.entries.every(({ upload }) => upload === "stored" || upload === "aborted");
  }

  /** @returns {boolean} whether nothing is left to do: each job has settled, or its file was aborted */
  get isSettled() {
    return this.isAllStored && this.entries.every(({ job, upload }) => upload === "aborted" || (job && SETTLED.has(job.state)));
  }
}
