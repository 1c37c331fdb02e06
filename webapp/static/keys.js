// What every page's script needs: messages, questions to the server, keys. The one table of keys comes with the page, and
// the page's own script says what a key does, if it has one.
"use strict";

const SMALL = matchMedia("(max-width: 820px), (max-height: 560px)");
const plural = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

// What was decided stands in a line of its own, which covers nothing and moves nothing.
function say(text) {
  const line = document.createElement("p");
  line.textContent = line.title = text;
  document.getElementById("said").replaceChildren(...(text ? [line] : []));
}

const parsed = (html) => new DOMParser().parseFromString(html, "text/html");

// The numbers of the view, after something was decided.
function count(body) {
  document.getElementById("left").textContent = plural(body.left, "finding");
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

// Every POST of a page's script goes through here: one at a time, in the order of the keys, and none is lost by leaving the page.
const outbox = {
  sending: Promise.resolve(),
  pending: 0,   // that were not answered yet
  away: false,  // the server does not answer
  lasts: true,  // what was sent last may outlive its page: browsers allow that of 64 KiB

  send(target, data, answered, failed = () => {}, how = ask) {
    const body = new URLSearchParams(data);
    const keepalive = outbox.lasts = body.toString().length < 60000;
    outbox.wait(1);
    outbox.sending = outbox.sending.then(() => how(target, { method: "POST", body, keepalive })).then(answered).catch((error) => {
      say(error.message);
      failed(error);
    }).finally(() => outbox.wait(-1));
    return outbox.sending;
  },

  // Who leaves is asked first where more than the decision under way, which arrives where it lasts, would be lost.
  wait(more) {
    outbox.pending += more;
    window.onbeforeunload = outbox.pending > (outbox.lasts ? 1 : 0) || outbox.away ? (event) => event.preventDefault() : null;
  },

  leave: (address) => outbox.sending.then(() => location.assign(address)),
};

// A link waits until what was decided has arrived.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || !outbox.pending || event.defaultPrevented || link.target || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  outbox.leave(link.href);
});

const keys = {
  table: JSON.parse(document.getElementById("keys").textContent),
  places: () => ["list"],  // where the owner is; of two meanings that of the first place counts
  before: () => false,     // may take an event for itself
  repeated: [],            // actions that go on while the key is held
  actions: {
    help: () => keys.help(),
    filter() {
      const field = document.getElementById("filter-tag");
      if (!field) return;
      field.closest("details").open = true;
      field.focus();
    },
    undo: () => outbox.sending.then(() => document.getElementById("undo")?.click()),
    redo: () => outbox.sending.then(() => document.getElementById("redo")?.click()),
  },

  use({ actions, ...more }) {
    Object.assign(keys, more);
    Object.assign(keys.actions, actions);
  },

  // What the event is called in the table.
  name(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    return (event.ctrlKey ? "Ctrl+" : "") + (event.shiftKey && event.ctrlKey ? "Shift+" : "") + key;
  },

  found(event) {
    const name = keys.name(event);
    for (const place of keys.places()) {
      const action = keys.table.find((one) => one.places.includes(place) && one.keys.includes(name));
      if (action) return action;
    }
    return null;
  },

  typing(target) {
    return target.matches("textarea, select, [contenteditable]") || (target.matches("input") && !["checkbox", "range"].includes(target.type));
  },

  async help() {
    const dialog = document.getElementById("help");
    if (!dialog.querySelector("#keys-help")) {
      const page = parsed(await (await fetch(dialog.dataset.help)).text());
      dialog.querySelector("h2").after(document.adoptNode(page.getElementById("keys-help")));
    }
    dialog.showModal();
    dialog.scrollTop = 0;  // its button has the focus, and is at its end
  },
};

// A message from just before the page changed is shown on the next page.
const told = sessionStorage.getItem("told");
if (told) {
  sessionStorage.removeItem("told");
  say(told);
}

// A field that asks for a tag is offered the library's own while one types.
document.addEventListener("input", async (event) => {
  const field = event.target;
  if (!field.dataset.complete) return;
  const wanted = field.value;
  const url = new URL(field.dataset.complete, location.href);
  url.searchParams.set("q", wanted);
  const found = await ask(url).catch(() => []);
  if (field.value !== wanted) return;
  document.getElementById(field.getAttribute("list")).replaceChildren(...found.map(([tag, uses]) => {
    const option = document.createElement("option");
    option.value = tag;
    option.label = `${tag} (${uses.toLocaleString("en")})`;
    return option;
  }));
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && keys.typing(event.target)) event.target.blur();
  if (keys.typing(event.target) || document.getElementById("help").open || event.altKey || event.metaKey) return;
  // These keys press what is focused.
  if (event.target.matches("button, a, summary, video") && [" ", "Enter"].includes(event.key)) return;
  if (event.target.matches("input") && event.key === " ") return;
  if (keys.before(event)) {
    event.preventDefault();
    return;
  }
  const action = keys.found(event);
  if (!action || !keys.actions[action.name]) return;
  event.preventDefault();
  if (event.repeat && !keys.repeated.includes(action.name)) return;
  keys.actions[action.name](event, action);
});
