// One try to send a file, or several in one form. No DOM.

import { Problem } from "../core/api.js";
import { Speed } from "./speed.js";
import { FormTransfer, ResumableTransfer, Stopped } from "./transfers.js";

/** @typedef {import("./transfers.js").Item} Item */
/** @typedef {import("../submission/model.js").Entry} Entry */
/** @typedef {import("../submission/model.js").SubmissionModel} SubmissionModel */

/**
 * @typedef {object} Send one file that this page sends
 * @property {Item} item
 * @property {Entry | null} entry null until it is announced
 * @property {Entry | null} replaces the entry whose place a new one will take
 * @property {boolean} inPieces whether its bytes go in requests of their own
 * @property {boolean} hasBegun whether the server may have some of its bytes
 * @property {boolean} isBusy whether a lane has it
 * @property {ResumableTransfer | FormTransfer | null} transfer that sends it now
 */

/**
 * @param {SubmissionModel} model receives the progress
 * @param {Send[]} group one file that goes in pieces, or the files of a form; announced
 * @param {() => void} onMove is called when bytes move
 * @returns {Promise<Problem | Stopped | null>} why it failed; null: it did not
 */
export async function attempt(model, group, onMove) {
  const speed = new Speed();
  const [{ inPieces, item, entry }] = group;
  if (entry === null || (inPieces && entry.uploadUrl === null)) throw new Error("a file was taken before it was announced");
  let moved = -1;
  const speedAt = (/** @type {number} */ bytes) => {
    if (moved >= 0 && bytes > moved) onMove();
    moved = bytes;
    return speed.at(bytes);
  };
  let done = 0; // files of the form, and their bytes
  let doneBytes = 0;
  const transfer = inPieces
    ? new ResumableTransfer(entry.uploadUrl ?? "", item.file, (received) => model.sent(entry, received, speedAt(received)))
    : new FormTransfer(model.id, group.map((send) => ({ id: send.entry?.id ?? "", ...send.item })), (index, sent) => model.together(() => {
      for (; done < index; done += 1) {
        const { entry: before, item: { file } } = group[done];
        if (before) model.sent(before, file.size, 0);
        doneBytes += file.size;
      }
      const current = group[index].entry;
      const now = speedAt(doneBytes + sent);
      if (current) model.sent(current, sent, now);
    }));
  for (const send of group) Object.assign(send, { transfer, hasBegun: true });
  try {
    await transfer.run();
    return null;
  } catch (error) {
    for (const send of group) if (send.entry?.speed) model.sent(send.entry, send.entry.received, 0);
    return error instanceof Problem || error instanceof Stopped ? error : new Problem(0, { detail: String(error) });
  }
}

/** @param {Send[]} group @returns {boolean} whether the server took anything of it in the last attempt */
export const hasMoved = (group) => group.some(({ entry, transfer }) => entry?.upload === "stored"
  || (transfer instanceof ResumableTransfer && transfer.hasMoved));
