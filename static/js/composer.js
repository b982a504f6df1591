// A form a prompt is typed in: sends on Enter, and keeps a draft if it is named. Works as a plain form
// without it.

import { keep, kept } from "./store.js";

const touch = matchMedia("(hover: none) and (pointer: coarse)");

export class Composer {
  onsubmit = null; // Takes the text in place of the server.

  constructor(form, draft = "") {
    this.form = form;
    this.draft = draft;
    this.box = form.elements.text;
    this.problem = form.querySelector(".problem");
    this.box.value ||= kept(draft);
    this.box.addEventListener("input", () => this.changed());
    this.box.addEventListener("keydown", (event) => this.key(event));
    form.addEventListener("submit", (event) => this.submitted(event));
  }

  get text() {
    return this.box.value;
  }

  set text(text) {
    this.box.value = text;
    this.changed();
  }

  changed() {
    if (this.draft) keep(this.draft, this.text);
    this.say("");
  }

  // Taking the focus on a touch screen would open its keyboard.
  focus() {
    if (!touch.matches) this.box.focus();
  }

  // On a touch keyboard there is no Shift-Enter, so Enter stays a new line there.
  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch.matches) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  submitted(event) {
    const limit = Number(this.form.dataset.max);
    const size = [...this.text].length;
    if (size > limit) this.say(`That is ${size.toLocaleString("en")} characters; at most ${limit.toLocaleString("en")} fit. Shorten it a little.`);
    const fits = size <= limit && this.text.trim() !== "";
    if (!fits || this.onsubmit) event.preventDefault();
    if (fits) this.onsubmit?.(this.text);
  }

  say(problem) {
    this.problem.textContent = problem;
  }
}
