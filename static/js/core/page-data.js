// The data that the server embedded in this page.

/** @returns {Record<string, any>} {} for a page without data, and outside a browser */
export const pageData = () => JSON.parse(globalThis.document?.getElementById("page-data")?.textContent || "{}");
