// A reply on the page. Its elements are the server's (_reply.html, cloned for new turns), so that what frames make of
// them equals what a fresh page shows. Answers come as the server's HTML, everything else is only ever set as text.

import { apply, begin, isLive, noteOf } from "./log.js";
import { patch } from "./patch.js";

const ROW_BYTES = 100;
const clone = (id) => document.getElementById(id).content.cloneNode(true);

// A new message, and the ways to the others in its place (_branches.html).
function messageElement(template, { id, branches = [id] }) {
  const element = clone(template).querySelector("li");
  const at = branches.indexOf(id);
  element.id = `message-${id}`;
  for (const button of element.querySelectorAll("[name=message]")) button.value = id;
  for (const group of element.querySelectorAll(".branches")) {
    group.hidden = branches.length === 1;
    group.querySelector(".branch-number").textContent = `${at + 1}/${branches.length}`;
    for (const [n, button] of group.querySelectorAll("button").entries()) {
      button.value = branches[at + (n ? 1 : -1)] ?? "";
      button.disabled = !button.value;
    }
  }
  return element;
}

export function promptElement(prompt) {
  const element = messageElement("prompt-template", prompt);
  element.dataset.key = prompt.key ?? "";
  element.querySelector(".body").textContent = prompt.text;
  return element;
}

export class Reply {
  constructor(element) {
    this.element = element;
    this.state = begin(element.dataset);
    if (!isLive(element.dataset.status)) this.state.status = element.dataset.status;
    this.body = element.querySelector(".body");
    this.details = element.querySelector(".reasoning");
    this.reasoning = element.querySelector(".reasoning-text");
    this.note = element.querySelector(".note");
    this.unacked = 0;
    this.attempt = 1;
    this.frames = [];
  }

  // A new reply of a `turn` frame. Its rows follow from the first, whatever has become of it meanwhile.
  static of(said) {
    const element = messageElement("reply-template", said);
    const { status } = begin({ status: said.status });
    Object.assign(element.dataset, { stream: said.stream, seq: 0, status });
    const reply = new Reply(element);
    reply.setNote(status);
    return reply;
  }

  get isLive() {
    return isLive(this.state.status);
  }

  // What is to be read, its blocks apart.
  get text() {
    return [...this.body.children].map((block) => block.textContent).join("\n");
  }

  // Take a frame in; `render` shows all that was taken since.
  take(frame) {
    const { seq } = this.state;
    if (!apply(this.state, frame)) return;
    this.unacked += (frame.text ?? frame.html ?? "").length + ROW_BYTES * (this.state.seq - seq);
    this.frames.push(frame);
  }

  render() {
    for (const frame of this.frames) this.show(frame);
    this.frames = [];
    this.details.hidden = !this.reasoning.firstChild;
    Object.assign(this.element.dataset, { seq: this.state.seq, status: this.state.status });
  }

  show(frame) {
    const { type } = frame;
    this.attempt = frame.attempt ?? this.attempt;
    if (type === "html") patch(this.body, frame);
    if (type === "delta" && frame.kind === "reasoning") this.reasoning.append(frame.text);
    if (type === "restart") for (const place of [this.body, this.reasoning]) place.replaceChildren();
    if (type === "end") this.finish(frame);
    else if (type === "retry") this.setNote("retry", { ...frame, wait: Math.ceil(frame.wait_s), detail: frame.reason });
    // Progress says nothing about a retry that is being waited for.
    else if (type !== "progress" || this.note.dataset.state !== "retry") this.showPace(frame);
  }

  // The pace that was told is not that of a new attempt.
  showPace({ type, elapsed_ms, chars_per_s }) {
    if (type === "restart" || this.note.dataset.state !== "streaming") this.setNote("streaming");
    if (this.attempt > 1) this.fill({ again: `Attempt ${this.attempt}` });
    if (type !== "progress") return;
    const pace = chars_per_s ? ` · ${Math.round(chars_per_s)} characters/s` : "";
    this.fill({ progress: `${Math.round(elapsed_ms / 1000)} s${pace}` });
  }

  // From here on nothing tells this reply from one of a fresh page: not even how its text is cut into nodes.
  finish(end) {
    this.reasoning.normalize();
    const tokens = end.usage?.completion_tokens;
    this.setNote(noteOf(end), { detail: end.error?.detail, tokens: tokens ? `${tokens} tokens` : "" });
  }

  setNote(state, values = {}) {
    this.note.dataset.state = state;
    this.note.replaceChildren(clone(`note-${state}`));
    this.fill(values);
  }

  fill(values) {
    for (const place of this.note.querySelectorAll("[data-fill]")) {
      if (place.dataset.fill in values) place.textContent = values[place.dataset.fill];
    }
  }
}
