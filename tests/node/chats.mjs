// What the tests of the AI SDK share: a chat of the version asked for, as a browser's tab would have it.
export const given = JSON.parse(process.argv[2] ?? "{}");
const { version, site, token } = given;
const [sdk, react] = version === 7 ? ["ai", "@ai-sdk/react"] : [`ai-${version}`, `react-${version}`];
const { DefaultChatTransport } = await import(sdk);
const { Chat } = await import(react);
export const headers = { Authorization: `Bearer ${token}` };

export const transport = (more = {}) => new DefaultChatTransport({ api: `${site}/ai/chat`, headers, ...more });

const chats = [];
export const tab = (id, messages = [], more = {}) => {
  chats.push(new Chat({ id, messages, transport: transport(), ...more }));
  return chats.at(-1);
};

export async function until(condition) {
  for (const deadline = Date.now() + 50_000; !(await condition()); ) {
    if (Date.now() > deadline) throw new Error(`too late: ${condition}, ${chats.map((chat) => chat.error)}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

const said = (message, type) =>
  (message?.parts ?? []).filter((part) => part.type === type).map((part) => part.text).join("");
export const replyOf = (chat) => chat.messages.findLast((message) => message.role === "assistant");
export const textOf = (chat) => said(replyOf(chat), "text");

// What a tab shows at the end, for the test that started this script.
export const shown = (chat) => ({
  status: chat.status,
  error: chat.error?.message ?? null,
  ids: chat.messages.map((message) => message.id),
  roles: chat.messages.map((message) => message.role),
  text: textOf(chat),
  reasoning: said(replyOf(chat), "reasoning"),
  metadata: replyOf(chat)?.metadata ?? null,
});
