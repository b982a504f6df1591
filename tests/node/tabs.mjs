// One tab asks, a second joins in mid-answer, a third is reloaded in mid-answer: from stored messages and a resume.
import { given, headers, shown, tab, textOf, transport, until } from "./chats.mjs";

const { site, id, prompt } = given;
const stored = async () => {
  const response = await fetch(`${site}/api/conversations/${id}/messages/`, { headers });
  if (!response.ok) throw new Error(await response.text());
  const page = await response.json();
  return page.results.map(({ id, role, text }) => ({ id, role, parts: [{ type: "text", text }] }));
};

const first = tab(id);
const asking = first.sendMessage({ text: prompt });
await until(() => textOf(first).length > 20);
const second = tab(id, first.messages.slice(0, 1));
const joining = second.resumeStream();
const before = tab(id, first.messages.slice(0, 1));
const watching = before.resumeStream();
await until(() => textOf(before).length > 40);
await before.stop();
const third = tab(id, await stored());
const partial = textOf(third).length;
await Promise.all([asking, joining, watching, third.resumeStream()]);
const idle = await transport().reconnectToStream({ chatId: id });
console.log(JSON.stringify({ tabs: [first, second, third].map(shown), partial, idle, stored: await stored() }));
