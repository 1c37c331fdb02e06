// Reviewing without waiting: the next cards are here before they are wanted, a decision is drawn at
// once and sent behind, and what the server answers is believed over what was drawn. Every button
// also works as the plain form it is.
"use strict";

const holder = document.getElementById("card");
const tools = document.getElementById("tools");
const KEEP_AHEAD = 4;
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
  token: 0,         // goes up when the view jumps, so that an answer for an older place is dropped
};

const article = () => holder.querySelector("article");
const form = () => holder.querySelector("form.panel");
const isPair = () => article().classList.contains("pair");

function say(text) {
  const said = document.getElementById("said");
  const line = document.createElement("p");
  line.textContent = text;
  said.replaceChildren(line);
  clearTimeout(say.timer);
  say.timer = setTimeout(() => said.replaceChildren(), 9000);
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
}

function enter() {
  page.stage = new Stage(holder.querySelector(".stage"));
  for (const tool of tools.querySelectorAll("[data-pair]")) tool.hidden = !isPair();
  pressed();
  document.title = `${article().dataset.say} · tagcheck`;
  fill();
}

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
  if (!page.ahead.length) await fill();
  const card = page.ahead.shift();
  if (card) {
    show(card);
    return true;
  }
  await page.sending;  // the list's end as the server sees it counts what was just decided
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

function ticked() {
  return [...form().querySelectorAll('input[name="key"]:checked')];
}

function decide(button, on = false) {
  if (page.moving) return;
  const data = new FormData(form(), button);
  const whole = button.name !== "one" && (button.name === "pair" || ticked().length === form().querySelectorAll('input[name="key"]').length || on);
  if (button.name === "do" && !ticked().length) return say("Nothing is ticked, so nothing was decided.");
  if (on) data.set("go", "on");
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
    return !rows.length || !rows.every((row) => done.has(row.dataset.key));
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

const actions = {
  accept: () => decide(press("accept")),
  ignore: () => decide(press("ignore")),
  skip: () => decide(press("skip")),
  flag: () => decide(press("flag")),
  accept_next: () => decide(press("accept"), true),
  tick: (event, action) => {
    const box = form().querySelectorAll('input[name="key"]')[action.keys.indexOf(keys.name(event))];
    if (box) box.checked = !box.checked;
  },
  previous: () => goBack().catch((error) => say(error.message)),
  next: () => page.moving || goOn(),
  undo: () => walk(press("undo")),
  redo: () => walk(press("redo")),
  both: () => decide(press("both")),
  neither: () => decide(press("neither")),
  left: () => decide(press("left")),
  right: () => decide(press("right")),
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

holder.addEventListener("submit", (event) => {
  event.preventDefault();
  const button = event.submitter;
  if (["undo", "redo"].includes(button.dataset.action)) walk(button);
  else if (["open", "relate"].includes(button.dataset.action)) queue(button.formAction, new FormData(form(), button), (body) => say(body.message));
  else decide(button);
});

holder.addEventListener("click", (event) => {
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
enter();
