// Has Node.js load every .js file of this repository as an ES module. Browsers do; Node.js 18, which Debian 12 has, needs a
// package.json that says so, and users need none. For: node --import ./tests/js/as-modules.mjs --test tests/js/*/*.test.js

import { register } from "node:module";

const hooks = `export const load = (url, context, next) => {
  const isOurs = url.startsWith("file:") && url.endsWith(".js") && !url.includes("/node_modules/");
  return next(url, isOurs ? { ...context, format: "module" } : context);
};`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
