// The list and the grid: ranges by Shift+click, the exact count of what is ticked or taken, and the keys that work here.
"use strict";

const many = document.getElementById("many");
const boxes = many ? [...many.querySelectorAll('input[name="finding"]')] : [];
const picked = document.getElementById("picked");
const takeAll = document.getElementById("take-all");
let last = null;

const ticked = () => boxes.filter((box) => box.checked).length;
const taking = () => many?.classList.contains("everything");

// "All that match" is sent as its own wish with the count that is shown, never as a list of ticks.
function take(everything) {
  many.classList.toggle("everything", everything);
  for (const field of many.querySelectorAll("input.everything")) field.disabled = !everything;
  for (const button of many.querySelectorAll("button[data-words]")) {
    button.textContent = button.dataset.words.replace("{}", everything ? `all ${many.dataset.suggestions}` : "the ticked");
  }
  tell();
}

function tell() {
  const number = ticked();
  const everyOne = number > 0 && number === boxes.length;
  takeAll.hidden = taking() || !everyOne || !many.dataset.more;
  if (taking()) picked.textContent = `All ${many.dataset.suggestions} suggestions on ${many.dataset.findings} findings, on every page of this list.`;
  else picked.textContent = number ? `${number} of ${boxes.length} on this page ticked` : "Tick pictures; Shift+click ticks a range.";
}

function tickAll(checked) {
  for (const box of boxes) box.checked = checked;
  take(false);
}

function press(state) {
  if (!boxes.length) return;
  if (!ticked() && !taking()) picked.textContent = "Nothing is ticked, so nothing was decided.";
  else many.querySelector(`button[value="${state}"]`)?.click();
}

boxes.forEach((box, place) => {
  box.addEventListener("click", (event) => {
    if (event.shiftKey && last !== null) {
      const [from, to] = [Math.min(last, place), Math.max(last, place)];
      for (const other of boxes.slice(from, to + 1)) other.checked = box.checked;
    }
    last = place;
    take(false);
  });
});
if (many) {
  takeAll.addEventListener("click", () => {
    take(true);
    many.querySelector("button[data-words]").focus();
  });
  take(false);
}

keys.use({
  places: () => [boxes.length ? "grid" : "list"],
  actions: {
    accept: () => press("accepted"),
    ignore: () => press("ignored"),
    skip: () => press("skipped"),
    flag: () => press("flagged"),
    undo: () => document.getElementById("undo").click(),
    redo: () => document.getElementById("redo").click(),
    grid: () => document.getElementById("to-grid").click(),
    select_all: () => (ticked() === boxes.length && many.dataset.more ? take(true) : tickAll(true)),
    close: () => boxes.length && tickAll(false),
  },
});
if (location.hash === "#filter-tag") document.getElementById("filter-tag").focus();
