// The page of a conversation for its owner: what the thread shows, and the commands of whoever sits before it.

import { Composer } from "./composer.js";
import { promptElement } from "./reply.js";
import { keep, kept } from "./store.js";
import { announce, Thread } from "./thread.js";

const $ = (selector) => document.querySelector(selector);

const id = $("#main").dataset.conversation;
const list = $("#messages");
const outbox = $("#outbox");
const composer = new Composer($("#composer"), `draft:${id}`);
let asked = JSON.parse(kept(`asked:${id}`) || "null"); // {text, key}: sent, and not yet seen as a turn
let stopping = null; // the stream whose end was asked for

if (kept("draft:new") === list.querySelector(".prompt .body")?.textContent) keep("draft:new", "");
if (asked && list.querySelector(`[data-key="${asked.key}"]`)) settle();

const thread = new Thread(`/ws/conversations/${id}/`, {
  opened() {
    if (asked) thread.connection.send({ type: "ask", ...asked });
    if (stopping) thread.connection.send({ type: "stop", stream: stopping });
  },
  turn({ prompt }) {
    if (asked && prompt.key === asked.key) settle();
  },
  ended(reply) {
    if (stopping === reply.state.stream) stopping = null;
    if (document.hidden) document.title = `✓ ${title()}`;
  },
  painted: showLive,
  refused,
});

function refused({ code, detail, key }) {
  const mine = asked && (key === asked.key || code === "bad_frame");
  if (mine) {
    const { text } = asked;
    settle();
    if (composer.text !== text) composer.text = composer.text ? `${text}\n\n${composer.text}` : text;
  }
  if (mine || code !== "unknown_stream") composer.say(detail);
}

// A prompt is on its way until its turn is on the page; over a lost connection or a reload it goes again with its key.
function ask(text) {
  asked = { text, key: uuid() };
  keep(`asked:${id}`, JSON.stringify(asked));
  composer.text = "";
  composer.focus();
  showOutbox();
  thread.connection.send({ type: "ask", ...asked });
  thread.follow.stick();
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
  const reply = thread.live;
  if (!reply) return;
  stopping = reply.state.stream;
  composer.focus();
  if (!thread.connection.send({ type: "stop", stream: stopping })) {
    const form = $("#stop-form");
    fetch(form.action, { method: "POST", body: new FormData(form), redirect: "manual" }).catch(() => {});
  }
  showLive();
}

// It may be changed elsewhere.
function title() {
  return `${$("#conversation-title").textContent} · Chatsite`;
}

function showLive() {
  const live = thread.live;
  composer.form.classList.toggle("answering", Boolean(live));
  composer.box.placeholder = live ? "You can send when the answer ends" : "Ask anything";
  composer.form.classList.toggle("stopping", Boolean(live && stopping));
  $(`.conversation-list [data-conversation="${id}"]`)?.toggleAttribute("data-live", Boolean(live));
  if (!document.title.startsWith("✓") || live) document.title = live ? `… ${title()}` : title();
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
  else if (thread.live) composer.say("An answer is still being written. Wait for its end or stop it first.");
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
  if (!document.hidden && document.title.startsWith("✓")) document.title = title();
});

document.addEventListener("titled", showLive);

list.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-action]");
  const message = button?.closest(".message");
  if (button?.dataset.action === "copy") copy(button, message.querySelector(".body").textContent);
  if (button?.dataset.action === "again") {
    composer.text = message.previousElementSibling.querySelector(".body").textContent;
    composer.focus();
  }
});

showOutbox();
showLive();
