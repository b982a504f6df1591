// Follows the newest text until the reader scrolls up, and again once the end is in sight.

const NEAR_PX = 24;

export class Follow {
  constructor(scroller, button) {
    this.scroller = scroller;
    this.button = button;
    this.top = 0;
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    button.addEventListener("click", () => this.stick());
    // What the reader unfolds is what the reader wants to see.
    scroller.addEventListener("toggle", () => this.letGo(), true);
    // What comes into sight is laid out only then, and may be taller than was guessed.
    scroller.addEventListener("contentvisibilityautostatechange", () => this.keep());
    new ResizeObserver(() => this.keep()).observe(scroller);
    const wanted = document.getElementById(location.hash.slice(1));
    if (wanted) wanted.scrollIntoView();
    this.stuck = !wanted;
    this.keep();
  }

  get gap() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  // Only a move upwards lets go: growth of the text below is not the reader's doing.
  scrolled() {
    const { scrollTop } = this.scroller;
    if (scrollTop < this.top - 1 && this.gap > 1) this.stuck = false;
    else if (this.gap < NEAR_PX) this.stuck = true;
    this.top = scrollTop;
    this.show();
  }

  letGo() {
    this.stuck = this.gap < NEAR_PX;
    this.show();
  }

  // After every change of the text.
  keep() {
    if (this.stuck) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.show();
  }

  stick() {
    this.stuck = true;
    this.keep();
  }

  show() {
    this.button.hidden = this.stuck || this.gap < NEAR_PX;
  }
}
