// What this browser keeps by itself: drafts, and prompts on their way. Private windows may refuse; then nothing is kept.

function quietly(action) {
  try {
    return action();
  } catch {
    return null;
  }
}

export const keep = (name, text) =>
  quietly(() => (text ? localStorage.setItem(name, text) : localStorage.removeItem(name)));

export const kept = (name) => quietly(() => localStorage.getItem(name)) ?? "";

export function forgetAll() {
  for (const name of quietly(() => Object.keys(localStorage)) ?? []) if (/^(draft|asked):/.test(name)) keep(name, "");
}
