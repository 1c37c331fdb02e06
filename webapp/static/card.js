// Reviewing without waiting: the next cards are here before they are wanted, a decision is drawn at
// once and sent behind, and what the server answers is believed over what was drawn. Every button
// also works as the plain form it is.
"use strict";

const holder = document.getElementById("card");
const tools = document.getElementById("tools");
const KEEP_AHEAD = 10;
const LOOK = 400;  // milliseconds that a held key waits for the picture it is about
const PATIENCE = 120;  // seconds

const page = {
  stage: null,
  ahead: [],        // cards after the one shown, nearest first: {id, url, html, pictures}
  ended: false,     // the server has no more after the last of them
  loading: null,
  sending: Promise.resolve(),
  moving: false,
  pending: 0,       // decisions that were not answered yet
  away: false,      // the server does not answer
  held: [],         // keys that were pressed before their card was there, in order
  token: 0,         // goes up when the view jumps, so that an answer for an older place is dropped
};

const article = () => holder.querySelector("article");
const form = () => holder.querySelector("form.panel");
const isPair = () => article().classList.contains("pair");

// What was decided stands in a line of its own, which covers nothing and moves nothing.
function say(text) {
  const said = document.getElementById("said");
  const line = document.createElement("p");
  line.textContent = text;
  said.replaceChildren(line);
}

function warm(card) {
  for (const address of card.pictures) new Image().src = address;
  return card;
}

function show(card, push = true) {
  page.stage?.end();
  const made = new DOMParser().parseFromString(card.html, "text/html").querySelector("article");
  holder.replaceChildren(document.adoptNode(made));
  page.moving = false;
  if (push) history.pushState({ id: card.id }, "", card.url);
  enter();
  document.getElementById("heading").focus({ preventScroll: true });
  release();
}

function enter() {
  page.stage = new Stage(holder.querySelector(".stage"));
  for (const tool of tools.querySelectorAll("[data-pair]")) tool.hidden = !isPair();
  for (const button of holder.querySelectorAll("[data-copy]")) button.hidden = false;
  pressed();
  tell();
  if (matchMedia("(max-width: 820px), (max-height: 560px)").matches) {
    for (const more of holder.querySelectorAll("details.more")) more.open = false;  // what is asked and the buttons fit the window
    holder.scrollIntoView();  // it starts at its picture
  }
  document.title = `${article().dataset.say} · tagcheck`;
  document.getElementById("asked").textContent = article().dataset.say;
  fill();
}

// Keys that came while the next card was on its way are answered by it, once its picture is drawn: none is lost, none is blind.
async function release() {
  if (page.moving || page.releasing || !page.held.length) return;
  page.releasing = true;
  const picture = holder.querySelector("img.full");
  const drawn = picture?.decode().catch(() => {}) ?? Promise.resolve();
  await Promise.race([drawn, new Promise((done) => setTimeout(done, LOOK))]);
  await new Promise((done) => requestAnimationFrame(done));
  page.releasing = false;
  page.held.shift()?.();
  if (!page.moving) release();
}

const later = (act) => (page.moving || page.held.length ? (page.held.push(act), release()) : act());

class Away extends Error {}

async function ask(address, options = {}) {
  const answer = await fetch(address, { ...options, headers: { Accept: "application/json" } }).catch(() => {
    throw new Away("The server does not answer.");
  });
  const body = answer.headers.get("Content-Type")?.includes("json") ? await answer.json() : {};
  if (!answer.ok) throw new Error(body.message || `The server said ${answer.status}. Nothing was done.`);
  return body;
}

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
  page.moving = true;
  page.stage.end();
  if (!page.ahead.length) await fill();
  const card = page.ahead.shift();
  if (card) {
    show(card);
    return true;
  }
  await page.sending;  // the list's end as the server sees it counts what was just decided
  sessionStorage.setItem("told", document.getElementById("said").innerText);
  location.assign(article().dataset.next || holder.dataset.list.replace("/findings", "/card"));
  return false;
}

async function goBack() {
  await page.sending;
  const cards = await ask(address({ before: article().dataset.id }));
  if (!cards.length) return say("This is the first one.");
  forget();
  show(cards[0]);
}

const boxes = () => [...form().querySelectorAll('input[name="key"]')];
const ticked = () => boxes().filter((box) => box.checked);
// Rows that wait for an answer and are not folded away.
const asked = () => boxes().filter((box) => box.closest(".suggestion").querySelector('input[name="shown"]'));

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
  return queue(target, data, (body) => {
    say(body.message);
    count(body.left);
    drop(body.decided ?? []);
    if (body.card && (!moved || !body.ok)) {
      if (moved) forget();
      show(body.card, article().dataset.id !== body.card.id);
    } else if (!moved && !body.stay) {
      goOn();
    }
  }, () => {
    if (moved && token === page.token) location.assign(here.url);
  }, patiently);
}

