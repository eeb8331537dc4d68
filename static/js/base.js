// Where the server's addresses begin: behind a proxy it may have a sub-path. No other module writes one from the root.

/** What the server's paths begin with, such as `/drop`; "" at the root. */
export const base = document.documentElement.dataset.base ?? "";

/** What the API's paths begin with. */
export const api = `${base}/api/v1`;
