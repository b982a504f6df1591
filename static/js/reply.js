// A reply on the page. Its elements are the server's (_reply.html, cloned for new turns), so that what frames make of
// them equals what a fresh page shows. Answers come as the server's HTML, everything else is only ever set as text.

import { apply, begin, isLive, noteOf } from "./log.js";
import { patch } from "./patch.js";

const clone = (id) => document.getElementById(id).content.cloneNode(true);
const ROW_BYTES = 100;

export function promptElement({ id, text, key }) {
  const element = clone("prompt-template").querySelector("li");
  element.id = `message-${id}`;
  element.dataset.key = key ?? "";
  element.querySelector(".body").textContent = text;
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
    this.rendered();
  }

  // A new reply of a `turn` frame. Its rows follow from the first, whatever has become of it meanwhile.
  static of({ id, stream, status }) {
    const element = clone("reply-template").querySelector("li");
    const state = begin({ stream, status });
    element.id = `message-${id}`;
    Object.assign(element.dataset, { stream, seq: 0, status: state.status });
    const reply = new Reply(element);
    reply.setNote(state.status);
    return reply;
  }

  get isLive() {
    return isLive(this.state.status);
  }

  // What is to be read, its blocks apart.
  get text() {
    return [...this.body.children].map((block) => block.textContent).join("\n");
  }

  rendered() {
    this.patches = [];
    this.thoughts = [];
    this.discard = false;
    this.latest = null;
  }

  // Take a frame in; `render` shows all that was taken since.
  take(frame) {
    const seq = this.state.seq;
    const change = apply(this.state, frame);
    if (!change) return;
    this.unacked += (change.text ?? change.html?.html ?? "").length + ROW_BYTES * Math.max(0, this.state.seq - seq);
    if (change.html) this.patches.push(change.html);
    if (change.say === "reasoning") this.thoughts.push(change.text);
    this.attempt = (change.restart ?? change.retry)?.attempt ?? this.attempt;
    if (change.restart) {
      this.rendered();
      this.discard = true;
    }
    // Progress says nothing about a retry that is being waited for.
    const waiting = change.progress && (this.latest?.retry || this.note.dataset.state === "retry");
    if (!waiting) this.latest = change;
  }

  render() {
    if (this.discard) this.body.replaceChildren();
    if (this.discard) this.reasoning.replaceChildren();
    for (const frame of this.patches) patch(this.body, frame);
    const thoughts = this.thoughts.join("");
    if (thoughts) this.reasoning.append(thoughts);
    this.details.hidden = !this.reasoning.firstChild;
    Object.assign(this.element.dataset, { seq: this.state.seq, status: this.state.status });
    this.renderNote(this.latest ?? {});
    this.rendered();
  }

  renderNote({ end, retry, restart, progress, say, html }) {
    if (end) this.finish(end);
    else if (retry) this.setNote("retry", { ...retry, wait: Math.ceil(retry.wait_s), detail: retry.reason });
    else if (say || html || restart || progress) {
      // The pace that was told is not that of a new attempt.
      if (this.discard || this.note.dataset.state !== "streaming") this.setNote("streaming");
      if (this.attempt > 1) this.fill({ again: `Attempt ${this.attempt}` });
      if (progress) this.fill({ progress: pace(progress) });
    }
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
      const value = values[place.dataset.fill];
      if (value !== undefined && value !== null) place.textContent = value;
    }
  }
}

export const pace = ({ elapsed_ms, chars_per_s }) =>
  [`${Math.round(elapsed_ms / 1000)} s`, chars_per_s ? `${Math.round(chars_per_s)} characters/s` : ""]
    .filter(Boolean)
    .join(" · ");
