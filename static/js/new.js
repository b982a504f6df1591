// The page of a new chat. The prompt goes as a plain form; its draft is dropped by the page it leads to.

import { Composer } from "./composer.js";

const composer = new Composer(document.querySelector("#composer"), "draft:new");

for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => {
    composer.text = button.textContent;
    composer.focus();
  });
}
