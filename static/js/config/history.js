// The config's history: who saved what, when and from where; compare two revisions, restore an older one, remove a text
// with a leaked secret for good. It never changes the text in the editor: a restored revision arrives like any other save.

import { Problem, call, callJson, reasonOf } from "../core/api.js";
import { mountDiff } from "./diff.js";
import { bytes, clientText, exactTime, localDateTime, localDateTimeSeconds, visible } from "../core/format.js";
import { matchLines } from "./lines.js";
import { t } from "../core/messages.js";
import { announce, cloneTemplate, part, setChildren, setText, setTime } from "../core/page.js";
import { released } from "../core/press.js";

/** @typedef {import("./document.js").ConfigDocument} ConfigDocument */
/** @typedef {"did" | "since" | "mine"} Way what a revision is compared with: the one before, the newest, the text in the editor */

/**
 * @typedef {object} Entry one revision as the API lists it
 * @property {string} sha256
 * @property {string} saved_at
 * @property {number} size
 * @property {string | null} message
 * @property {string | null} account
 * @property {{ip: string, host: string | null} | null} client null: changed with an editor on the server
 * @property {boolean} is_purged whether its text was removed for good
 */

const PAGE = 20;
const MINE = "mine";
const EMPTY = "empty"; // stands for the text before the first revision
const COUNTED_MAX = 64 * 1024; // bytes of a text whose changed lines are counted

/** @param {Entry} entry @returns {string} unlike the SHA-256, distinct for a restored revision with the same text */
const keyOf = ({ sha256, saved_at }) => `${saved_at} ${sha256}`;

/** @type {Record<string, string>} messages that the server writes, as titles */
const BY_THE_SERVER = { "changed outside of Dropmill": "config.revision.on_server", "at start-up": "config.revision.at_start" };

/** @param {Entry} entry @returns {string} */
function titleOf({ message, client }, seesAuthors = true) {
  if (!message && !seesAuthors) return t("config.revision.saved");
  if (!message) return t(client ? "config.revision.saved_here" : "config.revision.on_server");
  return !client && message in BY_THE_SERVER && seesAuthors ? t(BY_THE_SERVER[message]) : visible(message);
}

/** @param {Entry} entry @returns {string} account, address and host; "" for a change on the server */
const whoOf = ({ account, client }) => [account, clientText(client)].filter(Boolean).map((text) => visible(String(text))).join(" · ");

