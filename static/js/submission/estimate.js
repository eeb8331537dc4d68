// How long a submission will still take, from how fast bytes and files went by lately. No DOM.

const SAMPLE_EVERY_MS = 500;
const OVER_MS = 20_000; // long enough to be steady, short enough to follow a change
const FIRST_AFTER_MS = 3000;
const WEIGHT = 0.15; // of a new estimate against the one before

/** @typedef {{bytes: number, bytesLeft: number, files: number, filesLeft: number}} Progress files may be fractions: a running one counts by its progress */

/** The estimate. */
export class Estimate {
  /** @type {{at: number, bytes: number, files: number}[]} */
  #samples = [];
  /** @type {number | null} */
  #left = null;

  /**
   * @param {number} at ms of a clock
   * @param {Progress} progress
   * @returns {number | null} seconds; null while they cannot be estimated
   */
  at(at, { bytes, bytesLeft, files, filesLeft }) {
    const samples = this.#samples;
    const last = samples.at(-1);
    if (last && at - last.at < SAMPLE_EVERY_MS) return this.#left;
    if (last && (files < last.files - 1 || bytes < last.bytes)) samples.length = 0; // a retry, or a piece that was lost
    samples.push({ at, bytes, files });
    while (at - samples[0].at > OVER_MS) samples.shift();
    const [first] = samples;
    const seconds = (at - first.at) / 1000;
    if (seconds * 1000 < FIRST_AFTER_MS) return this.#left;
    const sending = bytesLeft > 0 ? bytesLeft / Math.max(0, (bytes - first.bytes) / seconds) : 0;
    const processing = files > first.files ? filesLeft / ((files - first.files) / seconds) : 0;
    const raw = Math.max(sending, processing);
    if (!Number.isFinite(raw) || raw === 0) this.#left = null;
    else if (this.#left === null || !last) this.#left = raw;
    else {
      const expected = Math.max(0, this.#left - (at - last.at) / 1000);
      this.#left = expected + WEIGHT * (raw - expected);
    }
    return this.#left;
  }
}
