// Reads a stream with @durable-streams/client, hanging up after every tenth message and coming back at the last offset.
import { stream } from "@durable-streams/client";

const { url, token, live } = JSON.parse(process.argv[2]);
const headers = { Authorization: `Bearer ${token}` };
const messages = [];
let offset = "-1";
let connections = 0;
let closed = false;
while (!closed) {
  const hanging = new AbortController();
  const response = await stream({ url, headers, offset, live, json: true, signal: hanging.signal });
  connections += 1;
  const enough = messages.length + 10;
  await new Promise((done, failed) => {
    response.closed.then(done, (error) => (hanging.signal.aborted ? done() : failed(error)));
    response.subscribeJson((batch) => {
      if (hanging.signal.aborted) return; // What had come when it was hung up is still handed out.
      messages.push(...batch.items);
      offset = batch.offset;
      closed = batch.streamClosed;
      if (messages.length >= enough || closed) {
        hanging.abort();
        done();
      }
    });
  });
}
console.log(JSON.stringify({ messages, connections, closed }));
process.exit(0);
