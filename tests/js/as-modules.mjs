// Has Node.js load every .js file of this repository as an ES module. Browsers do; Node.js 18, which Debian 12 has, needs a
// package.json that says so, and users need none. For: node --import ./tests/js/as-modules.mjs --test tests/js/*/*.test.js

import { readFileSync, readdirSync } from "node:fs";
import { register } from "node:module";

const hooks = `export const load = (url, context, next) => {
  const isOurs = url.startsWith("file:") && url.endsWith(".js") && !url.includes("/node_modules/");
  return next(url, isOurs ? { ...context, format: "module" } : context);
};`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

// What a page embeds: the English catalogue, for every module that says something.
const catalogue = new URL("../../src/dropmill/web/catalogue/en/", import.meta.url);
const areas = Object.fromEntries(readdirSync(catalogue).map((name) => [name.replace(".json", ""), JSON.parse(readFileSync(new URL(name, catalogue), "utf8"))]));
/** @type {any} */ (globalThis).messages = JSON.stringify({ language: "en", areas });
