// SHA-256 for pages that browsers give none, those of plain http: what static/js/upload/fingerprint.js uses.
export { sha256 } from "@noble/hashes/sha2.js";
