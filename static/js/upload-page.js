// /: choose, submit, watch. The address becomes the submission's as soon as there is one, so a reload shows the truth.

import { Problem } from "./api.js";
import { mountConnectionBadge } from "./connection.js";
import { mountDrop } from "./drop.js";
import { counted } from "./format.js";
import { Live } from "./live.js";
import { SubmissionModel } from "./model.js";
import { part, setText } from "./page.js";
import { Upload, openSubmission, sealSubmission } from "./queue.js";
import { Selection } from "./selection.js";
import { SubmissionView } from "./view.js";

/** @typedef {import("./queue.js").Item} Item */
/** @typedef {import("./model.js").Entry} Entry */

const form = /** @type {HTMLFormElement} */ (part(document, "drop-form"));
const selection = new Selection(part(document, "selection"));
const live = new Live();
mountConnectionBadge(live);
live.start();

const fileInput = /** @type {HTMLInputElement} */ (document.getElementById("files"));
const folderInput = /** @type {HTMLInputElement} */ (document.getElementById("folder"));
const folderButton = part(document, "folder-button");
folderButton.hidden = !("webkitdirectory" in folderInput) || matchMedia("(pointer: coarse) and (hover: none)").matches;
folderButton.addEventListener("click", () => folderInput.click());
let isSubmitted = false;
mountDrop({ fileInput, folderInput, overlay: part(document, "overlay") }, (items, unreadable) => {
  if (!isSubmitted) selection.add(items, unreadable);
});
document.addEventListener("selection", (event) => {
  part(document, "explanation").hidden = /** @type {CustomEvent<number>} */ (event).detail > 0;
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (selection.items.length && !isSubmitted) submit(selection.items);
});

/** @param {Item[]} items */
async function submit(items) {
  isSubmitted = true;
  const failure = part(document, "submit-problem");
  failure.hidden = true;
  let submission;
  try {
    submission = await openSubmission();
  } catch (error) {
    isSubmitted = false;
    failure.hidden = false;
    setText(failure, `Nothing was sent. ${error instanceof Error ? error.message : error} Your selection is kept; press Submit to try again.`);
    return;
  }
  history.pushState(null, "", `/submissions/${submission.id}`);
  addEventListener("popstate", () => location.reload());
  form.hidden = true;

  const model = new SubmissionModel(submission.id);
  model.take(submission);
  const entries = model.announce(items.map(({ path, file }) => ({ path, size: file.size })));
  const view = new SubmissionView(part(document, "submission"), live, model);
  view.follow(0);
  new Sending(model, view, items.map((item, index) => ({ item, entry: entries[index] }))).start();
}

/** The sending of one submission's files from this page, with what happens when it breaks. */
class Sending {
  #model;
  #view;
  #pairs;
  /** @type {Upload | null} */
  #upload = null;
  #isSealed = false;
  #stop = part(document, "stop");
  #resend = part(document, "resend");
  #leave = part(document, "leave-it");

  /** @param {SubmissionModel} model @param {SubmissionView} view @param {{item: Item, entry: Entry}[]} pairs */
  constructor(model, view, pairs) {
    this.#model = model;
    this.#view = view;
    this.#pairs = pairs;
    this.#stop.addEventListener("click", () => this.#upload?.abort());
    this.#resend.addEventListener("click", () => this.#sendRest());
    this.#leave.addEventListener("click", () => this.#seal());
    addEventListener("beforeunload", (event) => {
      if (this.#upload) event.preventDefault();
    });
    addEventListener("pagehide", () => {
      // Nobody is left who could send more; without this the submission would stay open for a day.
      if (!this.#isSealed) navigator.sendBeacon(`/api/v1/submissions/${this.#model.id}/seal`);
    });
  }

  async start() {
    const upload = new Upload(this.#model.id, this.#pairs.map(({ item }) => item));
    this.#upload = upload;
    this.#offer({ stop: true });
    this.#view.problem = "";
    this.#view.sending = { total: 0, speed: 0 };
    let before = 0;
    upload.addEventListener("progress", (event) => {
      const { index, sent, total, speed } = /** @type {CustomEvent<import("./queue.js").Sent>} */ (event).detail;
      for (; before < index; before += 1) this.#model.sending(this.#pairs[before].entry, this.#pairs[before].item.file.size, 0);
      this.#model.sending(this.#pairs[index].entry, sent, speed);
      this.#view.sending = { total, speed };
    });
    /** @type {Problem | null} */
    let problem = null;
    try {
      this.#model.take(await upload.send(), true);
    } catch (error) {
      problem = error instanceof Problem ? error : new Problem(0, { detail: String(error) });
    }
    this.#upload = null;
    this.#offer({});
    this.#view.sending = null;
    if (problem) await this.#broken(problem);
    else await this.#seal();
  }

  async #seal() {
    this.#offer({});
    try {
      const sealed = await sealSubmission(this.#model.id);
      this.#isSealed = true;
      this.#view.problem = "";
      if (sealed) this.#model.take(sealed, true);
    } catch (error) {
      this.#offer({ leave: true });
      this.#view.problem = `All bytes have arrived, but the end could not be said. ${error instanceof Error ? error.message : error}`;
    }
  }

  /** @param {Problem} problem */
  async #broken(problem) {
    const kept = await this.#learnWhatWasKept();
    const rest = this.#rest().length;
    this.#offer({ resend: rest > 0, leave: true });
    const told = kept
      ? `${counted(this.#pairs.length - rest, "file")} arrived and will be processed; ${counted(rest, "file")} did not.`
      : "What arrived before will be processed.";
    this.#view.problem = `${problem.message} ${told}`;
  }

  /** @returns {Promise<boolean>} whether the server could be asked */
  async #learnWhatWasKept() {
    try {
      await this.#view.refresh();
      return true;
    } catch {
      return false;
    }
  }

  /** @returns {{item: Item, entry: Entry}[]} what the server does not have */
  #rest() {
    return this.#pairs.filter(({ entry }) => entry.upload !== "stored");
  }

  async #sendRest() {
    await this.#learnWhatWasKept();
    // A file that broke off keeps its row and is sent anew as another one: the server counts both.
    const rest = this.#rest();
    const again = rest.filter(({ entry }) => entry.id !== null);
    const entries = this.#model.announce(again.map(({ item }) => ({ path: item.path, size: item.file.size })));
    const fresh = again.map(({ item }, index) => ({ item, entry: entries[index] }));
    this.#pairs = [...rest.filter(({ entry }) => entry.id === null), ...fresh];
    if (this.#pairs.length) await this.start();
    else await this.#seal();
  }

  /** @param {{stop?: boolean, resend?: boolean, leave?: boolean}} offered which buttons make sense now */
  #offer({ stop = false, resend = false, leave = false }) {
    this.#stop.hidden = !stop;
    this.#resend.hidden = !resend;
    this.#leave.hidden = !leave;
  }
}
