// The button says how many rows it would write. A change that takes several writes is ticked or left out as a whole, and what is
// left out stays so in every order and on every page of the same difference.
"use strict";
const boxes = [...document.querySelectorAll('input[name="write"]')];
const form = document.getElementById("confirm");
const button = form?.querySelector("button");
const words = button?.textContent;
const place = `left out of ${form?.elements.digest.value}`;
const leftOut = new Map(JSON.parse(sessionStorage.getItem(place) ?? "[]"));  // a change, and how many writes it takes

function tell() {
  const out = [...leftOut.values()].reduce((sum, writes) => sum + writes, 0);
  const many = (button.dataset.writes - out).toLocaleString("en");
  button.textContent = out ? words.replace("Write ", `Write ${many} of `) : words;
}

document.addEventListener("change", ({ target }) => {
  if (target.name !== "write") return;
  const same = boxes.filter((box) => box.value === target.value);
  for (const box of same) box.checked = target.checked;
  if (target.checked) leftOut.delete(target.value);
  else leftOut.set(target.value, Number(target.dataset.writes));
  sessionStorage.setItem(place, JSON.stringify([...leftOut]));
  tell();
});

function draw() {
  for (const box of boxes) box.checked = !leftOut.has(box.value);
  if (button) tell();
}

draw();
addEventListener("pageshow", draw);  // a browser that comes back keeps what was ticked then

form?.addEventListener("formdata", ({ formData }) => {
  const here = new Set(boxes.map((box) => box.value));
  for (const change of leftOut.keys()) if (!here.has(change)) formData.append("shown", change);
});
