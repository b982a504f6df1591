// Every page: its search and list of chats, and nothing left in the browser after a log-out.

import { forgetAll } from "./store.js";

const search = document.getElementById("search");

// A popover in another gives no focus back by itself: what a menu opened, and a menu in the sidebar of a phone.
const button = ({ id }) => document.querySelector(`.menu:has([popovertarget="${id}"]) > button`);
const closed = ({ target, newState }) => newState === "closed" && !document.activeElement.offsetParent && button(target)?.focus();
document.addEventListener("toggle", closed, true);

// The list of chats asks for its newer self (htmx), at once when a turn began or ended here or it is seen again. Unseen
// it need not ask.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.id === "chats" && document.hidden) event.preventDefault();
});

document.addEventListener("click", ({ target }) => {
  const field = document.getElementById(target.dataset?.copy);
  if (!field) return;
  field.select();
  navigator.clipboard?.writeText(field.value).then(() => (target.textContent = "Copied"));
});

// Where nothing is being typed, a slash leads to the search.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || !search) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  event.preventDefault();
  if (!search.offsetParent) document.getElementById("sidebar").showPopover();
  search.focus();
});

// In the search: Escape gives the list back and stops no answer; the arrows walk through what is found. A menu
// beside it has its own Escape.
search?.form.parentElement.addEventListener("keydown", (event) => {
  const links = [search, ...search.form.parentElement.querySelectorAll(":is(.hits, #chats) a")].filter((each) => each.offsetParent);
  const at = links.indexOf(event.target);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (at >= 0 && step && links[at + step]) links[at + step].focus();
  else if (at >= 0 && event.key === "Escape" && search.value) {
    search.value = "";
    search.dispatchEvent(new Event("search"));
    search.focus();
  } else return;
  event.preventDefault();
  event.stopPropagation();
});

document.querySelector("form[data-log-out]")?.addEventListener("submit", forgetAll);
