// Node and `ws`: the first reader of a room has the model asked; what it says goes to all who are there.
import { WebSocketServer } from "ws";
import { PORT, frame, texts, wanted } from "./upstream.mjs";

const rooms = new Map();

async function relay(room, prompt) {
  for await (const text of texts(prompt)) {
    const message = frame(text);
    for (const reader of rooms.get(room)) reader.send(message);
  }
}

const server = new WebSocketServer({ host: "127.0.0.1", port: PORT, backlog: 2048 });
server.on("connection", (reader, request) => {
  const { room, prompt } = wanted(request.url);
  const first = !rooms.has(room);
  if (first) rooms.set(room, new Set());
  rooms.get(room).add(reader);
  reader.on("close", () => rooms.get(room).delete(reader));
  if (first) relay(room, prompt);
});
