// What a screen reader is told of an answer while it comes: whole sentences, some at a time. Pure but for its clock.

const PAUSE_MS = 1500;

// The sentences in `text` that are complete: something follows the end of each.
export const sentences = (text) => text.match(/[^.!?\n]*[.!?\n]+(?=\s)/g) ?? [];

export class Speech {
  constructor(say, now = () => performance.now()) {
    Object.assign(this, { say, now, spoken: 0, next: 0 });
  }

  // The text so far; `ended` says the rest, too. One that has become shorter begins anew.
  hear(text, ended) {
    if (!ended && this.now() < this.next) return;
    this.next = this.now() + PAUSE_MS;
    const rest = text.slice(this.spoken);
    const said = ended ? rest : sentences(rest).join("");
    this.spoken = text.length < this.spoken ? 0 : this.spoken + said.length;
    if (said.trim()) this.say(said.trim());
  }
}
