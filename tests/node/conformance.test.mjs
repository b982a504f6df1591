// The conformance suite of Durable Streams; forks and subscriptions, which this site does not have, are left out by name.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.CONFORMANCE_URL, longPollTimeoutMs: 25_000 });
