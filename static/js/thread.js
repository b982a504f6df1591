// What is said in a conversation, kept up to date: frames in, replies on the page. The server rendered what was said; this
// goes on from there, after each reply's data-seq. For whoever may only read, it is all there is.

import { Connection } from "./connection.js";
import { Reply } from "./reply.js";
import { Follow } from "./scroll.js";
import { Speech } from "./speech.js";

const ACK_BYTES = 64_000;
const LABELS = { connecting: "Connecting…", waiting: "Reconnecting…", open: "Live", "signed-out": "Signed out", gone: "Gone" };
export const $ = (selector) => document.querySelector(selector);

export const announce = (text) => ($("#announcer").textContent = text);
export const messageOf = (id) => document.getElementById(`message-${id}`);

export class Thread {
  // `on` may have opened(), turn(frame), ended(reply), refused(frame) and painted().
  constructor(path, on = {}) {
    this.on = on;
    this.list = $("#messages");
    this.follow = new Follow($("#main"), $("#jump"));
    this.queue = [];
    this.paused = false;
    this.collect();
    // The turns after this one are news; on a page that a search led to, it may be in another branch.
    this.newest = this.list.dataset.newest ?? [...this.replies.keys()].at(-1) ?? null;
    this.connection = new Connection(`${location.origin.replace(/^http/, "ws")}${path}?render=html`, {
      opened: () => this.attach(),
      frame: (frame) => this.queue.push(frame) && this.schedule(),
      state: (state) => this.showConnection(state),
      expecting: () => Boolean(this.live) && !this.paused,
    });
    $("#connection button").addEventListener("click", () => this.connection.connect());
    this.list.addEventListener("click", ({ target }) => this.clicked(target.closest("[data-action^=copy]")));
    this.follow.keep();
  }

  // What the server rendered.
  collect() {
    this.replies = new Map();
    for (const element of this.list.querySelectorAll(".reply")) this.replies.set(element.dataset.stream, new Reply(element));
  }

  // Another branch: what a fresh page shows takes the place of what is here, and is gone on with from there.
  show(page) {
    const fresh = new DOMParser().parseFromString(page, "text/html");
    this.list.replaceChildren(...fresh.querySelector("#messages").childNodes);
    this.collect();
    this.connection.connect();
  }

  // Stop following; the answer goes on. What came meanwhile is shown afterwards, and nothing is acknowledged until then.
  pause(paused) {
    this.paused = paused;
    document.body.toggleAttribute("data-paused", paused);
    this.schedule();
  }

  get allLive() {
    return [...this.replies.values()].filter(({ isLive, element }) => isLive && element.isConnected);
  }

  get live() {
    return this.allLive[0];
  }

  attach() {
    this.queue = []; // It all comes again.
    const after = Object.fromEntries(this.allLive.map(({ state }) => [state.stream, state.seq]));
    this.connection.send({ type: "attach", after, since: this.newest });
    this.on.opened?.();
  }

  // Once per painted frame, however many frames came. A hidden page is not painted, so a timer stands in.
  schedule() {
    if (this.unschedule || this.paused) return;
    const timer = setTimeout(() => this.paint(), 200);
    const frame = requestAnimationFrame(() => this.paint());
    this.unschedule = () => (clearTimeout(timer), cancelAnimationFrame(frame));
  }

  paint() {
    this.unschedule();
    this.unschedule = null;
    if (this.paused) return;
    const heard = new Set();
    for (const frame of this.queue.splice(0)) {
      const reply = this.replies.get(frame.stream);
      if (frame.type === "turn") this.addTurn(frame);
      else if (frame.code === "gone") this.lookAgain();
      else if (frame.type === "error") this.on.refused?.(frame);
      else if (reply?.isLive) heard.add(reply) && this.take(reply, frame);
      else if (frame.seq) this.acknowledge(frame); // Of a branch that is not shown.
    }
    for (const reply of heard) {
      reply.speech ??= new Speech((text) => ($("#speech").textContent = text));
      reply.speech.hear(reply.text, !reply.isLive);
    }
    this.on.painted?.();
    this.follow.keep();
  }

  take(reply, frame) {
    reply.take(frame);
    if (frame.type === "restart") announce(`The answer begins anew: attempt ${frame.attempt}.`);
    if (!reply.isLive || reply.unacked >= ACK_BYTES) {
      this.acknowledge(reply.state);
      reply.unacked = 0;
    }
    if (reply.isLive) return;
    announce(reply.state.status === "done" ? "The answer is complete." : reply.note.textContent);
    this.on.ended?.(reply);
    document.dispatchEvent(new Event("turned"));
  }

  acknowledge({ stream, seq }) {
    this.connection.send({ type: "ack", stream, seq });
  }

  // A new turn is put behind what it follows; what stood there is another branch from now on.
  addTurn(frame) {
    const { stream, prompt, reply, chosen } = frame;
    this.newest = stream;
    this.on.turn?.(frame);
    if (!chosen || messageOf(reply.id)) return;
    const asked = messageOf(prompt.id);
    const last = asked ?? messageOf(prompt.parent);
    if (!last && prompt.parent) return void this.lookAgain();
    while (this.list.lastChild !== last) this.list.lastChild.remove();
    this.list.insertAdjacentHTML("beforeend", (asked ? "" : prompt.html) + reply.html);
    this.replies.set(stream, new Reply(this.list.lastChild));
    announce("An answer begins.");
    document.dispatchEvent(new Event("turned"));
  }

  // An answer was deleted: its conversation was cleared, or is gone as well. What is on the page stays readable then.
  async lookAgain() {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
    if (answer?.status === 404) this.connection.end("gone");
    else if (answer?.ok) location.reload();
  }

  showConnection(state) {
    const place = $("#connection");
    const was = place.dataset.state;
    place.dataset.state = document.body.dataset.connection = state;
    place.querySelector("[data-fill]").textContent = LABELS[state];
    if (state === "waiting" && was !== state) announce("The connection is lost. The answer goes on and will be here.");
    if (state === "open" && was === "waiting") announce("Connected again.");
  }

  // The source of an answer, Markdown and all, is with its stream; who may not ask for it gets what is to be seen.
  source(reply) {
    return fetch(`/api/streams/${reply.dataset.stream}/`)
      .then((answer) => (answer.ok ? answer.json() : Promise.reject(answer)))
      .then(({ text }) => text, () => reply.querySelector(".body").innerText);
  }

  async clicked(button) {
    if (!button) return;
    const code = button.closest(".code")?.querySelector("pre");
    const source = code ? Promise.resolve(code.textContent) : this.source(button.closest(".reply"));
    try {
      // Not awaited before: some browsers let a page copy only in the midst of a click.
      await navigator.clipboard.write([new ClipboardItem({ "text/plain": source.then((text) => new Blob([text], { type: "text/plain" })) })]);
    } catch {
      return announce("The browser does not let this page copy.");
    }
    button.classList.add("copied");
    announce("Copied.");
    setTimeout(() => button.classList.remove("copied"), 1500);
  }
}
