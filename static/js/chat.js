// The page of a conversation for its owner: what the thread shows, and the commands of whoever sits before it.

import { Composer, sendsOnEnter } from "./composer.js";
import { promptElement } from "./reply.js";
import { keep, kept } from "./store.js";
import { announce, Thread } from "./thread.js";

const BUSY = "An answer is still being written. Wait for its end or stop it first.";
const $ = (selector) => document.querySelector(selector);

const id = $("#main").dataset.conversation;
const list = $("#messages");
const outbox = $("#outbox");
const composer = new Composer($("#composer"), `draft:${id}`);
let asked = JSON.parse(kept(`asked:${id}`) || "null"); // The frame that was sent, and not yet seen as a turn.
let stopping = null; // the stream whose end was asked for

if (kept("draft:new") === list.querySelector(".prompt .body")?.textContent) keep("draft:new", "");
if (asked && list.querySelector(`[data-key="${asked.key}"]`)) settle();

const thread = new Thread(`/ws/conversations/${id}/`, {
  opened() {
    if (asked) thread.connection.send(asked);
    if (stopping) thread.connection.send({ type: "stop", stream: stopping });
  },
  turn({ prompt, reply }) {
    forgetHit();
    if ([prompt.key, reply.key].includes(asked?.key)) settle();
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
    const { text = "" } = asked;
    settle();
    if (composer.text !== text) composer.text = [text, composer.text].filter(Boolean).join("\n\n");
  }
  if (code === "unknown_message") location.reload(); // What is shown here was cleared elsewhere.
  else if (mine || code !== "unknown_stream") composer.say(detail);
}

// What is asked for is on its way until its turn is on the page; over a lost connection or a reload it goes again with its
// key. False if it has to wait.
function ask(frame) {
  if (asked || thread.live) {
    composer.say(asked ? "The last message is still on its way." : BUSY);
    return false;
  }
  asked = { ...frame, key: uuid() };
  keep(`asked:${id}`, JSON.stringify(asked));
  composer.say("");
  composer.focus();
  showOutbox();
  thread.connection.send(asked);
  thread.follow.stick();
  return true;
}

const prompt = (text) => ask({ type: "ask", text, parent: idOf(list.lastElementChild) });
const idOf = (message) => message?.id.replace("message-", "") ?? null;

function settle() {
  asked = null;
  keep(`asked:${id}`, "");
  showOutbox();
}

function showOutbox() {
  outbox.replaceChildren();
  if (asked?.text) outbox.append(promptElement({ id: "", ...asked }));
  composer.form.classList.toggle("sending", Boolean(asked));
}

function stop() {
  const reply = thread.live;
  if (!reply) return;
  stopping = reply.state.stream;
  pause(false);
  composer.focus();
  if (!thread.connection.send({ type: "stop", stream: stopping })) post($("#stop-form")).catch(() => {});
  showLive();
}

function pause(paused) {
  const button = $("#pause");
  button.setAttribute("aria-pressed", paused);
  button.title = paused ? "Go on here" : "Pause here; the answer goes on";
  if (thread.paused !== paused) thread.pause(paused);
}

// The page that a form leads to.
async function post(form, button) {
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form, button) });
  return answer.ok ? answer.text() : Promise.reject(answer);
}

// A search may have led into a branch (`?message=`): a reload shows it again until there is another to be shown.
const forgetHit = () => history.replaceState(null, "", location.pathname);

// It may be changed elsewhere.
function title() {
  return `${$("#conversation-title").textContent} · Chatsite`;
}

function showLive() {
  const live = thread.live;
  composer.form.classList.toggle("answering", Boolean(live));
  composer.box.placeholder = live ? "You can send when it ends" : "Ask anything";
  composer.form.classList.toggle("stopping", Boolean(live && stopping));
  if (!live) pause(false);
  $(`.conversation-list [data-conversation="${id}"]`)?.toggleAttribute("data-live", Boolean(live));
  if (!document.title.startsWith("✓") || live) document.title = live ? `… ${title()}` : title();
}

// randomUUID exists on https and localhost only.
function uuid() {
  const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
  const hex = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// A prompt gives way to a form with its text; Escape gives it back.
function edit(message) {
  const form = $("#edit-template").content.cloneNode(true).firstElementChild;
  const box = form.querySelector("textarea");
  const close = () => (form.remove(), message.classList.remove("editing"), message.querySelector("[data-action=edit]").focus());
  box.value = message.querySelector(".body").textContent;
  message.classList.add("editing");
  message.append(form);
  box.focus();
  form.querySelector("[data-action=cancel]").addEventListener("click", close);
  form.addEventListener("keydown", (event) => {
    if (sendsOnEnter(event)) form.requestSubmit();
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (box.value.trim() && ask({ type: "edit", message: idOf(message), text: box.value })) close();
  });
}

composer.form.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  event.preventDefault();
  if (prompt(composer.text)) composer.text = "";
});

const submits = {
  "stop-form": stop,
  "again-form": ({ value }) => ask({ type: "regenerate", message: value }),
  "continue-form": () => prompt($("#continue-form").elements.text.value),
  "choose-form": (button) => {
    if (asked || thread.live) return composer.say(BUSY);
    const label = button.getAttribute("aria-label");
    return post($("#choose-form"), button).then((page) => {
      forgetHit();
      thread.show(page);
      const branches = document.getElementById(`message-${button.value}`)?.querySelector(".branches");
      branches?.querySelector(`[aria-label="${label}"]`).focus();
      announce(`Version ${branches?.textContent}`);
    }, () => composer.say("The other version could not be fetched. Try again."));
  },
};
for (const [name, act] of Object.entries(submits)) {
  document.getElementById(name).addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter);
  });
}

$("#pause").addEventListener("click", () => pause(!thread.paused));

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !$(":popover-open")) stop();
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && document.title.startsWith("✓")) document.title = title();
});

document.addEventListener("htmx:oobAfterSwap", showLive); // A title that was changed elsewhere comes with the list.

list.addEventListener("click", ({ target }) => {
  const message = target.closest("[data-action=edit]")?.closest(".message");
  if (message) edit(message);
});

showOutbox();
showLive();
