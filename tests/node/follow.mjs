// The example of docs/clients.md for @durable-streams/client, as it is written there.
import { mkdirSync, writeFileSync } from "node:fs";

const { code, site, token, id } = JSON.parse(process.argv[2]);
const file = new URL("node_modules/.examples/durable.mjs", import.meta.url);
mkdirSync(new URL(".", file), { recursive: true });
writeFileSync(file, code);
const { follow } = await import(file);
let shown = "";
const text = await follow(site, token, id, (said) => (shown = said));
console.log(JSON.stringify({ text, shown }));
