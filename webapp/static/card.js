// Reviewing without waiting: the next cards are here before they are wanted, a decision is drawn at
// once and sent behind, and what the server answers is believed over what was drawn. Every button
// also works as the plain form it is.
"use strict";

const holder = document.getElementById("card");
const tools = document.getElementById("tools");
const KEEP_AHEAD = 10;
const LOOK = 3000;  // milliseconds that a key waits for the picture it is about
const PATIENCE = 120;  // seconds

const page = {
  stage: null,
  ahead: [],        // cards after the one shown, nearest first: {id, url, html, pictures}
  ended: false,     // the server has no more after the last of them
  loading: null,
  moving: false,
  get pending() { return outbox.pending; },
  held: [],         // keys that were pressed before their card was there, in order
  left: null,       // the id of the card that was shown before this one
  answer: {},       // what the last decision was answered with: its text, and the id of its card
  token: 0,         // goes up when the view jumps, so that an answer for an older place is dropped
};

const article = () => holder.querySelector("article");
const form = () => holder.querySelector("form.panel");
const isPair = () => article().classList.contains("pair");

function warm(card) {
  for (const address of card.pictures) new Image().src = address;
  return card;
}

function show(card, push = true) {
  page.stage?.end();
  const made = parsed(card.html).querySelector("article");
  const left = article().dataset.id;
  holder.replaceChildren(document.adoptNode(made));
  if (left !== card.id) {
    page.left = left;
    say("");
    tellAnswer();
  }
  page.moving = false;
  if (push) history.pushState({ id: card.id }, "", card.url);
  enter();
  document.getElementById("heading").focus({ preventScroll: true });
  release();
}

// What was decided is said beside the next card as of the card before, and beside later ones no more: it would seem to be about them.
function tellAnswer() {
  const { text, of } = page.answer;
  if (of === article().dataset.id) say(text);
  else if (text && of === page.left) say(holder.dataset.before + text);
}

// For the page that comes next, whichever it is.
function keepAnswer(text = "", of = "") {
  sessionStorage.setItem("told", text);
  sessionStorage.setItem("told of", of);
}

function enter() {
  page.stage = new Stage(holder.querySelector(".stage"));
  for (const tool of tools.querySelectorAll("[data-pair]")) tool.hidden = !isPair();
  for (const button of holder.querySelectorAll("[data-copy]")) button.hidden = false;
  pressed();
  tell();
  if (SMALL.matches) {
    for (const more of holder.querySelectorAll("details.more")) more.open = false;  // what is asked and the buttons fit the window
    holder.before(document.getElementById("said"));
    document.getElementById("said").scrollIntoView();  // it starts at what was decided, a line, and its picture
  }
  look();
  document.title = `${article().dataset.say} · tagcheck`;
  document.getElementById("asked").textContent = article().dataset.say;
  fill();
}

const drawn = () => [...holder.querySelectorAll(".frame")].every((frame) => frame.querySelector("video") || [...frame.querySelectorAll("img")].some((one) => one.complete));

// Keys that came before the next card, or its picture, was there are answered once it is drawn: none is lost, none is blind.
async function release() {
  if (page.moving || page.releasing || !page.held.length) return;
  page.releasing = true;
  const pictures = [...holder.querySelectorAll("img.full")].map((one) => one.decode().catch(() => {}));
  await Promise.race([Promise.all(pictures), new Promise((done) => setTimeout(done, LOOK))]);
  await new Promise((done) => requestAnimationFrame(done));
  page.releasing = false;
  page.held.shift()?.();
  if (!page.moving) release();
}

const later = (act) => (page.moving || page.held.length || !drawn() ? (page.held.push(act), release()) : act());

function address(more) {
  const url = new URL(holder.dataset.ahead, location.href);
  for (const [name, value] of Object.entries(more)) url.searchParams.set(name, value);
  return url;
}

// Keep the next few cards ready. One request at a time.
function fill() {
  if (page.loading || page.ended || page.ahead.length >= KEEP_AHEAD) return page.loading ?? Promise.resolve();
  const token = page.token;
  const last = page.ahead.at(-1)?.id ?? article().dataset.id;
  const loading = ask(address({ after: last })).then((cards) => {
    if (token !== page.token) return;
    page.ahead.push(...cards.map(warm));
    page.ended = cards.length === 0;
  }).catch((error) => say(error.message)).finally(() => {
    if (page.loading === loading) page.loading = null;  // the view may have jumped, and another be under way
  });
  page.loading = loading;
  return loading;
}

function forget() {
  page.token += 1;
  page.ahead = [];
  page.ended = false;
  page.loading = null;
}

// While the next card is on its way nothing can be decided: it would fall on the card that was just done.
async function goOn() {
  const token = page.token;
  page.moving = true;
  page.stage.end();
  if (!page.ahead.length) await fill();
  if (token !== page.token) return;  // an answer has shown another card meanwhile
  const card = page.ahead.shift();
  if (card) return show(card);
  await outbox.sending;  // the list's end as the server sees it counts what was just decided
  if (token !== page.token) return;
  keepAnswer(page.answer.text, page.answer.of);
  location.assign(article().dataset.next || holder.dataset.list.replace("/findings", "/card"));
}

