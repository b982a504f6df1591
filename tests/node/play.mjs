// One tab that does what it is told, step by step; prints what it shows after each step.
import { given, headers, shown, tab, textOf, transport, until } from "./chats.mjs";

const { site, id, steps, mends } = given;
const errors = [];
const data = [];
// What docs/clients.md tells a page to do: whatever went wrong, replay the answer.
const mend = () => setTimeout(() => chat.resumeStream(), 200);
const replays = transport({
  prepareReconnectToStreamRequest: () => ({ api: `${site}/ai/chat/${id}/stream?replay=1` }),
});
const chat = tab(id, [], {
  transport: replays,
  onData: (part) => data.push(part),
  onError: (error) => {
    errors.push(error.message);
    if (mends) mend();
  },
});
const settled = () => chat.status === (mends ? "ready" : chat.error ? "error" : "ready");

const doing = {
  begin: (text) => void chat.sendMessage({ text }),
  ask: (text) => chat.sendMessage({ text }),
  edit: (text) => chat.sendMessage({ text, messageId: chat.messages.findLast(({ role }) => role === "user").id }),
  regenerate: () => chat.regenerate(),
  said: (length) => until(() => textOf(chat).length >= length),
  stop: () => fetch(`${site}/ai/chat/${id}/stop`, { method: "POST", headers }),
  settle: () => until(settled),
};

const after = [];
for (const [step, argument] of steps) {
  await doing[step](argument);
  after.push(shown(chat));
}
console.log(JSON.stringify({ after, last: after.at(-1), errors, data }));
