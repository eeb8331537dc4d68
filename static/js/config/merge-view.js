// Two people edit at once: says who saved a newer revision, and merges it with the text in the editor. The merged text
// goes into the editor as a single undo step; the person saves it.

import { call, reasonOf } from "../core/api.js";
import { mountDiff } from "./diff.js";
import { ago, visible } from "../core/format.js";
import { encode } from "./lines.js";
import { changes, conflicts, countMerged, merge, mergedText } from "./merge.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, paced, part, setText } from "../core/page.js";
import { released } from "../core/press.js";

/** @typedef {import("./document.js").ConfigDocument} ConfigDocument */
/** @typedef {import("./document.js").Revision} Revision */
/** @typedef {import("./merge.js").Choice} Choice */
/** @typedef {import("./merge.js").Part} Part */
/** @typedef {import("./merge.js").Conflict} Conflict */
/** @typedef {import("./history.js").Entry} Entry */

const CONTEXT_LINES = 2;
const LISTED_MAX = 200; // automatic merges listed; more are only counted
const AGES_EVERY_MS = 30_000;

/** The panel above the editor while there are both a newer revision and unsaved edits. */
export class MergePanel {
  #root;
  #config;
  #describe;
  /** @type {Revision | null} the newer revision; null: there is none */
  #theirs = null;
  /** @type {Entry | null} who saved it; null: not known yet */
  #entry = null;
  /** @type {Part[]} */
  #parts = [];
  /** @type {Map<string, Choice>} by the key of a conflict */
  #choices = new Map();
  /** @type {{revision: Revision, text: string} | null} the text before theirs was loaded or merged in; null: neither happened */
  #before = null;
  #isOverwriting = false;
  #isChecking = false;
  /** @type {string | null} a merged text that is not valid, and that the person is asked about; null: there is none */
  #broken = null;
  #askDraw = paced(() => this.#draw());