async function goBack() {
  await outbox.sending;
  const cards = await ask(address({ before: article().dataset.id }));
  if (!cards.length) return say("This is the first one.");
  forget();
  show(cards[0]);
}

const boxes = () => [...form().querySelectorAll('input[name="key"]')];
const ticked = () => boxes().filter((box) => box.checked);
// Rows that wait for an answer and are not folded away.
const asked = () => boxes().filter((box) => box.closest(".suggestion").querySelector('input[name="shown"]'));

// Rows that were on the screen, whole, since the card is there.
function look() {
  const box = holder.querySelector(".scroll").getBoundingClientRect();
  const [top, bottom] = SMALL.matches ? [0, innerHeight] : [Math.max(box.top, 0), Math.min(box.bottom, innerHeight)];
  for (const line of holder.querySelectorAll(".suggestion .line, .difference tbody tr")) {
    const place = line.getBoundingClientRect();
    const fits = place.top >= top - 1 || place.height > bottom - top;
    if (place.height && fits && place.bottom <= bottom + 1) line.dataset.seen = "yes";
  }
}

// The rows that a button answers. To skip or to flag is no answer.
function answered(button) {
  if (button.name === "pair") return button.value === "neither" ? [] : [...holder.querySelectorAll(".difference tbody tr")];
  const rows = { settle: asked, accepted: ticked, ignored: ticked }[button.name === "do" && button.value];
  return (rows?.() ?? []).map((box) => box.closest(".line"));
}

// Whether a decision waits for rows that were not on the screen yet: they are brought there, and the next press answers.
function hidden(lines) {
  look();
  const unseen = lines.filter((line) => !line.dataset.seen);
  if (!unseen.length) return false;
  unseen[0].closest("details:not([open])")?.setAttribute("open", "");
  unseen[0].scrollIntoView({ block: unseen[0].offsetHeight > innerHeight / 2 ? "end" : "start" });
  look();
  const more = unseen.filter((line) => !line.dataset.seen).length;
  say(`${unseen.length} of these ${unseen.length === 1 ? "was" : "were"} not on the screen yet. Nothing was decided: look, and press again.${more ? ` ${more} more are below.` : ""}`);
  page.moving = true;  // the next key waits until they are drawn
  requestAnimationFrame(() => requestAnimationFrame(() => {
    page.moving = false;
    release();
  }));
  return true;
}

// The buttons say what they would answer now.
function tell() {
  const n = ticked().length;
  const rest = asked().filter((box) => !box.checked).length;
  for (const words of form().querySelectorAll(".bar [data-words]")) {
    words.textContent = words.dataset.words.replace("{n}", n).replace("{rest}", rest);
  }
}

function decide(button) {
  if (page.moving) return;
  const settling = button.value === "settle" && button.name === "do";
  if (button.name === "do" && !ticked().length && !(settling && asked().length)) return say("Nothing is ticked, so nothing was decided.");
  if (hidden(answered(button))) return;
  const whole = button.name === "do" && (settling || asked().every((box) => box.checked));
  const data = new FormData(form(), button);
  const target = form().action;
  const here = { id: article().dataset.id, url: article().dataset.url };
  send(target, data, here, whole);
  if (whole) goOn();
}

// Send one after the other, in the order decided. Where the answer differs from what was drawn, go back and show it.
function send(target, data, here, moved) {
  const token = page.token;
  return outbox.send(target, data, (body) => {
    page.answer = { text: body.message, of: here.id };
    count(body);
    drop(body.decided ?? []);
    if (body.card && (!moved || !body.ok)) {
      if (moved) forget();
      show(body.card, article().dataset.id !== body.card.id);
    } else if (!moved && !body.stay) {
      goOn();
    }
    tellAnswer();
  }, (error) => {
    if (!moved || token !== page.token) return;
    keepAnswer(error.message, here.id);
    location.assign(here.url);
  }, patiently);
}

