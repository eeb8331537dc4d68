// Shows on the page of a submission how this page's sending of its files goes, and gives a person its buttons: on the page that
// sends, and after a reload on the one that goes on with what broke off.

import { api } from "../core/base.js";
import { visible } from "../core/format.js";
import { t } from "../core/messages.js";
import { announce, paced, part, setText } from "../core/page.js";
import { holdPage } from "./leaving.js";
import { Sending } from "./queue.js";
import { canChecksum } from "./transfers.js";

/** @typedef {import("../core/live.js").Live} Live */
/** @typedef {import("../submission/model.js").Entry} Entry */
/** @typedef {import("../submission/model.js").SubmissionModel} SubmissionModel */
/** @typedef {import("../submission/view.js").SubmissionView} SubmissionView */
/** @typedef {import("./queue.js").Taken} Taken */
/** @typedef {import("./transfers.js").Item} Item */

/** Phones have no folders to choose. */
const canPickFolder = "webkitdirectory" in HTMLInputElement.prototype && !matchMedia("(pointer: coarse) and (hover: none)").matches;

/**
 * Let a page that shows a submission resume its files, and add more.
 * @param {SubmissionModel} model with all of its files
 * @param {SubmissionView} view
 * @param {Live} live
 * @returns {SendingView}
 */
export function mountResuming(model, view, live) {
  const sending = new Sending(model);
  const shown = new SendingView(sending, model, view, live);
  void sending.remember();
  return shown;
}

/**
 * Send files, and show it.
 * @param {Sending} sending
 * @param {SubmissionModel} model
 * @param {SubmissionView} view
 * @param {Live} live
 * @returns {SendingView}
 */
export function mountSending(sending, model, view, live) {
  const shown = new SendingView(sending, model, view, live);
  sending.start();
  return shown;
}

