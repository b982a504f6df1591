// One websocket that comes back by itself. Reconnecting is always safe: the page attaches after the seq it has.

const FINAL = { 4403: "signed-out", 4404: "gone" };
const FIRST_MS = 400;
const LONGEST_MS = 15_000;
const LONGEST_SEEN_MS = 5000;
const CONNECT_MS = 10_000;
const SILENCE_MS = 15_000;

// Full waits would bring all pages back at the same moment after a restart, so each takes its own part of it.
// Nobody who looks at the page waits long.
export const backoffMs = (tries, random = Math.random, hidden = document.hidden) =>
  Math.min(hidden ? LONGEST_MS : LONGEST_SEEN_MS, FIRST_MS * 2 ** tries) * (0.5 + random() / 2);

export class Connection {
  // `on` has opened(), frame(object), state(name) and expecting(): whether frames should be coming now.
  constructor(url, on) {
    this.url = url;
    this.on = on;
    this.tries = 0;
    this.heard = 0;
    addEventListener("online", () => this.connect());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
    document.addEventListener("visibilitychange", () => this.wake());
    setInterval(() => this.checkSilence(), 3000);
    this.connect();
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  send(frame) {
    if (this.isOpen) this.socket.send(JSON.stringify(frame));
    return this.isOpen;
  }

  connect() {
    if (this.final) return;
    const back = this.tries && !this.isOpen;
    this.abandon();
    this.on.state(back ? "waiting" : "connecting");
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.timer = setTimeout(() => this.lost(), CONNECT_MS);
    socket.onopen = () => this.opened();
    socket.onmessage = ({ data }) => this.received(data);
    socket.onclose = ({ code }) => this.lost(code);
  }

  opened() {
    clearTimeout(this.timer);
    this.heard = performance.now();
    this.on.state("open");
    this.on.opened();
  }

  received(data) {
    this.tries = 0;
    this.heard = performance.now();
    this.on.frame(JSON.parse(data));
  }

  lost(code) {
    this.abandon();
    if (FINAL[code]) return this.end(FINAL[code]);
    this.timer = setTimeout(() => this.connect(), backoffMs(this.tries++));
    return this.on.state("waiting");
  }

  // Nothing is left to come back for.
  end(name) {
    this.abandon();
    this.final = name;
    this.on.state(name);
  }

  // A socket whose peer is gone takes minutes to notice: it is left behind, not waited for.
  abandon() {
    clearTimeout(this.timer);
    const { socket } = this;
    this.socket = undefined;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  // Somebody looks at the page again: no reason to wait any longer.
  wake() {
    if (document.hidden) return;
    if (this.socket) this.checkSilence();
    else this.connect();
  }

  // No frame while an answer is being written: the socket may be dead without anybody having said so.
  checkSilence() {
    const silent = performance.now() - this.heard > SILENCE_MS;
    if (this.isOpen && silent && this.on.expecting()) this.connect();
  }
}
