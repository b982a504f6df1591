// A reply on the page. Its elements are the server's (_reply.html), and what frames make of them equals what a fresh page
// shows: answers and notes come as the server's HTML, everything else is only ever set as text.

import { apply, isLive } from "./log.js";
import { patch } from "./patch.js";

const ROW_BYTES = 100;

export class Reply {
  constructor(element) {
    const { stream, seq, status } = element.dataset;
    this.state = { stream, seq: Number(seq), status };
    this.element = element;
    this.body = element.querySelector(".body");
    this.reasoning = element.querySelector(".reasoning-text");
    this.unacked = 0;
  }

  get isLive() {
    return isLive(this.state.status);
  }

  get note() {
    return this.element.querySelector(".foot").firstElementChild;
  }

  // What is to be read, its blocks apart.
  get text() {
    return [...this.body.children].map((block) => block.textContent).join("\n");
  }

  // Take a frame in and show it.
  take(frame) {
    const { seq } = this.state;
    if (!apply(this.state, frame)) return;
    const { type, html, text } = frame;
    this.unacked += (text ?? html ?? "").length + ROW_BYTES * (this.state.seq - seq);
    if (type === "html") patch(this.body, frame);
    else if (type === "delta") this.reasoning.append(text);
    else if (type === "restart") for (const place of [this.body, this.reasoning]) place.replaceChildren();
    else if (type === "note") this.note.outerHTML = html;
    else if (type === "progress") this.showPace(frame);
    else if (type === "end") this.reasoning.normalize(); // Nothing tells it from a fresh page's, not even its nodes.
    if (["html", "delta"].includes(type) && this.note.dataset.state === "retry") this.note.dataset.state = "streaming";
    this.reasoning.parentElement.hidden = !this.reasoning.firstChild;
    Object.assign(this.element.dataset, { seq: this.state.seq, status: this.state.status });
  }

  showPace({ elapsed_ms, chars_per_s }) {
    const pace = chars_per_s ? ` · ${Math.round(chars_per_s)} characters/s` : "";
    const place = this.note.querySelector(".pace"); // None once the note says how it ended.
    if (place) place.textContent = `${Math.round(elapsed_ms / 1000)} s${pace}`;
  }
}
