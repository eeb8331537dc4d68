// The prefix of every server address: a proxy may serve Dropmill below a sub-path. No other module writes an absolute path.

/** What the server's paths begin with, such as `/drop`; "" at the root, and outside a browser. */
export const base = globalThis.document?.documentElement.dataset.base ?? "";

/** What the API's paths begin with. */
export const api = `${base}/api/v1`;

/** Whether the person may see the config: links to it are hidden otherwise, and the server refuses it. */
export const seesConfig = !globalThis.document?.documentElement.classList.contains("no-config");

/** The version of Dropmill that made this page; "" outside a browser. */
export const version = globalThis.document?.documentElement.dataset.version ?? "";