// A server that is being started anew is waited for. Only a decision may be sent twice: it says which version it saw.
async function patiently(target, options) {
  for (let tries = 0; ; tries += 1) {
    try {
      const body = await ask(target, options);
      outbox.away = false;
      return body;
    } catch (error) {
      if (!(error instanceof Away) || tries >= PATIENCE) throw error;
      outbox.away = true;
      outbox.wait(0);
      say("The server does not answer. What you decide is kept here and sent when it does.");
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}

// A card that waits and whose suggestions are all decided by now is not shown.
function drop(decided) {
  const done = new Set(decided.map((one) => one.join(" ")));
  if (!done.size) return;
  page.ahead = page.ahead.filter((card) => {
    const rows = [...parsed(card.html).querySelectorAll(".suggestion")];
    return !rows.length || !rows.every((row) => row.dataset.key.split("\n").every((name) => done.has(name)));
  });
}

// Undo and redo wait for their turn behind the decisions that were made before them.
function walk(button) {
  return outbox.send(button.formAction, new FormData(form()), (body) => {
    count(body);
    if (body.card) {
      forget();
      show(body.card);
    }
    page.answer = {};  // what it said may be undone
    say(body.message);
  });
}

const press = (name) => holder.querySelector(`[data-action="${name}"]`);

const COMPARED = { flicker: "One over the other, in turn.", difference: "Black where they are the same.", side: "Side by side." };

function compare(wanted) {
  say(COMPARED[page.stage.mode(wanted)]);
  pressed();
}

function pressed() {
  for (const tool of tools.querySelectorAll("[data-pair]")) tool.setAttribute("aria-pressed", page.stage.element.dataset.mode === tool.dataset.tool);
}

const actions = {
  tick: (event, action) => {
    const place = action.keys.indexOf(keys.name(event));
    later(() => {
      const box = boxes()[place];
      if (!box) return;
      const folded = box.closest("details.folded");
      if (folded) folded.open = true;
      box.checked = !box.checked;
      box.scrollIntoView({ block: "nearest" });
      tell();
    });
  },
  type: () => document.getElementById("own-tag").focus(),
  previous: () => goBack().catch((error) => say(error.message)),
  next: () => later(goOn),
  undo: () => walk(press("undo")),
  redo: () => walk(press("redo")),
  flicker: () => compare("flicker"),
  difference: () => compare("difference"),
  zoom: () => page.stage.toggle(),
  zoom_in: () => page.stage.step(1.5),
  zoom_out: () => page.stage.step(1 / 1.5),
  zoom_reset: () => page.stage.reset(),
  grid: () => outbox.leave(holder.dataset.grid),
  filter: () => outbox.leave(`${holder.dataset.list}#filter-tag`),
  open: () => press("open")?.click(),
  close: () => (page.stage.zoomed ? page.stage.reset() : outbox.leave(holder.dataset.list)),
};

for (const name of ["accept", "settle", "ignore", "skip", "flag", "both", "neither", "left", "right"]) {
  actions[name] = () => later(() => press(name) && decide(press(name)));
}
for (const kind of ["potential duplicates", "duplicates", "alternates", "false positives"]) {
  actions[`relate ${kind}`] = () => holder.querySelector(`[data-kind="${kind}"]`)?.click();
}

const PAN = { ArrowLeft: [120, 0], ArrowRight: [-120, 0], ArrowUp: [0, 120], ArrowDown: [0, -120] };

keys.use({
  places: () => (isPair() ? ["pair", "card"] : ["card"]),
  before: (event) => {
    if (!page.stage.zoomed || !PAN[event.key]) return false;
    page.stage.move(...PAN[event.key]);
    return true;
  },
  repeated: ["zoom_in", "zoom_out"],
  actions,
});

// What only a script can do has its buttons beside the picture; a click with the mouse leaves the keys to the card.
tools.addEventListener("click", (event) => {
  const tool = event.target.closest("button");
  if (!tool) return;
  (actions[tool.dataset.tool] ?? keys.actions[tool.dataset.tool])();
  if (event.detail) tool.blur();
});
tools.hidden = false;

holder.addEventListener("change", (event) => event.target.name === "key" && tell());

holder.addEventListener("submit", (event) => {
  event.preventDefault();
  const typing = document.activeElement?.id === "own-tag";  // Enter in the field presses the form's first button
  const button = typing ? form().querySelector('button[value="add"]') : event.submitter;
  if (button.name === "own" && !form().elements.own_tag.value.trim()) {
    form().elements.own_tag.focus();
    return say("Type the tag first.");
  }
  const here = article().dataset.id;
  if (["undo", "redo"].includes(button.dataset.action)) walk(button);
  else if (["open", "relate"].includes(button.dataset.action)) outbox.send(button.formAction, new FormData(form(), button), (body) => {
    page.answer = { text: body.message, of: here };
    tellAnswer();
  });
  else decide(button);
});

// A field of one line would join the last word of a line to the first of the next.
holder.addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text").trim();
  if (event.target.id !== "own-tag" || !/[\r\n]/.test(text)) return;
  event.preventDefault();
  event.target.setRangeText(text.replace(/\s*[\r\n]+\s*/g, ", "), event.target.selectionStart, event.target.selectionEnd, "end");
});

holder.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) navigator.clipboard.writeText(copy.dataset.copy).then(() => say("The path is copied."), () => say("The browser gives no access to the clipboard."));
  const step = event.target.closest('a[data-action="next"], a[data-action="previous"]');
  if (!step || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  actions[step.dataset.action]();
});

addEventListener("scroll", look, { capture: true, passive: true });  // of the window, and of what is scrolled in it
addEventListener("resize", look);
window.addEventListener("popstate", () => location.reload());
document.addEventListener("swipe", (event) => actions[event.detail]());
if (told) {
  page.left = sessionStorage.getItem("told of");
  page.answer = { text: told, of: page.left };
  tellAnswer();
}
enter();
