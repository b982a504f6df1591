// What all peers on JavaScript share: the texts of a model's answer, read as a chat page's server would.

export const SOURCE = process.env.SOURCE;
export const PORT = Number(process.env.PORT);

export async function* texts(prompt) {
  const body = JSON.stringify({ model: "bench", stream: true, messages: [{ role: "user", content: prompt }] });
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(`${SOURCE}/chat/completions`, { method: "POST", headers, body });
  const decoder = new TextDecoder();
  let rest = "";
  for await (const data of response.body) {
    const lines = (rest + decoder.decode(data, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const text = JSON.parse(line.slice(6)).choices[0]?.delta?.content;
      if (text) yield text;
    }
  }
}

export function frame(text) {
  return JSON.stringify({ type: "delta", text });
}

// The room and the prompt that a reader's address names.
export function wanted(address) {
  const url = new URL(address, "http://127.0.0.1");
  return { room: url.pathname, prompt: url.searchParams.get("prompt") };
}