/** The notice with its buttons, and what the rows ask for. */
class SendingView {
  #sending;
  #view;
  #box = part(document, "held");
  #buttons = Object.fromEntries(["pause-all", "try-now", "continue-all", "resume-all", "pick", "pick-folder", "send-new", "stop-sending"]
    .map((name) => [name, part(document, name)]));
  /** @type {[Item, Entry][]} files that have changed since they broke off */
  #changed = [];
  #wanted = ""; // the path of the row that a file is picked for
  #ask = paced(() => this.#render());

  /** @param {Sending} sending @param {SubmissionModel} model @param {SubmissionView} view @param {Live} live */
  constructor(sending, model, view, live) {
    this.#sending = sending;
    this.#view = view;
    const files = this.#picker("pick-input");
    const folder = this.#picker("pick-folder-input");
    this.#on("pause-all", () => sending.pause());
    this.#on("resume-all", () => sending.resume());
    this.#on("try-now", () => sending.tryNow());
    this.#on("stop-sending", () => sending.giveUp());
    this.#on("continue-all", () => void this.#resumeKept());
    this.#on("pick", () => this.#pick(files));
    this.#on("pick-folder", () => this.#pick(folder));
    this.#on("send-new", () => this.#sendNew());
    document.addEventListener("row-action", (event) => {
      const asked = /** @type {CustomEvent<{action: string, fileId?: string}>} */ (event).detail;
      if (!asked.fileId) return;
      if (asked.action === "pause") sending.pause(asked.fileId);
      if (asked.action === "resume") sending.resume(asked.fileId);
      if (asked.action === "give-up") sending.cancel(asked.fileId);
      if (asked.action === "continue") void this.#resumeKept(asked.fileId);
      if (asked.action === "pick") this.#pick(files, model.entry(asked.fileId)?.path);
    });
    holdPage(sending);
    sending.addEventListener("change", () => this.#ask());
    model.addEventListener("change", () => this.#ask()); // what broke off is known by the model
    addEventListener("offline", () => sending.offline());
    addEventListener("online", () => sending.online());
    live.isSending = () => sending.isSending;
    live.addEventListener("connection", () => {
      if (live.isConnected) sending.tryNow();
    });
    addEventListener("pagehide", () => {
      // What is not sent can be picked again, so it stays awaited; the server ends a submission that nobody goes on with.
      if (sending.isSealDue) navigator.sendBeacon(`${api}/submissions/${model.id}/seal`);
    });
    this.#render();
  }

  /**
   * Take files that were dropped on the page: those that broke off go on, others are added.
   * @param {Item[]} items
   * @returns {Promise<Item[]>} files that came too late: the submission is sealed. The caller starts the next one with them
   */
  async take(items) {
    const taken = await this.#sending.add(items);
    this.#report({ ...taken, other: [] });
    return taken.other;
  }

  /** @param {string} name @param {() => void} action */
  #on(name, action) {
    this.#buttons[name].addEventListener("click", () => {
      this.#view.problem = "";
      action();
    });
  }

  #render() {
    const sending = this.#sending;
    const { isActive, isOver, trouble, held } = sending;
    const { paused, refused, broken, kept, reason } = held;
    const isHeld = !isActive && !isOver && (paused + refused > 0 || reason !== "");
    const isBroken = !isHeld && !isActive && broken > 0;
    this.#view.sending = isActive ? "going" : isHeld ? "held" : null;
    const focused = Object.values(this.#buttons).find((button) => button === document.activeElement);
    this.#show("pause-all", isActive && !isOver);
    this.#show("try-now", isActive && trouble !== "");
    this.#show("resume-all", isHeld);
    this.#show("continue-all", isBroken && kept > 0);
    this.#show("pick", isBroken);
    this.#show("pick-folder", isBroken && broken > 1 && canPickFolder);
    this.#show("send-new", this.#changed.length > 0);
    this.#show("stop-sending", isHeld || isBroken);
    setText(this.#buttons["resume-all"], reason ? t("sending.try_again") : t("sending.resume"));
    this.#buttons.pick.classList.toggle("primary", kept === 0);

    const parts = isActive && trouble ? [t("sending.retrying", { problem: trouble })] : [];
    if (isHeld) {
      if (reason) parts.push(reason);
      if (refused) parts.push(t("sending.refused", { n: refused }));
      if (paused) parts.push(t("sending.paused", { n: paused }));
    }
    if (isBroken) {
      if (kept) parts.push(t("sending.continue_hint", { n: kept }));
      if (kept < broken) parts.push(t("sending.pick_hint"));
    }
    this.#box.classList.toggle("working", isActive);
    this.#box.classList.toggle("bad", isHeld && reason !== "");
    setText(part(this.#box, "held-text"), parts.join(" "));
    this.#box.hidden = parts.length === 0 && this.#changed.length === 0;
    const next = Object.values(this.#buttons).find(({ hidden }) => !hidden);
    if (focused?.hidden) (next ?? document.getElementById("main"))?.focus({ preventScroll: true }); // it hid itself
    part(document, "unchecked").hidden = canChecksum || isOver || !isActive || !sending.hasLarge;
  }

  /** @param {string} name of a button @param {boolean} isShown */
  #show(name, isShown) {
    this.#buttons[name].hidden = !isShown;
  }

  // --- going on ------------------------------------------------------------------------------------------------------

  /** @param {string} name @returns {HTMLInputElement} */
  #picker(name) {
    const input = /** @type {HTMLInputElement} */ (part(document, name));
    input.addEventListener("change", async () => {
      const items = [...(input.files ?? [])].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
      input.value = ""; // lets the person pick the same file again
      this.#report(await this.#sending.add(items, false));
    });
    return input;
  }

  /** @param {HTMLInputElement} input @param {string} [path] of the row */
  #pick(input, path = "") {
    this.#view.problem = "";
    this.#wanted = path;
    input.click();
  }

  /** @param {string} [fileId] */
  async #resumeKept(fileId) {
    this.#view.problem = "";
    const { resumed, changed, missing, isDenied } = await this.#sending.resumeKept(fileId);
    const problems = [];
    if (isDenied) problems.push(t("sending.denied"));
    if (missing.length) problems.push(named("sending.missing", "sending.missing_more", missing.map(({ path }) => path)));
    this.#tell(problems, changed, resumed ? [t("sending.resumed", { n: resumed })] : []);
  }

  /** @param {Taken} taken */
  #report({ resumed, added, stored, ended, changed, other }) {
    const wanted = this.#wanted;
    this.#wanted = "";
    const paths = other.map(({ path }) => path);
    const isForRow = wanted !== "" && paths.length === 1 && resumed.length === 0;
    const problems = [];
    if (isForRow) problems.push(t("sending.wrong_for", { name: visible(paths[0]), wanted: visible(wanted) }));
    else if (paths.length) problems.push(named("sending.wrong", "sending.wrong_more", paths));
    const said = [];
    if (resumed.length) said.push(t("sending.resumed", { n: resumed.length }));
    if (added.length) said.push(t("sending.added", { n: added.length }));
    if (stored.length) said.push(t("sending.sent_before", { n: stored.length }));
    if (ended.length) said.push(t("sending.ended", { n: ended.length }));
    this.#tell(problems, changed, said);
  }

  /** @param {string[]} problems @param {[Item, Entry][]} changed @param {string[]} said */
  #tell(problems, changed, said) {
    this.#changed = changed;
    if (changed.length) problems.push(named("sending.is_changed", "sending.is_changed_more", changed.map(([{ path }]) => path)));
    this.#view.problem = problems.join(" ");
    if (said.length) announce(said.join(" "));
    this.#render();
  }

  #sendNew() {
    for (const [item, entry] of this.#changed) this.#sending.restart(entry, item);
    this.#changed = [];
    this.#render();
  }
}

/** @param {string} one message about one file @param {string} more message about it and others @param {string[]} paths */
function named(one, more, [first, ...others]) {
  const name = visible(first);
  return others.length ? t(more, { name, n: others.length }) : t(one, { name });
}
