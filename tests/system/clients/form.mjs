// Sends the files named on standard input (one a line, UTF-8 in hexadecimal) as one form, by Node's own fetch (undici).
import { readFileSync } from "node:fs";

const form = new FormData();
for (const line of readFileSync(0, "ascii").split("\n").filter(Boolean)) {
  form.append("file", new Blob(["x"]), Buffer.from(line, "hex").toString("utf8"));
}
const answer = await fetch(`${process.argv[2]}/api/v1/submissions`, { method: "POST", body: form });
console.log(await answer.text());
