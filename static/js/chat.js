// The page of a conversation: frames in, the reader's commands out. The server rendered what was said; this goes on
// from there, after each reply's data-seq.

import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { promptElement, Reply } from "./reply.js";
import { Follow } from "./scroll.js";
import { keep, kept } from "./store.js";

const ACK_BYTES = 64_000;
const LABELS = { connecting: "Connecting…", waiting: "Reconnecting…", open: "Live", "signed-out": "Signed out", gone: "Gone" };
const $ = (selector) => document.querySelector(selector);

const main = $("#main");
const id = main.dataset.conversation;
const list = $("#messages");
const outbox = $("#outbox");
const title = document.title;
const composer = new Composer($("#composer"), `draft:${id}`);
const follow = new Follow(main, $("#jump"));
const replies = new Map();
let asked = JSON.parse(kept(`asked:${id}`) || "null"); // {text, key}: sent, and not yet seen as a turn
let stopping = null; // the stream whose end was asked for
let queue = [];
let painting = 0;

for (const element of list.querySelectorAll(".reply")) replies.set(element.dataset.stream, new Reply(element));
if (kept("draft:new") === list.querySelector(".prompt .body")?.textContent) keep("draft:new", "");

if (asked && list.querySelector(`[data-key="${asked.key}"]`)) settle();

const liveReply = () => [...replies.values()].find((reply) => reply.isLive);

const connection = new Connection(`${location.origin.replace(/^http/, "ws")}/ws/conversations/${id}/`, {
  opened() {
    const live = [...replies.values()].filter((reply) => reply.isLive);
    const after = Object.fromEntries(live.map(({ state }) => [state.stream, state.seq]));
    connection.send({ type: "attach", after, since: [...replies.keys()].at(-1) ?? null });
    if (asked) connection.send({ type: "ask", ...asked });
    if (stopping) connection.send({ type: "stop", stream: stopping });
  },
  frame(frame) {
    queue.push(frame);
    schedule();
  },
  state: showConnection,
  expecting: () => Boolean(liveReply()),
});

// Once per painted frame, however many frames came. A hidden page is not painted, so a timer stands in.
function schedule() {
  if (painting) return;
  const timer = setTimeout(paint, 200);
  const frame = requestAnimationFrame(() => paint());
  painting = 1;
  paint.cancel = () => (clearTimeout(timer), cancelAnimationFrame(frame));
}

function paint() {
  paint.cancel();
  painting = 0;
  const frames = queue;
  queue = [];
  const changed = new Set();
  for (const frame of frames) {
    if (frame.type === "turn") addTurn(frame);
    else if (frame.type === "error") refused(frame);
    else {
      const reply = replies.get(frame.stream);
      reply?.take(frame);
      if (reply) changed.add(reply);
      if (frame.type === "restart") announce(`The answer begins anew: attempt ${frame.attempt}.`);
    }
  }
  for (const reply of changed) renderReply(reply);
  showLive();
  follow.keep();
}

function renderReply(reply) {
  const ended = !reply.isLive && reply.element.dataset.status !== reply.state.status;
  reply.render();
  if (ended || reply.unacked >= ACK_BYTES) {
    connection.send({ type: "ack", stream: reply.state.stream, seq: reply.state.seq });
    reply.unacked = 0;
  }
  if (ended) {
    if (stopping === reply.state.stream) stopping = null;
    announce(reply.state.status === "done" ? "The answer is complete." : reply.note.textContent);
    if (document.hidden) document.title = `✓ ${title}`;
  }
}

function addTurn({ stream, prompt, reply }) {
  if (asked && prompt.key === asked.key) settle();
  if (replies.has(stream)) return;
  const added = Reply.of(reply);
  replies.set(stream, added);
  if (!document.getElementById(`message-${prompt.id}`)) list.append(promptElement(prompt), "\n");
  list.append(added.element, "\n");
  announce("An answer begins.");
}

