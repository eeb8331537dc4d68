// What a terminal would show of an output stream, bounded in size. No DOM.

const MAX_CHARACTERS = 400_000; // older text is one click away; a browser lays out no more without being felt
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g; // ECMA-48 colours and the like

/** The text that a terminal would show: a carriage return restarts the line. */
export class Screen {
  #settled = "";
  #line = "";

  /** @param {string} text */
  write(text) {
    for (const piece of text.replace(ESCAPES, "").split(/(?<=\n)|(?<=\r)(?!\n)/)) {
      if (this.#line.endsWith("\r") && piece !== "\n") this.#line = "";
      this.#line += piece;
      if (!this.#line.endsWith("\n")) continue;
      this.#settled += this.#line.replace(/\r+\n$/, "\n");
      this.#line = "";
    }
    if (this.#settled.length > MAX_CHARACTERS) {
      this.#settled = this.#settled.slice(this.#settled.indexOf("\n", this.#settled.length - MAX_CHARACTERS / 2) + 1);
    }
    if (this.#line.length > MAX_CHARACTERS) this.#line = this.#line.slice(-MAX_CHARACTERS / 2); // one without an end
  }

  /** @returns {string} */
  get text() {
    return this.#settled + this.#line.replace(/\r+$/, "");
  }
}