  /**
   * @param {HTMLElement} root
   * @param {ConfigDocument} config
   * @param {(etag: string) => Promise<Entry | null>} describe who saved a revision, when, from where
   */
  constructor(root, config, describe) {
    this.#root = root;
    this.#config = config;
    this.#describe = describe;
    config.addEventListener("conflict", (event) => this.#onConflict(/** @type {CustomEvent<Revision>} */ (event).detail));
    config.addEventListener("change", () => {
      if (this.#theirs) this.#askDraw();
    });
    config.addEventListener("newer", (event) => {
      if (this.#before === null) this.#close();
      else { // my text, restored by Undo, would conflict with the newest revision
        this.#theirs = /** @type {CustomEvent<Revision>} */ (event).detail;
        this.#entry = null;
      }
    });
    config.addEventListener("saved", () => this.#close());
    const on = (/** @type {string} */ name, /** @type {() => void} */ act) => part(root, name).addEventListener("click", act);
    on("merge-start", () => this.#start());
    on("merge-see", () => this.#toggleSeen());
    on("merge-theirs", () => this.#loadTheirs());
    on("merge-mine", () => this.#askOverwrite(true));
    on("merge-sure-yes", () => this.#overwrite());
    on("merge-sure-no", () => this.#askOverwrite(false));
    on("merge-broken-yes", () => this.#takeBroken());
    on("merge-broken-no", () => this.#forgetBroken(true));
    on("merge-undo", () => this.#undo());
    on("merge-dismiss", () => this.#dismiss());
    on("merge-apply", () => void this.#apply());
    on("merge-back", () => this.#showConflicts(false));
    on("all-theirs", () => this.#chooseAll("theirs"));
    on("all-mine", () => this.#chooseAll("mine"));
    part(root, "conflicts").addEventListener("change", (event) => {
      const input = /** @type {HTMLInputElement} */ (event.target);
      this.#choices.set(input.name, /** @type {Choice} */ (input.value));
      this.#drawChoices();
    });
    setInterval(() => this.#theirs && this.#drawWords(), AGES_EVERY_MS);
  }

  /** @param {Revision} theirs */
  async #onConflict(theirs) {
    const isSaving = this.#config.isSaving; // only until this event is dispatched
    await released();
    const isAnother = this.#theirs !== null && this.#theirs.etag !== theirs.etag;
    const isNews = this.#theirs?.etag !== theirs.etag;
    if (!isNews && this.#before === null) {
      if (isSaving) this.#root.focus(); // a repeated save fails for the reason given here
      return;
    }
    this.#theirs = theirs;
    this.#before = null;
    this.#entry = null;
    this.#fold();
    this.#draw();
    this.#entry = await this.#describe(theirs.etag);
    if (this.#theirs !== theirs) return;
    this.#drawWords();
    const text = part(this.#root, "merge-text").textContent ?? "";
    announce(isAnother && !part(this.#root, "merge-view").hidden ? `${text} ${t("config.merge.kept")}` : text);
  }

  #close() {
    this.#theirs = null;
    this.#before = null;
    this.#choices.clear();
    this.#fold();
    this.#showConflicts(false);
    this.#root.hidden = true;
  }

  /** Close the view of their changes. */
  #fold() {
    this.#isOverwriting = false;
    this.#broken = null;
    part(this.#root, "merge-seen").hidden = true;
    part(this.#root, "merge-see").setAttribute("aria-expanded", "false");
  }

  /** Hide the panel; Undo brings it back. */
  #dismiss() {
    if (this.#before === null) this.#close();
    this.#root.hidden = true;
    this.#config.focus();
  }

  #draw() {
    if (!this.#theirs) return;
    const mine = this.#config.text;
    const before = this.#before;
    if (before !== null) {
      if (before.text !== mine) {
        this.#drawWords();
        return;
      }
      this.#before = null; // the person pressed Undo: the conflict is back, and a save would be stale
      this.#config.adopt(before.revision, mine);
    }
    if (mine === this.#theirs.text) {
      const theirs = this.#theirs;
      this.#close();
      this.#config.adopt(theirs); // both texts are equal
      return;
    }
    this.#parts = merge(this.#config.base, this.#theirs.text, mine);
    const keys = new Set(conflicts(this.#parts).map(({ key }) => key));
    for (const key of this.#choices.keys()) if (!keys.has(key)) this.#choices.delete(key);
    if (keys.size === 0) this.#showConflicts(false);
    this.#root.hidden = false;
    this.#drawWords();
    if (!part(this.#root, "merge-view").hidden) this.#drawConflicts();
    else this.#checkBroken();
  }

  /** Show the buttons of the current step. */
  #drawActions() {
    const isOver = this.#before !== null || this.#theirs === null;
    const show = (/** @type {string} */ name, /** @type {boolean} */ isShown) => { part(this.#root, name).hidden = !isShown; };
    const isChoosing = !part(this.#root, "merge-view").hidden;
    for (const name of ["merge-start", "merge-theirs", "merge-mine"]) show(name, !isOver && !isChoosing && !this.#isOverwriting && this.#broken === null);
    show("merge-see", !isOver && !this.#isOverwriting);
    show("merge-sure", !isOver && this.#isOverwriting);
    show("merge-broken", !isOver && this.#broken !== null);
    for (const name of ["merge-start", "merge-apply"]) part(this.#root, name).setAttribute("aria-disabled", String(this.#isChecking));
    setText(part(this.#root, "merge-start"), t(this.#isChecking ? "config.merge.checking" : "config.merge.start"));
    show("merge-undo", this.#before !== null);
    show("merge-dismiss", isOver);
  }

  #drawWords() {
    this.#drawActions();
    if (this.#before !== null) return; // the panel reports the merge
    this.#root.classList.add("working");
    const count = conflicts(this.#parts).length;
    const what = whoSaved(this.#entry);
    setText(part(this.#root, "merge-text"), count ? t("config.merge.conflicts", { n: count, what }) : t("config.merge.clean", { what }));
  }

  /** @returns {number} lines */
  #changedByThem() {
    return changes(this.#config.base.split("\n"), this.#theirs?.text.split("\n") ?? [])
      .reduce((sum, { from, to, start, end }) => sum + Math.max(to - from, end - start), 0);
  }

  #start() {
    this.#draw(); // drawing is delayed: the text may be newer
    if (conflicts(this.#parts).length === 0) {
      void this.#apply();
      return;
    }
    this.#showConflicts(true);
    this.#root.querySelector("input")?.focus();
  }

  /** @param {boolean} isShown */
  #showConflicts(isShown) {
    const view = part(this.#root, "merge-view");
    if (view.hidden === !isShown) return;
    const hadFocus = view.contains(document.activeElement);
    view.hidden = !isShown;
    this.#drawConflicts();
    if (this.#theirs) this.#drawWords();
    if (hadFocus) this.#root.focus();
  }

  #drawConflicts() {
    const found = conflicts(this.#parts);
    const box = part(this.#root, "conflicts");
    const known = new Map([...box.children].map((child) => [/** @type {HTMLElement} */ (child).dataset.key, child]));
    box.replaceChildren(...found.map((conflict, index) => {
      const element = /** @type {HTMLElement} */ (known.get(conflict.key) ?? this.#conflictElement(conflict));
      setText(part(element, "conflict-title"), t("config.merge.conflict", { number: index + 1, of: found.length, line: String(conflict.line) }));
      return element;
    }));
    this.#drawMerged();
    this.#drawChoices();
  }

  /** @param {Conflict} conflict @returns {HTMLElement} */
  #conflictElement(conflict) {
    const element = cloneTemplate("conflict-template");
    element.dataset.key = conflict.key;
    for (const input of element.querySelectorAll("input")) input.name = conflict.key;
    const before = this.#parts[this.#parts.indexOf(conflict) - 1];
    const context = part(element, "context");
    context.textContent = before && before.kind !== "conflict" ? before.lines.slice(-CONTEXT_LINES).join("\n") : "";
    for (const side of /** @type {const} */ (["base", "theirs", "mine"])) {
      const box = part(element, side);
      box.textContent = conflict[side].join("\n");
      if (conflict[side].length === 0) box.dataset.empty = t("config.merge.no_lines");
      else if (conflict[side].every((line) => line === "")) box.dataset.empty = t("config.merge.empty_lines", { n: conflict[side].length });
    }
    return element;
  }

  /** The list of automatic merges. */
  #drawMerged() {
    const counts = countMerged(this.#parts);
    const words = /** @type {const} */ (["theirs", "mine", "alike"]).filter((kind) => counts[kind]).map((kind) => t(`config.merge.lines.${kind}`, { n: counts[kind] }));
    const details = part(this.#root, "merge-details");
    details.hidden = words.length === 0;
    setText(part(details, "merge-summary"), t("config.merge.automatic", { what: words.join(", ") }));
    const merged = this.#parts.filter((one) => one.kind !== "same" && one.kind !== "conflict").slice(0, LISTED_MAX);
    part(details, "merge-list").replaceChildren(...merged.map((one) => {
      const { kind, lines, base } = /** @type {import("./merge.js").Settled} */ (one);
      const row = cloneTemplate("merged-template");
      const whose = t(`config.merge.whose.${kind}`);
      setText(part(row, "whose"), lines.length ? whose : t("config.merge.whose_removed", { whose }));
      setText(part(row, "lines"), (lines.length ? lines : base).join("\n"));
      return row;
    }));
  }

  #drawChoices() {
    const found = conflicts(this.#parts);
    for (const element of part(this.#root, "conflicts").children) {
      const choice = this.#choices.get(/** @type {HTMLElement} */ (element).dataset.key ?? "");
      for (const input of element.querySelectorAll("input")) input.checked = input.value === choice;
    }
    this.#checkBroken();
    const chosen = found.filter(({ key }) => this.#choices.has(key)).length;
    /** @type {HTMLButtonElement} */ (part(this.#root, "merge-apply")).disabled = chosen < found.length;
    setText(part(this.#root, "merge-chosen"), chosen < found.length ? t("config.merge.chosen", { chosen, of: found.length }) : t("config.merge.all_chosen"));
  }

  /** @param {Choice} choice */
  #chooseAll(choice) {
    for (const { key } of conflicts(this.#parts)) this.#choices.set(key, choice);
    this.#drawChoices();
  }

  #toggleSeen() {
    const seen = part(this.#root, "merge-seen");
    seen.hidden = !seen.hidden;
    part(this.#root, "merge-see").setAttribute("aria-expanded", String(!seen.hidden));
    if (seen.hidden || !this.#theirs) seen.replaceChildren();
    else mountDiff(seen, { before: this.#config.base, after: this.#theirs.text, beforeLabel: t("config.merge.started_from"), afterLabel: t("config.merge.theirs") });
  }

  /** @returns {string | null} the merged text; null while a conflict has no choice */
  #merged() {
    return conflicts(this.#parts).every(({ key }) => this.#choices.has(key)) ? mergedText(this.#parts, this.#choices) : null;
  }

  /** Take the merged text if it is valid, else ask: lines that nobody changed twice may still not fit together. */
  async #apply() {
    this.#draw(); // as in #start
    const theirs = this.#theirs;
    const text = theirs && this.#merged();
    if (!theirs || text === null || this.#isChecking) return;
    this.#isChecking = true;
    this.#drawActions();
    let problem = "";
    try {
      const body = encode(theirs.original, text);
      const { errors: [first] } = await (await call("POST", "/config/check", { body, headers: { "Content-Type": "application/yaml" } })).json();
      const name = conflicts(this.#parts).length ? "config.merge.broken_chosen" : "config.merge.broken";
      if (first) problem = t(name, { line: String(first.line), column: String(first.column), message: visible(first.message) });
    } catch (error) {
      problem = t("config.merge.unchecked", { reason: reasonOf(error) });
    }
    this.#isChecking = false;
    if (this.#theirs === theirs) this.#draw();
    if (this.#theirs !== theirs || this.#merged() !== text) { // someone saved or typed during the check: what is shown is new
      this.#drawActions();
      return;
    }
    if (problem === "") this.#take(text, t("config.merge.done", { what: this.#whatMerged() }));
    else {
      this.#broken = text;
      setText(part(this.#root, "merge-broken-text"), problem);
      this.#drawActions();
      announce(problem);
      part(this.#root, "merge-broken").focus();
    }
  }

  /** @returns {string} what the merged text is made of */
  #whatMerged() {
    const { theirs, mine } = countMerged(this.#parts);
    const chosen = conflicts(this.#parts).length;
    return [
      theirs && t("config.merge.lines.theirs", { n: theirs }),
      mine && t("config.merge.lines.mine", { n: mine }),
      chosen && t("config.merge.chosen_lines", { n: chosen }),
    ].filter(Boolean).join(", ");
  }

  #takeBroken() {
    const text = this.#broken;
    if (text !== null) this.#take(text, t("config.merge.done_broken", { what: this.#whatMerged() }));
  }

  /** What the person is asked about may have changed: by typing, or by another choice. */
  #checkBroken() {
    if (this.#broken !== null && this.#merged() !== this.#broken) this.#forgetBroken(false);
  }

  /** Stop asking about a merged text that is not valid. @param {boolean} isAnswered whether the person pressed a button that goes away now */
  #forgetBroken(isAnswered) {
    const hadFocus = part(this.#root, "merge-broken").contains(document.activeElement);
    this.#broken = null;
    this.#drawActions();
    if (isAnswered || hadFocus) part(this.#root, part(this.#root, "merge-view").hidden ? "merge-start" : "merge-apply").focus();
  }

  #loadTheirs() {
    if (this.#theirs) this.#take(this.#theirs.text, t("config.merge.loaded"));
  }

  /** Put a text made with theirs into the editor. @param {string} text @param {string} sentence what happened */
  #take(text, sentence) {
    const theirs = /** @type {Revision} */ (this.#theirs);
    const { etag, original, base, text: mine } = this.#config;
    this.#close();
    if (text !== mine) { // equal if "mine" was chosen everywhere: nothing to undo
      this.#theirs = theirs;
      this.#before = { revision: { etag, original, text: base }, text: mine };
    }
    this.#config.adopt(theirs, text);
    this.#root.hidden = false;
    this.#root.classList.remove("working");
    setText(part(this.#root, "merge-text"), sentence);
    this.#drawActions();
    announce(sentence);
    this.#config.focus();
  }

  #undo() {
    if (this.#before !== null) this.#config.replaceText(this.#before.text);
  }

  /** @param {boolean} isAsked */
  #askOverwrite(isAsked) {
    this.#isOverwriting = isAsked;
    setText(part(this.#root, "merge-sure-text"), t("config.merge.overwrite_ask", { n: this.#changedByThem() }));
    this.#drawWords();
    part(this.#root, isAsked ? "merge-sure-yes" : "merge-mine").focus();
  }

  #overwrite() {
    this.#take(this.#config.text, t("config.merge.kept_mine"));
  }
}

/** @param {Entry | null} entry null: not known @returns {string} who saved a newer revision, when and from where; no sentence yet */
export function whoSaved(entry) {
  if (!entry) return t("config.newer.someone");
  const when = ago(entry.saved_at);
  if (!entry.client) return t("config.newer.server", { ago: when });
  return t("config.newer.from", { who: visible(entry.account ?? t("config.someone")), place: visible(entry.client.host || entry.client.ip), ago: when });
}