function refused({ code, detail, key }) {
  if (code === "gone") return lookAgain();
  const mine = asked && (key === asked.key || code === "bad_frame");
  if (mine) {
    const { text } = asked;
    settle();
    if (composer.text !== text) composer.text = composer.text ? `${text}\n\n${composer.text}` : text;
  }
  if (mine || code !== "unknown_stream") composer.say(detail);
}

// An answer was deleted: its conversation was cleared, or is gone as well. What is on the page stays readable then.
async function lookAgain() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
  if (answer?.status === 404) connection.end("gone");
  else if (answer?.ok) location.reload();
}

// A prompt is on its way until its turn is on the page; over a lost connection or a reload it goes again with its key.
function ask(text) {
  asked = { text, key: uuid() };
  keep(`asked:${id}`, JSON.stringify(asked));
  composer.text = "";
  composer.focus();
  showOutbox();
  connection.send({ type: "ask", ...asked });
  follow.stick();
}

function settle() {
  asked = null;
  keep(`asked:${id}`, "");
  showOutbox();
}

function showOutbox() {
  outbox.replaceChildren();
  if (asked) outbox.append(promptElement({ id: "", ...asked }));
  composer.form.classList.toggle("sending", Boolean(asked));
}

function stop() {
  const reply = liveReply();
  if (!reply) return;
  stopping = reply.state.stream;
  composer.focus();
  if (!connection.send({ type: "stop", stream: stopping })) {
    const form = $("#stop-form");
    fetch(form.action, { method: "POST", body: new FormData(form), redirect: "manual" }).catch(() => {});
  }
  showLive();
}

function showLive() {
  const live = liveReply();
  composer.form.classList.toggle("answering", Boolean(live));
  composer.box.placeholder = live ? "You can send when the answer ends" : "Ask anything";
  composer.form.classList.toggle("stopping", Boolean(live && stopping));
  document.querySelector(`.conversation-list [data-conversation="${id}"]`)?.toggleAttribute("data-live", Boolean(live));
  if (!document.title.startsWith("✓") || live) document.title = live ? `… ${title}` : title;
}

function showConnection(state) {
  const place = $("#connection");
  const again = state === "connecting" && place.dataset.was === "waiting";
  place.querySelector("[data-fill]").textContent = LABELS[again ? "waiting" : state];
  showWaiting(state, place.dataset.was);
  place.querySelector("button").hidden = state !== "waiting";
  if (state === "waiting" && place.dataset.was === "open") announce("The connection is lost. The answer goes on and will be here.");
  if (state === "open" && place.dataset.was === "waiting") announce("Connected again.");
  if (state !== "connecting") place.dataset.was = state;
  place.dataset.state = state;
  for (const banner of document.querySelectorAll(".banner")) banner.hidden = banner.dataset.when !== state;
}

// A lively note would claim that words are coming while none can.
function showWaiting(state, was) {
  if (painting) paint();
  if (state === "connecting" && was !== "waiting") return;
  list.classList.toggle("still", state !== "open");
  const note = { open: "", connecting: "Waiting for the connection", waiting: "Waiting for the connection" }[state] ?? "";
  liveReply()?.fill({ progress: note });
}

function announce(text) {
  $("#announcer").textContent = text;
}

// randomUUID exists on https and localhost only.
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return announce("The browser does not let this page copy.");
  }
  button.classList.add("copied");
  announce("Copied.");
  setTimeout(() => button.classList.remove("copied"), 1500);
}

composer.form.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  event.preventDefault();
  if (asked) composer.say("The last message is still on its way.");
  else if (liveReply()) composer.say("An answer is still being written. Wait for its end or stop it first.");
  else ask(composer.text);
});

$("#stop-form").addEventListener("submit", (event) => {
  event.preventDefault();
  stop();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !$(":popover-open")) stop();
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && document.title.startsWith("✓")) document.title = title;
});

list.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-action]");
  const message = button?.closest(".message");
  if (button?.dataset.action === "copy") copy(button, message.querySelector(".body").textContent);
  if (button?.dataset.action === "again") {
    composer.text = message.previousElementSibling.querySelector(".body").textContent;
    composer.focus();
  }
});

$("#connection button").addEventListener("click", () => connection.connect());

showOutbox();
showLive();
follow.stick();
