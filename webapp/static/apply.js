// The button says how many rows it would write. A change that takes several writes is ticked or left out as a whole.
"use strict";
const boxes = [...document.querySelectorAll('input[name="write"]')];
const button = document.querySelector("#confirm button");
const words = button?.textContent;

function tell() {
  const out = boxes.filter((box) => !box.checked).length;
  const many = (button.dataset.writes - out).toLocaleString("en");
  button.textContent = out ? words.replace("Write ", `Write ${many} of `) : words;
}

document.addEventListener("change", ({ target }) => {
  if (target.name !== "write") return;
  for (const box of boxes) if (box.value === target.value) box.checked = target.checked;
  tell();
});
addEventListener("pageshow", () => button && tell());  // a browser that comes back keeps what was unticked
