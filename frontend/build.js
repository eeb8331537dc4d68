// Builds static/vendor: every file of bundles/ becomes one ES module of the same name. Beside them lie the licences of
// the packages inside, and the SHA-256 of every file, which the tests compare. `node build.js FOLDER` builds elsewhere.

import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const out = path.resolve(process.argv[2] ?? path.join(here, "../static/vendor"));

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
const bundles = (await readdir(path.join(here, "bundles"))).sort();
const { metafile } = await build({
  absWorkingDir: here, // names in the output depend on it, so it must not be where npm was called
  entryPoints: bundles.map((name) => `bundles/${name}`),
  outdir: out,
  bundle: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  minify: true,
  legalComments: "none", // they are in LICENSES.txt, whole
  metafile: true,
});
for (const name of bundles) {
  // The type checker would take minified code at its word; what a bundle exports has the types of its packages.
  await writeFile(path.join(out, name.replace(/\.js$/, ".d.ts")), await readFile(path.join(here, "bundles", name)));
}
await writeFile(path.join(out, "LICENSES.txt"), await licences(Object.keys(metafile.inputs)));

const names = (await readdir(out)).sort();
const sums = names.map(async (name) => {
  const sum = createHash("sha256").update(await readFile(path.join(out, name))).digest("hex");
  return `${sum}  ${name}\n`;
});
await writeFile(path.join(out, "SHA256SUMS"), (await Promise.all(sums)).join(""));

/**
 * @param {string[]} inputs files that are bundled
 * @returns {Promise<string>} the licence of every package among them; one without a licence file stops the build
 */
async function licences(inputs) {
  const folders = new Set(inputs.map((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0]).filter((found) => found !== undefined));
  const texts = [];
  for (const folder of [...folders].sort()) {
    const { name, version, license } = JSON.parse(await readFile(path.join(here, folder, "package.json"), "utf8"));
    const file = (await readdir(path.join(here, folder))).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name} brings no licence file`);
    const text = await readFile(path.join(here, folder, file), "utf8");
    texts.push(`${name} ${version} (${license})\n\n${text.trim()}\n`);
  }
  return texts.join(`\n${"-".repeat(80)}\n\n`);
}
