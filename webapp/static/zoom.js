// Looking closely: zoom and pan, the same for both pictures of a pair; flicker and difference.
"use strict";

class Stage {
  constructor(element) {
    this.element = element;
    this.frames = [...element.querySelectorAll(".frame")];
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.timer = null;
    this.pointers = new Map();
    for (const frame of this.frames) this.listen(frame);
    for (const picture of element.querySelectorAll("img.full")) {
      this.soften(picture);
      if (picture.complete && picture.naturalWidth) this.chequer(picture);
      else picture.addEventListener("load", () => this.chequer(picture), { once: true });
    }
  }

  get zoomed() {
    return this.scale > 1;
  }

  // The small picture stands behind until the file itself is drawn.
  soften(picture) {
    if (picture.complete && picture.naturalWidth) return;
    const small = new Image();
    small.src = picture.dataset.thumbnail;
    small.alt = "";
    small.className = "small-first";
    picture.before(small);
    picture.addEventListener("load", () => small.remove(), { once: true });
    picture.addEventListener("error", () => small.remove(), { once: true });
  }

  // A transparent picture gets chequers behind it, so that white on nothing is seen.
  chequer(picture) {
    const small = document.createElement("canvas");
    small.width = small.height = 24;
    const pen = small.getContext("2d", { willReadFrequently: true });
    pen.drawImage(picture, 0, 0, 24, 24);
    const alpha = pen.getImageData(0, 0, 24, 24).data.filter((_, place) => place % 4 === 3);
    picture.closest(".frame").classList.toggle("see-through", alpha.some((value) => value < 250));
  }

  listen(frame) {
    frame.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(frame, event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX, event.clientY);
    }, { passive: false });
    frame.addEventListener("dblclick", (event) => this.toggle(frame, event.clientX, event.clientY));
    frame.addEventListener("pointerdown", (event) => {
      if (event.target.tagName === "VIDEO") return;
      this.began = this.pointers.size ? null : event;
      this.pointers.set(event.pointerId, event);
      const scrolls = event.pointerType === "touch" && !this.zoomed && this.pointers.size === 1;  // one finger scrolls the page; two zoom
      if (!scrolls) frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", (event) => this.drag(frame, event));
    for (const end of ["pointerup", "pointercancel"]) {
      frame.addEventListener(end, (event) => {
        this.pointers.delete(event.pointerId);
        if (end === "pointerup") this.swipe(event);
        this.began = null;
      });
    }
  }

  // A finger that goes far to one side, while nothing is zoomed, goes to the next card or the one before.
  swipe(event) {
    if (event.pointerType !== "touch" || this.zoomed || !this.began) return;
    const across = event.clientX - this.began.clientX;
    if (Math.abs(across) < 80 || Math.abs(event.clientY - this.began.clientY) > Math.abs(across) / 2) return;
    document.dispatchEvent(new CustomEvent("swipe", { detail: across < 0 ? "next" : "previous" }));
  }

  drag(frame, event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((one) => one.pointerId !== event.pointerId);
      const spread = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      this.zoom(frame, spread(event) / spread(before), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
    } else if (this.zoomed) {
      this.move(event.clientX - before.clientX, event.clientY - before.clientY);
    }
    this.pointers.set(event.pointerId, event);
  }

  // Around a place on the screen, else the middle of the frame.
  zoom(frame, factor, clientX = null, clientY = null) {
    const box = frame.getBoundingClientRect();
    const scale = Math.min(40, Math.max(1, this.scale * factor));
    const px = clientX === null ? box.width / 2 : clientX - box.left;
    const py = clientY === null ? box.height / 2 : clientY - box.top;
    this.x = px - (px - this.x) * scale / this.scale;
    this.y = py - (py - this.y) * scale / this.scale;
    this.scale = scale;
    this.draw();
  }

  step(factor) {
    this.zoom(this.frames[0], factor);
  }

  toggle(frame = this.frames[0], clientX = null, clientY = null) {
    if (this.zoomed) this.reset();
    else this.zoom(frame, 3, clientX, clientY);
  }

  reset() {
    this.scale = 1;
    this.draw();
  }

  move(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.draw();
  }

  draw() {
    this.element.classList.toggle("zoomed", this.zoomed);
    const box = this.frames[0].getBoundingClientRect();
    this.x = Math.min(0, Math.max(box.width * (1 - this.scale), this.x));
    this.y = Math.min(0, Math.max(box.height * (1 - this.scale), this.y));
    for (const frame of this.frames) {
      for (const picture of frame.querySelectorAll("img")) {
        picture.style.transform = this.scale === 1 ? "" : `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
        picture.classList.toggle("pixels", this.scale > 8);
      }
    }
  }

  // Shows a pair side by side, one over the other in turn, or as the difference of their colours.
  mode(wanted) {
    const mode = this.element.dataset.mode === wanted ? "side" : wanted;
    this.element.dataset.mode = mode;
    clearInterval(this.timer);
    const shown = [...this.element.querySelectorAll(".shown")];
    shown.forEach((one) => one.classList.remove("behind"));
    if (mode === "flicker") {
      let front = 0;
      const turn = () => {
        shown.forEach((one, place) => one.classList.toggle("behind", place !== front));
        front = 1 - front;
      };
      turn();
      this.timer = setInterval(turn, 600);
    }
    this.draw();
    return mode;
  }

  end() {
    clearInterval(this.timer);
  }
}
