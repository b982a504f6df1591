// The page of a conversation for its owner: what the thread shows, and the commands of whoever sits before it.

import { Composer } from "./composer.js";
import { keep, kept } from "./store.js";
import { $, announce, messageOf, Thread } from "./thread.js";

const BUSY = "An answer is still being written. Wait for its end or stop it first.";

const id = $("#main").dataset.conversation;
const list = $("#messages");
const composer = new Composer($("#composer"), `draft:${id}`);
const editor = new Composer($("#edit-template").content.firstElementChild);
let asked = null; // The frame that was sent, and not yet seen as a turn.
let stopping = null; // the stream whose end was asked for
let news = false; // An answer ended while nobody looked.

if (kept("draft:new") === list.querySelector(".prompt .body")?.textContent) keep("draft:new", "");
const unseen = JSON.parse(kept(`asked:${id}`) || "null");
waitFor(unseen && list.querySelector(`[data-key="${unseen.key}"]`) ? null : unseen);

const thread = new Thread(`/ws/conversations/${id}/`, {
  opened() {
    if (asked) thread.connection.send(asked);
    if (stopping) thread.connection.send({ type: "stop", stream: stopping });
  },
  turn({ prompt, reply }) {
    forgetHit();
    if ([prompt.key, reply.key].includes(asked?.key)) waitFor(null);
  },
  ended(reply) {
    if (stopping === reply.state.stream) stopping = null;
    news = document.hidden;
  },
  painted: showLive,
  refused,
});

function refused({ code, detail, key }) {
  const mine = asked && (key === asked.key || code === "bad_frame");
  if (mine) {
    const { text = "" } = asked;
    waitFor(null);
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
  waitFor({ ...frame, key: uuid() });
  composer.say("");
  composer.focus();
  thread.connection.send(asked);
  thread.follow.stick();
  return true;
}

const prompt = (text) => ask({ type: "ask", text, parent: idOf(list.lastElementChild) });
const idOf = (message) => message?.id.replace("message-", "") ?? null;

function waitFor(frame) {
  asked = frame;
  keep(`asked:${id}`, asked && JSON.stringify(asked));
  $("#outbox").hidden = !asked?.text;
  $("#outbox .body").textContent = asked?.text;
  composer.form.classList.toggle("sending", Boolean(asked));
}

function stop() {
  if (!thread.live) return;
  stopping = thread.live.state.stream;
  pause(false);
  composer.focus();
  if (!thread.connection.send({ type: "stop", stream: stopping })) post($("#stop-form")).catch(() => {});
  showLive();
}

function pause(paused) {
  $("#pause").setAttribute("aria-pressed", paused);
  if (thread.paused !== paused) thread.pause(paused);
}

// The page that a form leads to.
async function post(form, button) {
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form, button) });
  return answer.ok ? answer.text() : Promise.reject(answer);
}

// A search may have led into a branch (`?message=`): a reload shows it again until there is another to be shown.
const forgetHit = () => history.replaceState(null, "", location.pathname);

function showLive() {
  const live = Boolean(thread.live);
  composer.form.classList.toggle("answering", live);
  composer.form.classList.toggle("stopping", live && Boolean(stopping));
  composer.box.placeholder = live ? "You can send when it ends" : "Ask anything";
  if (!live) pause(false);
  news &&= document.hidden && !live;
  document.title = `${live ? "… " : news ? "✓ " : ""}${$("#conversation-title").textContent} · Chatsite`;
}

// randomUUID exists on https and localhost only.
function uuid() {
  const hex = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// A prompt gives way to a form with its text until that is sent or given up.
function edit(message) {
  message.append(editor.form);
  editor.text = message.querySelector(".body").textContent;
  editor.box.focus();
}

function endEdit() {
  const message = editor.form.parentElement;
  editor.form.remove();
  message.querySelector("[data-action=edit]").focus();
}

editor.form.addEventListener("reset", endEdit);
editor.onsubmit = (text) => ask({ type: "edit", message: idOf(editor.form.parentElement), text }) && endEdit();
composer.onsubmit = (text) => prompt(text) && (composer.text = "");

const submits = {
  "stop-form": stop,
  "again-form": ({ value }) => ask({ type: "regenerate", message: value }),
  "continue-form": () => prompt($("#continue-form").elements.text.value),
  "choose-form": choose,
};
for (const [name, act] of Object.entries(submits)) {
  document.getElementById(name).addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter);
  });
}

async function choose(button) {
  if (asked || thread.live) return composer.say(BUSY);
  const page = await post($("#choose-form"), button).catch(() => null);
  if (!page) return composer.say("The other version could not be fetched. Try again.");
  forgetHit();
  thread.show(page);
  const branches = messageOf(button.value)?.querySelector(".branches");
  branches?.querySelector(`[aria-label="${button.ariaLabel}"]`).focus();
  announce(`Version ${branches?.textContent}`);
}

$("#pause").addEventListener("click", () => pause(!thread.paused));

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || $(":popover-open")) return;
  if (editor.form.contains(event.target)) endEdit();
  else stop();
});

document.addEventListener("visibilitychange", showLive);
document.addEventListener("htmx:oobAfterSwap", showLive); // A title that was changed elsewhere comes with the list.

list.addEventListener("click", ({ target }) => {
  if (target.closest("[data-action=edit]")) edit(target.closest(".message"));
});

showLive();
