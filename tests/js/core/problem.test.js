// What went wrong, on a German page: the server says it in English.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const read = (/** @type {string} */ area) => JSON.parse(readFileSync(new URL(`../../../src/dropmill/web/catalogue/de/${area}.json`, import.meta.url), "utf8"));
/** @type {any} */ (globalThis).messages = JSON.stringify({ language: "de", areas: { core: read("core"), problem: read("problem") } });
const { Problem } = await import("../../../static/js/core/api.js");
const { problemText } = await import("../../../static/js/core/problem.js");
const { eventAbout } = await import("../../../static/js/core/words.js");

test("a code that means one thing has a sentence in the page's language", () => {
  const problem = Problem.from(409, '{"code": "submission_sealed", "detail": "The submission is sealed; open another one."}');
  assert.equal(problem.message, "Diese Sendung nimmt keine Dateien mehr an. Beginnen Sie eine neue.");
});

test("the sentence has what the problem document has", () => {
  const large = { code: "file_too_large", detail: "a.bin is over the limit of 1 MiB for one file.", file: "a\u202Eb.bin", limit: 1024 * 1024 };
  assert.equal(problemText(large), "a⟨U+202E⟩b.bin ist größer als 1 MiB, so viel darf eine Datei haben.");
  assert.equal(problemText({ code: "too_many_files", limit: 1000 }), "Eine Sendung darf höchstens 1.000 Dateien haben.");
  assert.equal(problemText({ code: "too_many_files", limit: 1 }), "Eine Sendung darf nur 1 Datei haben.");
  const type = { code: "file_type_not_accepted", file: "a.exe", accept: [".csv", "image/*"] };
  assert.equal(problemText(type), "a.exe hat keinen Typ, der hier angenommen wird (.csv, image/*).");
});

test("a code that means several things, or lacks what its sentence needs, has the server's words", () => {
  const full = { code: "quota_exceeded", reason: "storage", limit: 20 * 1024 ** 3, used: 1024 ** 3 };
  assert.equal(problemText(full), "Das wäre mehr als die 20 GiB, die Sie hier aufbewahren dürfen; 1 GiB sind belegt. Was entfernt wird, macht Platz.");
  const often = { code: "too_many_submissions", reason: "submissions_a_day", limit: 20, retry_after: 70_000 };
  assert.equal(problemText(often), "Sie dürfen nur 20 Sendungen am Tag abschicken. Der nächste Tag beginnt um Mitternacht UTC.");
  assert.equal(problemText({ code: "too_many_requests", retry_after: 7 }), "Zu viele Anfragen. Versuchen Sie es in 7 Sekunden noch einmal.");
  assert.equal(problemText({ code: "illegal_transition", detail: "The job has ended." }), "The job has ended.");
  assert.equal(problemText({ code: "too_large", detail: "The body is larger than 1 MiB." }), "The body is larger than 1 MiB.");
  assert.equal(problemText({ code: "nothing_known", title: "Title" }), "Title");
  assert.equal(problemText({ detail: "sagt die Seite selbst" }), "sagt die Seite selbst");
  assert.equal(problemText({}), "");
});

test("why an upload was aborted is in the page's language, too", () => {
  const event = { name: "upload.aborted", subject: /** @type {any} */ ({ name: "a.txt" }), data: { cause: "cut_off", reason: "the connection was cut" } };
  assert.equal(eventAbout(event), "a.txt: die Verbindung brach ab");
  assert.equal(eventAbout({ ...event, data: { reason: "the connection was cut" } }), "a.txt: the connection was cut", "of before causes were recorded");
});
