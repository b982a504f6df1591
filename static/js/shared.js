// The page of a shared conversation: the thread, and nothing to do but read.

import { Thread } from "./thread.js";

new Thread(document.querySelector("#main").dataset.socket);
