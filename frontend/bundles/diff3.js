// Comparing and merging texts by their lines: what static/js/lines.js and config-merge.js use of node-diff3.
export { diff3Merge, diffIndices } from "node-diff3";
