// Bun's own websocket server and its publish: the same relay as node_ws.mjs.
import { PORT, frame, texts, wanted } from "./upstream.mjs";

const rooms = new Set();

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: PORT,
  fetch(request, server) {
    return server.upgrade(request, { data: wanted(request.url) }) ? undefined : new Response("a relay");
  },
  websocket: {
    perMessageDeflate: false,
    open(reader) {
      const { room, prompt } = reader.data;
      reader.subscribe(room);
      if (rooms.has(room)) return;
      rooms.add(room);
      relay(room, prompt);
    },
    message() {},
  },
});

async function relay(room, prompt) {
  for await (const text of texts(prompt)) server.publish(room, frame(text));
}
