// The prefix of every server address: a proxy may serve Dropmill below a sub-path. No other module writes an absolute path.

/** What the server's paths begin with, such as `/drop`; "" at the root, and outside a browser. */
export const base = globalThis.document?.documentElement.dataset.base ?? "";

/** What the API's paths begin with. */
export const api = `${base}/api/v1`;

/** Whether the person may see the config: links to it are hidden otherwise, and the server refuses it. */
export const seesConfig = !has("no-config");

/** Whether the person may send files here. */
export const canSend = !has("no-send");

/** Whether the person may cancel and retry jobs; the buttons are hidden otherwise, and the server refuses it. */
export const canControl = !has("no-control");

/** Whether this page belongs to a link: then it leads nowhere into the product. */
export const isOfLink = has("of-link");

/** Where a person chooses files: the first page, or that of the link. */
export const home = isOfLink ? base : `${base}/`;

/** The version of Dropmill that made this page; "" outside a browser. */
export const version = globalThis.document?.documentElement.dataset.version ?? "";

/** @param {string} name of a class of the whole page */
function has(name) {
  return globalThis.document?.documentElement.classList.contains(name) ?? false;
}
