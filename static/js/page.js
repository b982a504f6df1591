// Every page: menus that close when one looks elsewhere, and nothing left in the browser after a log-out.

import { forgetAll } from "./store.js";

const menus = () => document.querySelectorAll("details.menu[open]");

document.addEventListener("click", ({ target }) => {
  for (const menu of menus()) if (!menu.contains(target)) menu.open = false;
});

// In the capture phase: an Escape that closes a menu must not also stop an answer.
document.addEventListener(
  "keydown",
  (event) => {
    if (event.key !== "Escape") return;
    for (const menu of menus()) {
      menu.open = false;
      menu.querySelector("summary").focus();
      event.stopImmediatePropagation();
    }
  },
  true,
);

document.querySelector("form[data-log-out]")?.addEventListener("submit", forgetAll);
