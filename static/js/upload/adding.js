// Drops on the page of a submission: they go into it while it is open, else a new one is offered.

import { check, leftOut } from "./checks.js";
import { offerNew, receiveFiles } from "./drop.js";

/** @typedef {import("./transfers.js").Item} Item */

/**
 * @param {{readonly isOpen: boolean}} submission
 * @param {{take(items: Item[]): Promise<Item[]>}} sending gives back what came too late
 * @param {(sentence: string) => void} say shows what went wrong
 * @param {import("./checks.js").Rules} rules
 */
export function addToSubmission(submission, sending, say, rules) {
  receiveFiles({
    use: () => (submission.isOpen ? "add" : "new"),
    take: async ({ items, unreadable }) => {
      // Each by itself: one that broke off may come again, and only the server knows how many there are by now.
      const checked = items.map((item) => ({ item, path: item.path, problem: check(rules, [item])[0] }));
      const late = await sending.take(checked.filter(({ problem }) => problem === "").map(({ item }) => item));
      const refused = leftOut(checked.filter(({ problem }) => problem !== ""));
      if (refused) say(refused);
      if (late.length || unreadable.length) offerNew({ items: late, unreadable });
    },
  });
}
