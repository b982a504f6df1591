// The examples of pages in docs/clients.md, as they are written there, in a DOM without a browser: one tab asks and is
// closed in mid-answer, another is opened with what is stored by then and shows the rest.
import { mkdirSync, writeFileSync } from "node:fs";
import { Window } from "happy-dom";
import { transformWithOxc } from "vite";

const { kind, code, site, token, id, prompt } = JSON.parse(process.argv[2]);
const window = new Window({ url: site });
for (const name of ["window", "document", "Element", "SVGElement", "HTMLElement", "HTMLIFrameElement", "Node"]) {
  globalThis[name] = window[name] ?? window;
}
globalThis.navigator ??= window.navigator; // Newer versions of Node have one.

const file = new URL(`node_modules/.examples/${kind}.mjs`, import.meta.url);
mkdirSync(new URL(".", file), { recursive: true });
writeFileSync(file, (await transformWithOxc(code, `${kind}.jsx`, { jsx: { runtime: "automatic" } })).code);
const page = await import(file);

const mounting = {
  async react(place, props) {
    const { createElement } = await import("react");
    const { createRoot } = await import("react-dom/client");
    const root = createRoot(place);
    root.render(createElement(page.Chat, props));
    return () => root.unmount();
  },
  async vue(place, props) {
    const { createApp } = await import("vue");
    const app = createApp(page.ChatView, props);
    app.mount(place);
    return () => app.unmount();
  },
};

async function open(messages) {
  const place = window.document.createElement("main");
  window.document.body.append(place);
  return { place, close: await mounting[kind](place, { site, token, id, messages }) };
}

async function until(what, condition) {
  for (const deadline = Date.now() + 50_000; !(await condition()); ) {
    if (Date.now() > deadline) throw new Error(`too late: ${what}\n${window.document.body.innerHTML}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

async function stored() {
  const headers = { Authorization: `Bearer ${token}` };
  const found = await (await fetch(`${site}/api/conversations/${id}/messages/`, { headers })).json();
  return found.results;
}

const replyIn = ({ place }) => place.querySelector(".assistant")?.textContent ?? "";

const first = await open([]);
await until("the form", () => first.place.querySelector("input"));
first.place.querySelector("input").value = prompt;
first.place.querySelector("form").dispatchEvent(new window.Event("submit", { bubbles: true, cancelable: true }));
await until("words", () => replyIn(first).length > 20);
first.close();
const messages = (await stored()).map(({ id, role, text }) => ({ id, role, parts: [{ type: "text", text }] }));
const partial = messages[1].parts[0].text.length;
const second = await open(messages);
await until("the end", async () => (await stored())[1].status === "done");
const text = (await stored())[1].text;
await until("the rest", () => replyIn(second) === text);
const paragraphs = [...second.place.querySelectorAll("p")].map((p) => p.className);
console.log(JSON.stringify({ partial, text: replyIn(second), paragraphs }));
process.exit(0);
