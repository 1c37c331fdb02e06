// The button says how many rows it would write. A change that takes several writes is ticked or left out as a whole, and what is
// left out stays so in every order, on every page, and when the difference changes, until something is written.
"use strict";
const boxes = [...document.querySelectorAll('input[name="write"]')];
const form = document.getElementById("confirm");
const button = form?.querySelector("button");
const words = button?.textContent;
const place = `left out after batch ${form?.dataset.last}`;
const writes = new Map(boxes.map((box) => [box.value, Number(box.dataset.writes)]));  // that each change of this page takes
const leftOut = new Map();  // those of the changes left out, on any page

function tell() {
  const out = [...leftOut.values()].reduce((sum, many) => sum + many, 0);
  const many = (button.dataset.writes - out).toLocaleString("en");
  button.textContent = out ? words.replace("Write ", `Write ${many} of `) : words;
}

document.addEventListener("change", ({ target }) => {
  if (target.name !== "write") return;
  const same = boxes.filter((box) => box.value === target.value);
  for (const box of same) box.checked = target.checked;
  if (target.checked) leftOut.delete(target.value);
  else leftOut.set(target.value, writes.get(target.value));
  sessionStorage.setItem(place, JSON.stringify([...leftOut]));
  tell();
});

function draw() {
  const kept = sessionStorage.getItem(place);
  leftOut.clear();
  for (const [change, many] of kept ? JSON.parse(kept) : boxes.filter((box) => !box.defaultChecked).map((box) => [box.value])) {
    // One that is on no page was decided otherwise since.
    if (writes.has(change) || form?.dataset.pages === "many") leftOut.set(change, writes.get(change) ?? many);
  }
  for (const box of boxes) box.checked = !leftOut.has(box.value);
  if (button) tell();
}

draw();
addEventListener("pageshow", draw);  // a browser that comes back keeps what was ticked then

form?.addEventListener("formdata", ({ formData }) => {
  for (const change of leftOut.keys()) if (!writes.has(change)) formData.append("shown", change);
});
