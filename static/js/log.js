// What a reply's frames add up to. Pure: no DOM, no socket. `seq` is the only position there is.

const LIVE = new Set(["pending", "streaming"]);

export const isLive = (status) => LIVE.has(status);

// A reply as it begins. One that is caught up on ends with its `end` frame, whatever it has become by now.
export const begin = ({ stream, seq = 0, status = "pending" }) => ({
  stream,
  seq: Number(seq),
  status: status === "pending" ? status : "streaming",
});

// Take a frame into `state`; returns what it changes for a reader, or null for what is known already.
export function apply(state, frame) {
  if (!isLive(state.status)) return null;
  if (frame.type === "progress") {
    state.status = "streaming";
    return { progress: frame };
  }
  // The position of an end may be known (the rows were there when the page was made), its message cannot be. HTML is
  // what a position looks like: it may come again, and at the end it does.
  const known = frame.type === "html" ? frame.seq < state.seq : frame.seq <= state.seq && frame.type !== "end";
  if (known) return null;
  state.seq = Math.max(state.seq, frame.seq);
  state.status = frame.type === "end" ? frame.status : "streaming";
  switch (frame.type) {
    case "delta":
      return { say: frame.kind, text: frame.text };
    case "html":
      return { html: frame };
    case "restart":
      return { restart: frame };
    case "retry":
      return { retry: frame };
    case "end":
      return { end: frame };
    default:
      return null;
  }
}

// Which note stands under an ended reply (the server's `note` filter says the same).
export function noteOf(end) {
  const cut = end.status === "done" && ["length", "content_filter"].includes(end.finish_reason);
  return cut ? end.finish_reason : end.status;
}
