// The list and the grid: one tab stop with arrows, ranges, the exact count of what is ticked or taken, decisions without a
// reload, and the next page by itself.
"use strict";

const many = document.getElementById("many");
const tiles = document.getElementById("tiles");
const picked = document.getElementById("picked");
const takeAll = document.getElementById("take-all");
const boxes = () => (tiles ? [...tiles.querySelectorAll('input[name="finding"]')] : []);
const ticked = () => boxes().filter((box) => box.checked);
const taking = () => many?.classList.contains("everything");
let last = null;       // the box that a range starts from
let loading = false;

// "All that match" is sent as its own wish with the count that is shown, never as a list of ticks.
function take(everything) {
  many.classList.toggle("everything", everything);
  for (const field of many.querySelectorAll("input.everything")) field.disabled = !everything;
  for (const of of many.querySelectorAll(".of")) of.textContent = everything ? `all ${many.dataset.suggestions}` : "the ticked";
  tell();
}

// Whether there are more findings than are shown.
const waits = () => Number(many.dataset.findings.replace(/,/g, "")) > boxes().length;

function tell() {
  const number = ticked().length;
  const shown = boxes().length;
  takeAll.hidden = taking() || !number || number !== shown || !waits();
  if (taking()) picked.textContent = `All ${many.dataset.suggestions} suggestions on ${many.dataset.findings} findings, on every page of this list.`;
  else picked.textContent = number ? `${number} of ${shown} shown ticked` : "Tick pictures.";
}

function tick(choose) {
  for (const box of boxes()) box.checked = choose(box);
  take(false);
}

const invert = () => tick((box) => !box.checked);

// One tab stop: the tile that the arrows are on.
function stop(box) {
  for (const other of boxes()) other.tabIndex = other === box ? 0 : -1;
  for (const link of tiles.querySelectorAll(".caption")) link.tabIndex = -1;
}

function move(steps, ranged) {
  const all = boxes();
  const focused = all.indexOf(document.activeElement);
  const place = focused < 0 ? all.findIndex((box) => box.tabIndex === 0) : focused;
  const next = all[Math.min(Math.max(place + steps, 0), all.length - 1)];
  if (!next) return;
  if (ranged) next.checked = all[place].checked = true;
  stop(next);
  next.focus();
  next.closest(".tile").scrollIntoView({ block: "nearest" });
  if (ranged) take(false);
}

const columns = () => getComputedStyle(tiles).gridTemplateColumns.split(" ").length;
const ARROWS = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -columns(), ArrowDown: () => columns() };

// The picture large: beside the grid while the pointer rests on it, in front of it by Enter; Enter again opens its card.
const large = document.createElement("div");
large.className = "large";
large.hidden = true;
document.body.append(large);

function enlarge(tile, beside) {
  const picture = new Image();
  picture.src = many.dataset.full.replace("0".repeat(64), tile.dataset.hash);
  picture.alt = "";
  large.replaceChildren(picture);
  large.classList.toggle("beside", beside);
  large.classList.toggle("left", beside && tile.getBoundingClientRect().left > innerWidth / 2);
  large.dataset.hash = tile.dataset.hash;
  large.hidden = false;
}

function shrink() {
  large.hidden = true;
}

function range(box) {
  const all = boxes();
  if (last !== null) {
    const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b);
    if (from >= 0) for (const other of all.slice(from, to + 1)) other.checked = box.checked;
  }
}

// Decide, and take the tiles away at once; one request after the other. Where the server refuses, the page shows what is there.
function decide(button) {
  const chosen = taking() ? boxes() : ticked();
  if (!chosen.length) {
    picked.textContent = "Nothing is ticked, so nothing was decided.";
    return;
  }
  const data = new FormData(many, button);
  const all = boxes();
  const stays = all.slice(all.indexOf(chosen[0])).find((box) => !chosen.includes(box)) ?? all.filter((box) => !chosen.includes(box)).at(-1);
  const everything = taking();
  const tilesGone = takeAway(chosen.map((box) => box.closest(".tile")));
  if (stays) {
    stop(stays);
    stays.focus({ preventScroll: true });
  }
  outbox.send(many.action, data, (body) => {
    say(body.message);
    if (body.ok) {
      const before = Number(many.dataset.suggestions.replace(/,/g, ""));
      count(body);
      recount(body);
      if (boxes().length) {
        walked.undo.push({ tiles: tilesGone, here: body.suggestions, there: before });
        walked.redo = [];
        if (everything) walked.undo = [];  // what was on other pages is not known here
        more();
        return;
      }
    }
    again(body.message);
  }, () => setTimeout(() => location.reload(), 1500));
}

const again = (message) => {
  sessionStorage.setItem("told", message);
  outbox.sending.then(() => location.reload());
};

// Decisions of this page that an undo or redo can show without a reload: the tiles, each with that which came behind it, and how
// many suggestions the view holds on this side of the step and beyond it.
const walked = { undo: [], redo: [] };

function takeAway(gone) {
  const places = gone.map((tile) => [tile, tile.nextElementSibling]);
  for (const tile of gone) tile.remove();
  last = null;
  take(false);
  return places;
}

function bringBack(places) {
  for (const [tile, next] of [...places].reverse()) {
    tile.querySelector("input").checked = false;
    tiles.insertBefore(tile, next?.isConnected ? next : null);
  }
  const box = places[0][0].querySelector("input");
  stop(box);
  box.focus({ preventScroll: true });
  box.closest(".tile").scrollIntoView({ block: "nearest" });
  take(false);
}

