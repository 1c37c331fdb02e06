// The grid: ranges by Shift+click, the count of what is ticked, and the keys that work in lists.
"use strict";

const many = document.getElementById("many");
const boxes = many ? [...many.querySelectorAll('input[name="finding"]')] : [];
let last = null;

function tell() {
  const number = boxes.filter((box) => box.checked).length;
  document.getElementById("picked").textContent = number ? `${number} of ${boxes.length} on this page ticked` : "Tick pictures; Shift+click ticks a range.";
}

boxes.forEach((box, place) => {
  box.addEventListener("click", (event) => {
    if (event.shiftKey && last !== null) {
      const [from, to] = [Math.min(last, place), Math.max(last, place)];
      for (const other of boxes.slice(from, to + 1)) other.checked = box.checked;
    }
    last = place;
    tell();
  });
});
if (many) tell();

document.addEventListener("keydown", (event) => {
  if (event.target.matches("textarea, select, input:not([type=checkbox])") || event.altKey || event.metaKey) return;
  const control = event.ctrlKey;
  const key = event.key.toLowerCase();
  const act = {
    a: () => control && boxes.length && (boxes.forEach((box) => { box.checked = true; }), tell(), true),
    z: () => control && (document.getElementById(event.shiftKey ? "redo" : "undo").click(), true),
    u: () => !control && (document.getElementById("undo").click(), true),
    g: () => !control && (document.getElementById("to-grid").click(), true),
    "/": () => (document.getElementById("filter-tag").focus(), true),
    "?": () => (document.getElementById("help-link").click(), true),
    escape: () => boxes.length && (boxes.forEach((box) => { box.checked = false; }), tell(), true),
  }[key];
  if (act && act()) event.preventDefault();
});
if (location.hash === "#filter-tag") document.getElementById("filter-tag").focus();