// A server that is being started anew is waited for. Only a decision may be sent twice: it says which version it saw.
async function patiently(target, options) {
  for (let tries = 0; ; tries += 1) {
    try {
      const body = await ask(target, options);
      page.away = false;
      return body;
    } catch (error) {
      if (!(error instanceof Away) || tries >= PATIENCE) throw error;
      page.away = true;
      say("The server does not answer. What you decide is kept here and sent when it does.");
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}

// Every POST goes through here: one at a time, in the order of the keys, and none is lost by leaving the page.
function queue(target, data, answered, failed = () => {}, send = ask) {
  page.pending += 1;
  page.sending = page.sending.then(() => send(target, { method: "POST", body: data, keepalive: true })).then(answered).catch((error) => {
    say(error.message);
    failed();
  }).finally(() => {
    page.pending -= 1;
  });
  return page.sending;
}

// A card that waits and whose suggestions are all decided by now is not shown.
function drop(decided) {
  const done = new Set(decided.map((one) => one.join(" ")));
  if (!done.size) return;
  page.ahead = page.ahead.filter((card) => {
    const rows = [...new DOMParser().parseFromString(card.html, "text/html").querySelectorAll(".suggestion")];
    return !rows.length || !rows.every((row) => row.dataset.key.split("\n").every((name) => done.has(name)));
  });
}

function count(left) {
  document.getElementById("left").textContent = `${left.toLocaleString("en")} finding${left === 1 ? "" : "s"}`;
}

// Undo and redo wait for their turn behind the decisions that were made before them.
function walk(button) {
  const target = button.formAction;
  const data = new FormData(form());
  return queue(target, data, (body) => {
    say(body.message);
    count(body.left);
    if (body.card) {
      forget();
      show(body.card);
    }
  });
}

const leave = (address) => page.sending.then(() => location.assign(address));
const press = (name) => holder.querySelector(`[data-action="${name}"]`);

const COMPARED = { flicker: "One over the other, in turn.", difference: "Black where they are the same.", side: "Side by side." };

function compare(wanted) {
  say(COMPARED[page.stage.mode(wanted)]);
  pressed();
}

function pressed() {
  for (const tool of tools.querySelectorAll("[data-pair]")) tool.setAttribute("aria-pressed", page.stage.element.dataset.mode === tool.dataset.tool);
}

function relate(event, action) {
  holder.querySelector(`[data-kind="${action.name.replace("relate ", "")}"]`)?.click();
}

const actions = {
  accept: () => later(() => decide(press("accept"))),
  settle: () => later(() => decide(press("settle"))),
  ignore: () => later(() => decide(press("ignore"))),
  skip: () => later(() => decide(press("skip"))),
  flag: () => later(() => decide(press("flag"))),
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
  both: () => later(() => press("both") && decide(press("both"))),
  neither: () => later(() => press("neither") && decide(press("neither"))),
  left: () => later(() => press("left") && decide(press("left"))),
  right: () => later(() => press("right") && decide(press("right"))),
  "relate potential duplicates": relate,
  "relate duplicates": relate,
  "relate alternates": relate,
  "relate false positives": relate,
  flicker: () => compare("flicker"),
  difference: () => compare("difference"),
  zoom: () => page.stage.toggle(),
  zoom_in: () => page.stage.step(1.5),
  zoom_out: () => page.stage.step(1 / 1.5),
  zoom_reset: () => page.stage.reset(),
  grid: () => leave(holder.dataset.grid),
  filter: () => leave(`${holder.dataset.list}#filter-tag`),
  open: () => press("open")?.click(),
  close: () => (page.stage.zoomed ? page.stage.reset() : leave(holder.dataset.list)),
};

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
  if (["undo", "redo"].includes(button.dataset.action)) walk(button);
  else if (["open", "relate"].includes(button.dataset.action)) queue(button.formAction, new FormData(form(), button), (body) => say(body.message));
  else decide(button);
});

holder.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) navigator.clipboard.writeText(copy.dataset.copy).then(() => say("The path is copied."), () => say("The browser gives no access to the clipboard."));
  const step = event.target.closest('a[data-action="next"], a[data-action="previous"]');
  if (!step || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  actions[step.dataset.action]();
});

// A link waits until what was decided has arrived.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || !page.pending || event.defaultPrevented || link.target || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  leave(link.href);
});
window.addEventListener("beforeunload", (event) => {
  if (page.pending > 1 || page.away) event.preventDefault();  // one is under way and arrives; more would be lost
});
window.addEventListener("popstate", () => location.reload());
document.addEventListener("swipe", (event) => actions[event.detail]());
enter();