// An undo or redo keeps the grid and its place, where it takes back or does again what was decided here; else the page shows what is there.
function walk(form, button, way) {
  outbox.send(button.getAttribute("formaction") ?? form.action, new FormData(form), (body) => {
    const step = walked[way].pop();
    if (!body.ok || !step || step.there !== body.suggestions) return again(body.message);
    say(body.message);
    count(body);
    recount(body);
    if (way === "undo") bringBack(step.tiles);
    else step.tiles = takeAway(step.tiles.map(([tile]) => tile));
    walked[way === "undo" ? "redo" : "undo"].push({ ...step, here: step.there, there: step.here });
  }, () => setTimeout(() => location.reload(), 1500));
}

function recount(body) {
  many.dataset.suggestions = body.suggestions.toLocaleString("en");
  many.dataset.findings = body.left.toLocaleString("en");
  document.getElementById("suggestions").textContent = plural(body.suggestions, "suggestion");
  for (const field of document.querySelectorAll('input[name="expect"]')) field.value = body.suggestions;
  for (const button of document.querySelectorAll(".all button")) button.textContent = button.textContent.replace(/[\d,]+$/, many.dataset.suggestions);
}

// The next page is put below this one before its end is reached.
async function more() {
  const link = document.getElementById("later");
  if (!tiles || !link || loading || link.getBoundingClientRect().top > innerHeight * 2.5) return;
  loading = true;
  try {
    await outbox.sending;
    const following = parsed(await (await fetch(link.href)).text());
    const known = new Set(boxes().map((box) => box.value));
    for (const tile of following.querySelectorAll("#tiles .tile")) {
      if (!known.has(tile.querySelector("input").value)) tiles.append(document.adoptNode(tile));
    }
    const next = following.getElementById("later");
    if (next) link.href = next.href;
    else link.remove();
    stop(boxes().find((box) => box.tabIndex === 0) ?? boxes()[0]);
    tell();
  } catch {
    return;  // the link is still there to be followed
  } finally {
    loading = false;
  }
  more();
}

function press(state) {
  const button = many?.querySelector(`button[value="${state}"]`);
  if (button) decide(button);
}

function look(tile) {
  if (!large.hidden && large.dataset.hash === tile.dataset.hash && !large.classList.contains("beside")) {
    tile.querySelector(".caption").click();
  } else enlarge(tile, false);
}

if (many) {
  document.getElementById("grid-tools").hidden = false;
  document.getElementById("invert").hidden = false;
  document.getElementById("invert").addEventListener("click", invert);
  const size = document.getElementById("size");
  const fit = () => document.documentElement.style.setProperty("--tile", `${size.value}rem`);
  size.value = localStorage.getItem("tile") ?? size.value;
  fit();
  size.addEventListener("input", () => {
    fit();
    localStorage.setItem("tile", size.value);
  });
  tiles.addEventListener("click", (event) => {
    const box = event.target.closest('input[name="finding"]');
    if (!box) return;
    if (event.shiftKey) range(box);
    last = box;
    stop(box);
    take(false);
  });
  tiles.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    const tile = event.target.closest(".tile");
    if (step && tile && !event.altKey && !event.ctrlKey) {
      event.preventDefault();
      shrink();
      move(step(), event.shiftKey);
    } else if (event.key === "Enter" && event.target.matches("input")) {
      event.preventDefault();
      look(tile);
    } else if (event.key === "Escape" && !large.hidden) {
      event.stopPropagation();
      shrink();
    }
  });
  let resting = null;
  tiles.addEventListener("pointerover", (event) => {
    const tile = event.target.closest(".pick")?.closest(".tile");
    clearTimeout(resting);
    if (tile && event.pointerType === "mouse") resting = setTimeout(() => enlarge(tile, true), 700);
  });
  tiles.addEventListener("pointerout", () => {
    clearTimeout(resting);
    if (large.classList.contains("beside")) shrink();
  });
  many.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.submitter) decide(event.submitter);
  });
  document.querySelector("form.undo").addEventListener("submit", (event) => {
    event.preventDefault();
    walk(event.target, event.submitter, event.submitter.id);
  });
  takeAll.addEventListener("click", () => {
    take(true);
    many.querySelector("button[name]").focus();
  });
  addEventListener("scroll", more, { passive: true });
  addEventListener("resize", more);
  stop(boxes()[0]);
  take(false);
  more();
}

keys.use({
  places: () => [tiles ? "grid" : "list"],
  before(event) {  // an arrow that nothing else takes goes into the grid
    const enters = tiles && ARROWS[event.key] && event.target.matches("body, main") && !event.ctrlKey;
    if (enters) move(0);
    return enters;
  },
  actions: {
    accept: () => press("accepted"),
    ignore: () => press("ignored"),
    skip: () => press("skipped"),
    flag: () => press("flagged"),
    grid: () => document.getElementById("to-grid").click(),
    invert: () => many && invert(),
    select_all: () => many && (ticked().length === boxes().length && waits() ? take(true) : tick(() => true)),
    close: () => many && (large.hidden ? tick(() => false) : shrink()),
  },
});
// On a small window the filters are folded, so that what was found is on the screen.
const filtering = location.hash === "#filter-tag";
document.querySelector(".filtering").open = filtering || !SMALL.matches;
if (filtering) document.getElementById("filter-tag").focus();
