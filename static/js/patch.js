// The server's HTML onto the page (docs/protocol.md, `html`): only what differs is touched, so that what somebody
// selects, focuses or scrolls stays as it is while an answer grows.

const alike = (one, other) => one.cloneNode().isEqualNode(other.cloneNode());

// Keep so many elements, go into the next one and keep so many of its own …: what is behind them there becomes `html`.
export function patch(body, { keep, within, html }) {
  let place = body;
  let kept = keep;
  for (const next of within) {
    place = place.childNodes[kept];
    kept = next;
  }
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  morph(place, fresh.content, kept);
}

// Make the children of `old`, from one on, those of `fresh`.
function morph(old, fresh, from = 0) {
  const length = from + fresh.childNodes.length;
  let node = old.childNodes[from];
  for (const next of [...fresh.childNodes]) {
    const after = node?.nextSibling;
    if (!node) old.append(next);
    else if (node.nodeType === Node.TEXT_NODE && next.nodeType === Node.TEXT_NODE) say(node, next.data);
    else if (alike(node, next)) morph(node, next);
    else node.replaceWith(next);
    node = after;
  }
  while (old.childNodes.length > length) old.lastChild.remove();
}

// Text that only grows keeps the selection in it.
function say(node, text) {
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
}
