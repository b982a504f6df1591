// What is said in a conversation, kept up to date: frames in, replies on the page. The server rendered what was said; this
// goes on from there, after each reply's data-seq. For whoever may only read, it is all there is.

import { Connection } from "./connection.js";
import { promptElement, Reply } from "./reply.js";
import { Follow } from "./scroll.js";

const ACK_BYTES = 64_000;
const LABELS = { connecting: "Connecting…", waiting: "Reconnecting…", open: "Live", "signed-out": "Signed out", gone: "Gone" };
const $ = (selector) => document.querySelector(selector);

export function announce(text) {
  $("#announcer").textContent = text;
}

export class Thread {
  // `on` may have opened(), turn(frame), ended(reply), refused(frame) and painted().
  constructor(path, on = {}) {
    this.on = on;
    this.list = $("#messages");
    this.follow = new Follow($("#main"), $("#jump"));
    this.replies = new Map();
    this.queue = [];
    this.painting = 0;
    for (const element of this.list.querySelectorAll(".reply")) this.replies.set(element.dataset.stream, new Reply(element));
    this.connection = new Connection(location.origin.replace(/^http/, "ws") + path, {
      opened: () => this.attach(),
      frame: (frame) => this.queue.push(frame) && this.schedule(),
      state: (state) => this.showConnection(state),
      expecting: () => Boolean(this.live),
    });
    $("#connection button").addEventListener("click", () => this.connection.connect());
    this.follow.stick();
  }

  get live() {
    return [...this.replies.values()].find((reply) => reply.isLive);
  }

  attach() {
    const live = [...this.replies.values()].filter((reply) => reply.isLive);
    const after = Object.fromEntries(live.map(({ state }) => [state.stream, state.seq]));
    this.connection.send({ type: "attach", after, since: [...this.replies.keys()].at(-1) ?? null });
    this.on.opened?.();
  }

  // Once per painted frame, however many frames came. A hidden page is not painted, so a timer stands in.
  schedule() {
    if (this.painting) return;
    const timer = setTimeout(() => this.paint(), 200);
    const frame = requestAnimationFrame(() => this.paint());
    this.painting = 1;
    this.unschedule = () => (clearTimeout(timer), cancelAnimationFrame(frame));
  }

  paint() {
    this.unschedule();
    this.painting = 0;
    const frames = this.queue;
    this.queue = [];
    const changed = new Set();
    for (const frame of frames) {
      if (frame.type === "turn") this.addTurn(frame);
      else if (frame.type === "error") this.refused(frame);
      else {
        const reply = this.replies.get(frame.stream);
        reply?.take(frame);
        if (reply) changed.add(reply);
        if (frame.type === "restart") announce(`The answer begins anew: attempt ${frame.attempt}.`);
      }
    }
    for (const reply of changed) this.render(reply);
    this.on.painted?.();
    this.follow.keep();
  }

  render(reply) {
    const ended = !reply.isLive && reply.element.dataset.status !== reply.state.status;
    reply.render();
    if (ended || reply.unacked >= ACK_BYTES) {
      this.connection.send({ type: "ack", stream: reply.state.stream, seq: reply.state.seq });
      reply.unacked = 0;
    }
    if (!ended) return;
    announce(reply.state.status === "done" ? "The answer is complete." : reply.note.textContent);
    this.on.ended?.(reply);
    document.dispatchEvent(new Event("turned"));
  }

  addTurn(frame) {
    const { stream, prompt, reply } = frame;
    this.on.turn?.(frame);
    if (this.replies.has(stream)) return;
    const added = Reply.of(reply);
    this.replies.set(stream, added);
    if (!document.getElementById(`message-${prompt.id}`)) this.list.append(promptElement(prompt), "\n");
    this.list.append(added.element, "\n");
    announce("An answer begins.");
    document.dispatchEvent(new Event("turned"));
  }

  refused(frame) {
    if (frame.code === "gone") this.lookAgain();
    else this.on.refused?.(frame);
  }

  // An answer was deleted: its conversation was cleared, or is gone as well. What is on the page stays readable then.
  async lookAgain() {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
    if (answer?.status === 404) this.connection.end("gone");
    else if (answer?.ok) location.reload();
  }

  showConnection(state) {
    const place = $("#connection");
    const again = state === "connecting" && place.dataset.was === "waiting";
    place.querySelector("[data-fill]").textContent = LABELS[again ? "waiting" : state];
    this.showWaiting(state, place.dataset.was);
    place.querySelector("button").hidden = state !== "waiting";
    if (state === "waiting" && place.dataset.was === "open") announce("The connection is lost. The answer goes on and will be here.");
    if (state === "open" && place.dataset.was === "waiting") announce("Connected again.");
    if (state !== "connecting") place.dataset.was = state;
    place.dataset.state = state;
    for (const banner of document.querySelectorAll(".banner")) banner.hidden = banner.dataset.when !== state;
  }

  // A lively note would claim that words are coming while none can.
  showWaiting(state, was) {
    if (this.painting) this.paint();
    if (state === "connecting" && was !== "waiting") return;
    this.list.classList.toggle("still", state !== "open");
    const note = { open: "", connecting: "Waiting for the connection", waiting: "Waiting for the connection" }[state] ?? "";
    this.live?.fill({ progress: note });
  }
}
