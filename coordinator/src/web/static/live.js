// Keeps a page up to date: when the event feed says that something happened, the page is fetched again and the parts
// that differ are exchanged. The server renders everything; without this file the pages are the same, only still.

const REFRESH_MS = 700; // least time between two fetches of the page
const QUIET_MS = 5000; // a page that shows a clock or progress is fetched this often even without an event
const RETRY_MS = 3000;

const badge = document.getElementById("live");
// What the server last sent for each part: the document itself changes when a reader opens a fold.
const shown = new WeakMap();
let timer = 0;
let last = 0;
let fetching = false;
let again = false;

function say(state, text) {
  if (!badge || badge.dataset.state === state) return;
  badge.dataset.state = state;
  badge.textContent = text;
}

async function refresh() {
  timer = 0;
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  last = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-part]")) {
      const other = fresh.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
      if (!other || other.innerHTML === shown.get(part)) continue;
      if (part.contains(document.activeElement) || !document.getSelection().isCollapsed) continue;
      const open = [...part.querySelectorAll("details")].map((each) => each.open);
      shown.set(part, other.innerHTML);
      part.replaceChildren(...document.importNode(other, true).childNodes);
      part.querySelectorAll("details").forEach((each, at) => (each.open = open[at] ?? each.open));
      part.classList.remove("fresh");
      void part.offsetWidth; // starts the animation anew
      part.classList.add("fresh");
    }
  } catch {
    // The coordinator is away for the moment; the event stream says when it is back.
  } finally {
    fetching = false;
    if (again) {
      again = false;
      schedule();
    }
  }
}

function schedule() {
  if (timer || document.hidden) return;
  timer = setTimeout(refresh, Math.max(0, REFRESH_MS - (performance.now() - last)));
}

function listen() {
  const feed = new EventSource("/live");
  feed.onopen = () => {
    say("on", "Live");
    schedule();
  };
  feed.onmessage = schedule;
  feed.onerror = () => {
    say("off", "Reconnecting…");
    if (feed.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS);
  };
}

const parts = document.querySelectorAll("[data-part]");
parts.forEach((part) => shown.set(part, part.innerHTML));
if (parts.length > 0) {
  document.addEventListener("visibilitychange", schedule);
  setInterval(schedule, QUIET_MS);
  listen();
}
