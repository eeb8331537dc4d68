// Builds what browsers are sent. `static/vendor`: every file of bundles/ becomes one ES module of the same name; beside them
// lie the licences of the packages inside, and the SHA-256 of every file, which the tests compare. `static/dist`: one script
// and one style sheet for each page, from static/js and static/css; web/static_files.py reads its manifest.json.
// `node build.js FOLDER` builds both below FOLDER.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const sources = path.join(here, "../static");
const target = path.resolve(process.argv[2] ?? sources);
const vendor = path.join(target, "vendor");
const dist = path.join(target, "dist");
const common = /** @type {const} */ ({
  bundle: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  minify: true,
  legalComments: "none", // they are in LICENSES.txt, whole
  metafile: true,
});

await replaced(vendor, buildVendor);
await replaced(dist, buildDist);

/**
 * Build a folder anew; a build that fails leaves the old one.
 * @param {string} folder
 * @param {(into: string) => Promise<void>} make
 */
async function replaced(folder, make) {
  const fresh = `${folder}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  await make(fresh);
  await rm(folder, { recursive: true, force: true });
  await rename(fresh, folder);
}

/** @param {string} into */
async function buildVendor(into) {
  const bundles = (await readdir(path.join(here, "bundles"))).sort();
  const { metafile } = await build({
    ...common,
    absWorkingDir: here, // names in the output depend on it, so it must not be where npm was called
    entryPoints: bundles.map((name) => `bundles/${name}`),
    outdir: into,
  });
  for (const name of bundles) {
    // The type checker would take minified code at its word; what a bundle exports has the types of its packages.
    await writeFile(path.join(into, name.replace(/\.js$/, ".d.ts")), await readFile(path.join(here, "bundles", name)));
  }
  await writeFile(path.join(into, "LICENSES.txt"), await licences(Object.keys(metafile.inputs)));
  const sums = await sumsOf(into, (await readdir(into)).sort());
  await writeFile(path.join(into, "SHA256SUMS"), sums);
}

/**
 * A page is a file of css/pages; its script is js/PAGE/PAGE-page.js, or js/frame/frame-page.js if it needs no other.
 * @param {string} into
 */
async function buildDist(into) {
  /** @type {Record<string, string>} from each file that is served below dist/ to where it lies below static/ */
  const files = {};
  const bundles = {};
  for (const name of (await readdir(vendor)).filter((found) => found.endsWith(".js"))) {
    const sum = createHash("sha256").update(await readFile(path.join(vendor, name))).digest("hex");
    bundles[name] = name.replace(/\.js$/, `-${sum.slice(0, 8).toUpperCase()}.js`);
    files[bundles[name]] = `vendor/${name}`;
  }
  // A bundle of vendor/ keeps its own file: it changes less often than the pages, and lies there already.
  const vendorFiles = {
    name: "vendor",
    setup: (/** @type {import("esbuild").PluginBuild} */ { onResolve }) =>
      onResolve({ filter: /\/vendor\// }, (asked) => ({ path: `./${bundles[path.basename(asked.path)]}`, external: true })),
  };

  /** @param {Record<string, string>} entryPoints @returns what esbuild says of each file that it wrote, by its name */
  async function built(entryPoints) {
    const { metafile } = await build({
      ...common,
      absWorkingDir: sources,
      entryPoints,
      outdir: into,
      splitting: true, // what is imported later is a file of its own
      entryNames: "[name]-[hash]",
      chunkNames: "[name]-[hash]",
      assetNames: "[name]-[hash]",
      loader: { ".svg": "copy" },
      plugins: [vendorFiles],
    });
    const found = Object.entries(metafile.outputs).map(([name, output]) => ({ name: path.basename(name), output }));
    for (const { name } of found) files[name] = `dist/${name}`;
    return found;
  }

  const pages = {};
  const names = (await readdir(path.join(sources, "css/pages"))).map((name) => path.basename(name, ".css"));
  for (const page of names.filter((name) => name !== "styleguide").sort()) { // that is for development, from the sources
    const own = `js/${page}/${page}-page.js`;
    const [style] = await built({ [page]: `css/pages/${page}.css` });
    const scripts = await built({ [page]: existsSync(path.join(sources, own)) ? own : "js/frame/frame-page.js" });
    const script = /** @type {(typeof scripts)[number]} */ (scripts.find(({ output }) => output.entryPoint === own || output.entryPoint === "js/frame/frame-page.js"));
    pages[page] = { style: style.name, script: script.name, preload: importsOf(script.name, scripts) };
  }
  const [early] = await built({ "theme-early": "js/core/theme-early.js" });
  const [icon] = await built({ favicon: "favicon.svg" });
  const all = (await readdir(sources, { recursive: true })).map((name) => name.replaceAll("\\", "/"));
  const made = all.filter((name) => /^(css|js)\/.*\.(css|js)$|^vendor\/.*\.js$|^favicon\.svg$/.test(name)).sort();
  const manifest = {
    sources: createHash("sha256").update(await sumsOf(sources, made)).digest("hex"),
    early: early.name,
    icon: icon.name,
    pages,
    files: Object.fromEntries(Object.entries(files).sort(([one], [other]) => (one < other ? -1 : 1))),
  };
  await writeFile(path.join(into, "manifest.json"), `${JSON.stringify(manifest, null, 1)}\n`);
}

/**
 * @param {string} name of a script
 * @param {{name: string, output: import("esbuild").Metafile["outputs"][string]}[]} scripts
 * @returns {string[]} what the browser must have before the script can run
 */
function importsOf(name, scripts) {
  const found = scripts.find((one) => one.name === name);
  const direct = (found?.output.imports ?? []).filter(({ kind }) => kind === "import-statement").map((one) => path.basename(one.path));
  return [...new Set(direct.flatMap((one) => [one, ...importsOf(one, scripts)]))].sort();
}

/** @param {string} folder @param {string[]} names of files in it @returns {Promise<string>} as `sha256sum` prints them */
async function sumsOf(folder, names) {
  const lines = names.map(async (name) => `${createHash("sha256").update(await readFile(path.join(folder, name))).digest("hex")}  ${name}\n`);
  return (await Promise.all(lines)).join("");
}

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
