// The form a prompt is typed in: grows with the text, keeps a draft, sends on Enter. Works as a plain form without it.

import { keep, kept } from "./store.js";

const touch = matchMedia("(hover: none) and (pointer: coarse)");

// On a touch keyboard there is no Shift-Enter, so Enter stays a new line there.
export const sendsOnEnter = ({ key, shiftKey, isComposing }) => key === "Enter" && !shiftKey && !isComposing && !touch.matches;

const growsByItself = CSS.supports("field-sizing", "content");

export class Composer {
  constructor(form, draft) {
    this.form = form;
    this.draft = draft;
    this.box = form.elements.text;
    this.problem = form.querySelector("#problem");
    if (!this.box.value) this.box.value = kept(draft);
    this.box.addEventListener("input", () => this.changed());
    this.box.addEventListener("keydown", (event) => this.key(event));
    form.addEventListener("submit", (event) => this.fits() || event.preventDefault());
    this.grow();
  }

  get text() {
    return this.box.value;
  }

  set text(text) {
    this.box.value = text;
    this.changed();
  }

  changed() {
    keep(this.draft, this.text);
    this.say("");
    this.grow();
  }

  grow() {
    if (growsByItself) return;
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
  }

  // Taking the focus on a touch screen would open its keyboard.
  focus() {
    if (!touch.matches) this.box.focus();
  }

  key(event) {
    if (!sendsOnEnter(event)) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  fits() {
    const limit = Number(this.form.dataset.max);
    const size = [...this.text].length;
    if (size > limit) this.say(`That is ${size.toLocaleString("en")} characters; at most ${limit.toLocaleString("en")} fit. Shorten it a little.`);
    return size <= limit && this.text.trim() !== "";
  }

  say(problem) {
    this.problem.textContent = problem;
  }
}