/** The list beside the editor, and the dialog that compares. */
export class HistoryPanel {
  #root;
  #dialog;
  #config;
  #mayChange;
  #seesAuthors;
  /** @type {Entry[]} newest first */
  #entries = [];
  /** @type {string | null} cursor of the next page; null: there is none */
  #next = null;
  #questions = 0;
  /** The newest request for the list. */
  #newest = Promise.resolve();
  #comparisons = 0;
  /** @type {{before: string, after: string}} keys of the revisions that are compared, MINE or EMPTY */
  #pair = { before: EMPTY, after: MINE };
  /** @type {Entry | null} the revision that the dialog is about: the one opened or picked last */
  #subject = null;
  /** @type {Map<string, Promise<string[]>>} lines of revisions, by SHA-256 */
  #lines = new Map();
  #counting = Promise.resolve();
  #inSight = new IntersectionObserver((seen, observer) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      this.#counting = this.#counting.then(() => this.#countLines(/** @type {HTMLElement} */ (target).dataset.key ?? ""));
    }
  });

  /**
   * @param {HTMLElement} root
   * @param {HTMLDialogElement} dialog
   * @param {ConfigDocument} config
   * @param {{mayChange: boolean, seesAuthors: boolean}} [rights] whether the person may restore and remove, and whether it is said who saved
   */
  constructor(root, dialog, config, { mayChange, seesAuthors } = { mayChange: true, seesAuthors: true }) {
    this.#root = root;
    this.#dialog = dialog;
    this.#config = config;
    this.#mayChange = mayChange;
    this.#seesAuthors = seesAuthors;
    part(root, "history-more").addEventListener("click", () => this.#showMore());
    part(dialog, "compare-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => this.#closed());
    for (const side of /** @type {const} */ (["before", "after"])) {
      const box = part(dialog, `side-${side}`);
      part(box, "pick").addEventListener("change", () => {
        const key = /** @type {HTMLSelectElement} */ (part(box, "pick")).value;
        this.#pair[side] = key;
        this.#subject = this.#entry(key) ?? this.#subject;
        this.#compare();
      });
      part(box, "restore").addEventListener("click", () => this.#askRestore(this.#entry(this.#pair[side]), part(dialog, "compare-sure"), part(box, "restore")));
    }
    part(dialog, "purge").addEventListener("click", () => this.#askPurge(this.#subject, part(dialog, "compare-sure"), part(dialog, "purge")));
    for (const button of dialog.querySelectorAll("[data-way]")) {
      button.addEventListener("click", () => {
        if (this.#subject) this.#show(this.#subject, /** @type {Way} */ (/** @type {HTMLElement} */ (button).dataset.way));
      });
    }
  }

  /** Reload the list, after each save, restore and removal by anyone. @returns {Promise<void>} */
  refresh() {
    this.#newest = this.#read();
    return this.#newest;
  }

  /** @returns {Promise<void>} */
  async #read() {
    const question = ++this.#questions;
    let page;
    try {
      page = await callJson("GET", `/config/revisions?limit=${Math.max(PAGE, this.#entries.length)}`);
    } catch (error) {
      this.#say(t("config.revision.not_read", { reason: reasonOf(error) }));
      return;
    }
    await released();
    if (question !== this.#questions) return this.#newest; // a newer request is running
    this.#entries = page.items;
    this.#next = page.next;
    this.#say("");
    this.#draw();
    if (this.#dialog.open) this.#drawPicks();
  }

  /**
   * Who saved a revision last, when, from where.
   * @param {string} sha256
   * @returns {Promise<Entry | null>} null if it is not known
   */
  async describe(sha256) {
    await this.refresh(); // always: the same text may have been saved again by someone else
    return this.#entries.find((entry) => entry.sha256 === sha256) ?? null;
  }

  /** Compare a revision with the newest. @param {string} sha256 from a link */
  async open(sha256) {
    if (!this.#entries.length) await this.refresh();
    while (this.#next && !this.#entries.some((entry) => entry.sha256 === sha256)) {
      if (!await this.#loadMore()) break;
    }
    const entry = this.#entries.find((one) => one.sha256 === sha256);
    if (entry) this.#openDialog(entry, entry === this.#entries[0] ? "did" : "since");
    else this.#say(t("config.revision.not_found"));
  }

  async #showMore() {
    const first = this.#entries.length;
    if (!await this.#loadMore()) return;
    /** @type {HTMLElement | null | undefined} */ (part(this.#root, "revisions").children[first]?.querySelector("button"))?.focus();
  }

  /** @returns {Promise<boolean>} whether that worked */
  async #loadMore() {
    const next = this.#next;
    try {
      const page = await callJson("GET", `/config/revisions?limit=${PAGE}&before=${encodeURIComponent(next ?? "")}`);
      if (next !== this.#next) return false; // another request has loaded it
      this.#entries.push(...page.items);
      this.#next = page.next;
    } catch (error) {
      this.#say(t("config.revision.older_not_read", { reason: reasonOf(error) }));
      return false;
    }
    this.#draw();
    return true;
  }

  /** @param {string} sentence "" hides the box */
  #say(sentence) {
    const box = part(this.#root, "history-problem");
    box.hidden = sentence === "";
    setText(box, sentence);
  }

  #draw() {
    const list = part(this.#root, "revisions");
    const known = new Map([...list.children].map((row) => [/** @type {HTMLElement} */ (row).dataset.key, row]));
    const focused = document.activeElement;
    const rows = this.#entries.map((entry, index) => {
      const row = /** @type {HTMLElement} */ (known.get(keyOf(entry)) ?? this.#row(entry));
      row.toggleAttribute("data-purged", entry.is_purged);
      setText(part(row, "mark"), index === 0 ? t("config.revision.newest") : entry.is_purged ? t("config.revision.purged") : "");
      setText(part(row, "size"), entry.is_purged ? "" : ` · ${bytes(entry.size)}`);
      setText(part(row, "when"), this.#timeOf(entry, index));
      part(row, "restore").hidden = !this.#mayChange || index === 0 || entry.is_purged || entry.sha256 === this.#entries[0].sha256;
      if (part(row, "lines").textContent === "") this.#inSight.observe(row);
      return row;
    });
    setChildren(list, rows);
    if (focused instanceof HTMLElement && list.contains(focused)) focused.focus(); // moving its row takes it away
    part(this.#root, "history-more").hidden = this.#next === null;
  }

  /** @param {Entry} entry @returns {HTMLElement} */
  #row(entry) {
    const row = cloneTemplate("revision-template");
    row.dataset.key = keyOf(entry);
    const title = this.#titleOf(entry);
    const time = localDateTimeSeconds(entry.saved_at);
    part(row, "what").textContent = title;
    const who = whoOf(entry);
    part(row, "who").textContent = who && `${who} · `;
    setTime(part(row, "when"), entry.saved_at);
    const find = () => this.#entry(keyOf(entry)) ?? entry; // it may have been purged since
    const compare = part(row, "compare-one");
    compare.setAttribute("aria-label", t("config.revision.compare_one", { title, time }));
    compare.addEventListener("click", () => this.#openDialog(find(), "did"));
    const restore = part(row, "restore");
    restore.setAttribute("aria-label", t("config.revision.restore_one", { title, time }));
    restore.addEventListener("click", () => this.#askRestore(find(), row, restore));
    return row;
  }

  /** @param {Entry} entry @param {number} index @returns {string} with seconds where its neighbour has the same minute */
  #timeOf({ saved_at }, index) {
    const time = localDateTime(saved_at);
    const isAlike = [index - 1, index + 1].some((at) => this.#entries[at] && localDateTime(this.#entries[at].saved_at) === time);
    return isAlike ? localDateTimeSeconds(saved_at) : time;
  }

  /** Count the changed lines of a revision that came into sight, one after the other. @param {string} key */
  async #countLines(key) {
    const index = this.#entries.findIndex((entry) => keyOf(entry) === key);
    if (index === this.#entries.length - 1 && this.#next) return; // the one before is on the next page
    const pair = [this.#entries[index + 1], this.#entries[index]];
    if (!pair[1] || pair.some((entry) => entry && (entry.is_purged || entry.size > COUNTED_MAX))) return;
    try {
      const [before, after] = await Promise.all(pair.map((entry) => this.#linesOf(entry?.sha256)));
      const kept = matchLines(before, after).filter((from) => from !== -1).length;
      const counts = { added: after.length - kept, removed: before.length - kept };
      const shown = [...part(this.#root, "revisions").children].find((row) => /** @type {HTMLElement} */ (row).dataset.key === key);
      if (!shown) return;
      setText(part(shown, "lines"), ` · ${t("config.revision.lines", counts)}`);
      setText(part(shown, "lines-spoken"), t("config.revision.lines_spoken", counts));
    } catch {
      // Purged or unreachable: the numbers stay away, Compare says why.
    }
  }

  /** @param {string | undefined} sha256 @returns {Promise<string[]>} */
  #linesOf(sha256) {
    if (sha256 === undefined) return Promise.resolve([]);
    let lines = this.#lines.get(sha256);
    if (!lines) {
      lines = textOf(sha256).then((text) => text.replace(/\r\n?/g, "\n").replace(/\n$/, "").split("\n"));
      lines.catch(() => this.#lines.delete(sha256));
      this.#lines.set(sha256, lines);
    }
    return lines;
  }

  /** @param {Entry} entry @returns {string} */
  #titleOf(entry) {
    return titleOf(entry, this.#seesAuthors);
  }

  // --- comparing ---

  /** @param {Entry} entry @param {Way} way */
  #openDialog(entry, way) {
    part(this.#dialog, "compare-sure").replaceChildren();
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#show(entry, way);
  }

  /** @param {Entry} entry @param {Way} way */
  async #show(entry, way) {
    if (way === "did" && this.#next && keyOf(entry) === keyOf(this.#entries[this.#entries.length - 1])) await this.#loadMore();
    this.#subject = entry;
    this.#pair = this.#pairOf(entry, way);
    await this.#compare();
  }

  #closed() {
    this.#comparisons += 1;
    part(this.#dialog, "compare-diff").replaceChildren();
    const address = new URL(location.href);
    if (!address.searchParams.has("revision")) return;
    address.searchParams.delete("revision");
    history.replaceState(history.state, "", address);
  }

  /** @param {string} key @returns {Entry | undefined} */
  #entry(key) {
    return this.#entries.find((entry) => keyOf(entry) === key);
  }

  /** @param {Entry} entry @param {Way} way @returns {{before: string, after: string}} */
  #pairOf(entry, way) {
    const key = keyOf(entry);
    if (way === "mine") return { before: key, after: MINE };
    if (way === "since") return { before: key, after: keyOf(this.#entries[0]) };
    const before = this.#entries[this.#entries.findIndex((one) => keyOf(one) === key) + 1];
    return { before: before ? keyOf(before) : EMPTY, after: key };
  }

  async #compare() {
    const comparison = ++this.#comparisons;
    this.#drawPicks();
    const { before, after } = this.#pair;
    const diff = part(this.#dialog, "compare-diff");
    const text = part(this.#dialog, "compare-text");
    try {
      const [left, right] = await Promise.all([this.#textOf(before), this.#textOf(after)]);
      if (comparison !== this.#comparisons) return;
      setText(text, "");
      mountDiff(diff, { before: left, after: right, beforeLabel: this.#labelOf(before), afterLabel: this.#labelOf(after) });
    } catch (error) {
      if (comparison !== this.#comparisons) return;
      diff.replaceChildren();
      setText(text, error instanceof Problem && error.status === 410 ? t("config.revision.purged_hint") : t("config.compare.failed", { reason: reasonOf(error) }));
    }
  }

  /** @param {string} key @returns {Promise<string>} with its own line ends; MINE with those that a save would write */
  async #textOf(key) {
    if (key === MINE) return new TextDecoder().decode(this.#config.bytes());
    const entry = this.#entry(key);
    if (!entry) return "";
    return textOf(entry.sha256);
  }

  /** @param {string} key @returns {string} */
  #labelOf(key) {
    if (key === MINE) return t("config.compare.my_text");
    if (key === EMPTY) return t("config.compare.nothing");
    const entry = this.#entry(key);
    if (!entry) return t("config.compare.unknown");
    const index = this.#entries.indexOf(entry);
    return [this.#titleOf(entry), this.#timeOf(entry, index), index === 0 ? t("config.revision.newest") : ""].filter(Boolean).join(" · ");
  }

  #drawPicks() {
    const hasMine = this.#config.isUnsaved;
    const keys = [...(hasMine ? [MINE] : []), ...this.#entries.map(keyOf)];
    for (const side of /** @type {const} */ (["before", "after"])) {
      const box = part(this.#dialog, `side-${side}`);
      const pick = /** @type {HTMLSelectElement} */ (part(box, "pick"));
      const chosen = this.#pair[side];
      pick.replaceChildren(...[...keys, ...(keys.includes(chosen) ? [] : [chosen])].map((key) => new Option(this.#labelOf(key), key, false, key === chosen)));
      const entry = this.#entry(chosen);
      const isNewest = entry !== undefined && entry.sha256 === this.#entries[0].sha256;
      const place = entry && this.#seesAuthors && (clientText(entry.client) || t("config.revision.where_server"));
      const facts = entry ? [entry.account, place, entry.is_purged ? t("config.revision.purged") : bytes(entry.size)] : [];
      setText(part(box, "facts"), facts.filter(Boolean).map((text) => visible(String(text))).join(" · "));
      part(box, "facts").title = entry ? `${exactTime(entry.saved_at)}\nSHA-256 ${entry.sha256}` : "";
      part(box, "restore").hidden = !this.#mayChange || !entry || entry.is_purged || isNewest;
    }
    const subject = this.#subject && (this.#entry(keyOf(this.#subject)) ?? this.#subject); // it may have been purged since
    part(this.#dialog, "purge").hidden = !this.#mayChange || !subject || subject.is_purged || subject.sha256 === this.#entries[0].sha256;
    if (!subject) return;
    for (const button of this.#dialog.querySelectorAll("[data-way]")) {
      const way = /** @type {Way} */ (/** @type {HTMLElement} */ (button).dataset.way);
      const pair = this.#pairOf(subject, way);
      button.setAttribute("aria-pressed", String(pair.before === this.#pair.before && pair.after === this.#pair.after));
      /** @type {HTMLElement} */ (button).hidden = (way === "mine" && !hasMine) || (way === "since" && keyOf(subject) === keyOf(this.#entries[0]));
    }
  }

  // --- restoring and removing ---

  /** @param {Entry | undefined} entry @param {HTMLElement} where @param {HTMLElement} from the pressed button */
  #askRestore(entry, where, from) {
    if (!entry) return;
    const named = { title: this.#titleOf(entry), time: localDateTimeSeconds(entry.saved_at) };
    this.#ask(where, from, {
      text: this.#config.isUnsaved ? t("config.revision.restore_ask_unsaved", named) : t("config.revision.restore_ask", named),
      yes: t("config.revision.restore_yes"),
      act: async () => {
        await call("POST", `/config/revisions/${entry.sha256}/restore`, { headers: { "If-Match": `"${this.#entries[0].sha256}"` } });
        announce(t("config.revision.restored"));
        if (this.#dialog.open) this.#dialog.close();
        void this.#config.follow(); // the event may not arrive: the socket can be away
      },
    });
  }

  /** @param {Entry | null} entry @param {HTMLElement} where @param {HTMLElement} from */
  #askPurge(entry, where, from) {
    if (!entry) return;
    this.#ask(where, from, {
      text: t("config.revision.purge_ask", { title: this.#titleOf(entry), time: localDateTimeSeconds(entry.saved_at) }),
      yes: t("config.revision.purge_yes"),
      act: async () => {
        await call("DELETE", `/config/revisions/${entry.sha256}`);
        announce(t("config.revision.purge_done"));
      },
    });
  }

  /**
   * @param {HTMLElement} where the question is appended to it
   * @param {HTMLElement} from the pressed button; gets the focus back
   * @param {{text: string, yes: string, act: () => Promise<void>}} question
   */
  #ask(where, from, { text, yes, act }) {
    for (const other of document.querySelectorAll(".sure")) other.remove();
    const box = cloneTemplate("sure-template");
    setText(part(box, "sure-text"), text);
    const button = /** @type {HTMLButtonElement} */ (part(box, "sure-yes"));
    setText(button, yes);
    part(box, "sure-no").addEventListener("click", () => {
      box.remove();
      from.focus();
    });
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await act();
        await this.refresh();
        box.remove();
        if (this.#dialog.open) await this.#compare();
        if (document.activeElement !== document.body) return; // closing the dialog has given it back
        if (from.getClientRects().length) from.focus();
        else (this.#dialog.open ? part(this.#dialog, "compare-close") : where.querySelector("button"))?.focus();
      } catch (error) {
        const problem = part(box, "sure-problem");
        problem.hidden = false;
        setText(problem, sentenceOf(error));
        button.disabled = false;
        if (error instanceof Problem && error.status === 412) await this.refresh();
      }
    });
    where.append(box);
    box.focus();
  }
}

/** @param {unknown} error @returns {string} */
function sentenceOf(error) {
  if (error instanceof Problem && error.status === 412) return t("config.revision.stale");
  if (error instanceof Problem && error.status === 410) return t("config.revision.purged_hint");
  return reasonOf(error);
}

/** @param {string} sha256 @returns {Promise<string>} the revision's text, with its own line ends */
const textOf = async (sha256) => (await call("GET", `/config/revisions/${sha256}`, { headers: { Accept: "application/yaml" } })).text();
