// Which of the messages in its place one is, and the ways to the others (templates/conversations/_branches.html).

export function place(element, { id, branches }) {
  for (const button of element.querySelectorAll("[name=message]")) button.value = id;
  const group = element.querySelector(".branches");
  if (!group) return;
  const at = branches.indexOf(id);
  group.hidden = branches.length === 1;
  group.querySelector(".branch-number").textContent = `${at + 1}/${branches.length}`;
  for (const [n, button] of group.querySelectorAll("button").entries()) {
    button.value = branches[at + (n ? 1 : -1)] ?? "";
    button.disabled = !button.value;
  }
}
