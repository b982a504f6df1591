// What a reply's frames add up to. Pure: no DOM, no socket. `seq` is the only position there is.

export const isLive = (status) => ["pending", "streaming"].includes(status);

// Take a frame into `state`; false for what is known already.
export function apply(state, { type, seq = Infinity, status }) {
  // The position of an end may be known (the rows were there when the page was made), its message cannot be. HTML is
  // what a position looks like: it may come again, and at the end it does. Notes and progress have no position.
  const known = type === "html" ? seq < state.seq : seq <= state.seq && type !== "end";
  if (known || !isLive(state.status)) return false;
  if (seq !== Infinity) state.seq = Math.max(state.seq, seq);
  state.status = type === "end" ? status : "streaming";
  return true;
}
