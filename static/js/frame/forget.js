// What this browser keeps for the person who signs out: ids of submissions, and the names and handles of files. How pages look and
// work on this device stays. No DOM.

import { forgetFiles } from "../upload/kept-files.js";

/** What is left in localStorage; whatever else is ours goes, so that a new key is not left by oversight. */
const OF_THE_DEVICE = new Set(["dropmill-client", "dropmill-shortcuts", "dropmill-socket", "dropmill-theme", "dropmill-wrap"]);

/** Forget what the next person at this browser should not find. */
export async function forgetPerson() {
  await forgetFiles();
  try {
    const ours = Object.keys(localStorage).filter((key) => key.startsWith("dropmill-"));
    for (const key of ours) if (!OF_THE_DEVICE.has(key)) localStorage.removeItem(key);
  } catch {
    // storage is disabled: nothing is kept
  }
}
