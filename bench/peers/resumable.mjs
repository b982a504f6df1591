// Node, server-sent events and npm `resumable-stream` on Redis, as its documentation shows it.
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { createResumableStreamContext } from "resumable-stream";
import { PORT, frame, texts, wanted } from "./upstream.mjs";

const context = createResumableStreamContext({ waitUntil: null });

function events(prompt) {
  const source = texts(prompt);
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await source.next();
      if (done) controller.close();
      else controller.enqueue(`data: ${frame(value)}\n\n`);
    },
  });
}

createServer(async (request, response) => {
  if (request.url === "/") return response.end();
  const { room, prompt } = wanted(request.url);
  const stream = await context.resumableStream(room, () => events(prompt));
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.flushHeaders();
  Readable.fromWeb(stream).pipe(response);
}).listen({ host: "127.0.0.1", port: PORT, backlog: 2048 });
