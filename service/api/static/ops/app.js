// The page: what is wrong at the top, numbers at a glance, then the parts. Asks every two seconds, and
// only while it is seen.
import { call, hasToken, keepToken, Problem } from "./api.js";
import { badge, el, say } from "./dom.js";
import * as panels from "./panels.js";
import { spark } from "./plots.js";
import { concerns } from "./verdict.js";
import { byOutcome, byStatus, ms, nextTry, rate, span, sum } from "./words.js";

const EVERY_MS = 2000;
const SPAN_MS = 600_000;
/** After so long without news, what is shown is no longer the present. */
const OLD_MS = 7000;

const main = document.getElementById("main");
const live = document.getElementById("live");
let past = [];
let seenMs = 0;
let run = 0;
let failure = null;
let said = "";
let parts = null;
let asking = false;

function build() {
  const acted = (text) => { note.replaceChildren(el("p", { class: "notice good" }, `✓ ${text}`)); look(); };
  const verdict = el("section", { class: "verdict", id: "verdict", "aria-label": "Is it well?" });
  const tiles = el("section", { class: "tiles", "aria-label": "At a glance" });
  const note = el("div", { id: "note", role: "status" });
  const sections = [
    panels.traffic(), panels.refused(acted), panels.payments(acted), panels.capacity(), panels.jobs(),
    panels.workers(), panels.changes(),
  ];
  main.replaceChildren(verdict, note, tiles, ...sections.map((section) => section.node));
  return { verdict, tiles, sections };
}

function show(now) {
  parts ??= build();
  drawVerdict(parts.verdict, now);
  drawTiles(parts.tiles, now);
  for (const section of parts.sections) section.update(now, past);
}

function drawVerdict(node, now) {
  const found = concerns(now);
  const kind = found.length ? found[0].severity : "good";
  const title = { good: "All is well", warn: "It works; look at this", bad: "Something is wrong" }[kind];
  const text = found.map((one) => one.text).join(" ");
  const key = `${kind}${found.map((one) => one.name).join()}`;
  if (key !== said) {
    said = key;
    say(`${title}. ${text}`);
  }
  document.title = `${{ good: "", warn: "! ", bad: "✗ " }[kind]}Tollgate operations`;
  node.className = `verdict ${kind}`;
  node.replaceChildren(
    el("p", { class: "sign", "aria-hidden": "true" }, panels.SIGNS[kind]),
    el("div", {}, el("h1", {}, title),
      found.length
        ? el("ul", {}, found.map((one) => el("li", { class: one.severity },
          el("a", { href: `#${one.at}` }, el("b", {}, one.name)), " ", one.text)))
        : el("p", {}, `${now.workers.length} ${now.workers.length === 1 ? "worker answers" : "workers answer"}, the breaker is closed, nothing is degraded.`)));
}

function drawTiles(node, now) {
  const n = now.numbers;
  const answers = byStatus(n);
  const denied = Object.entries(n.policies).filter(([, row]) => row.denied).sort((a, b) => b[1].denied - a[1].denied);
  const open = now.jobs ? now.jobs.open.reduce((total, crowd) => total + crowd.jobs, 0) : null;
  const oldest = now.jobs ? Math.max(0, ...now.jobs.open.map((crowd) => crowd.oldest_s)) : 0;
  const replicas = new Set(now.workers.map((worker) => worker.replica)).size;
  const waits = n.waiting_clients.used + n.pool.waiting;
  node.replaceChildren(
    tile("traffic", "Answers a second", rate(sum(answers)), `${n.in_flight} in hand`, spark(past, (p) => sum(byStatus(p)))),
    tile("traffic", "95 % answered within", ms(n.latency.all.p95_ms), `p99 ${ms(n.latency.all.p99_ms)}`, spark(past, (p) => p.latency.all.p95_ms)),
    tile("traffic", "Failed (5xx) a second", rate(answers["5xx"]), answers["5xx"] ? "see the log by request id" : "none", spark(past, (p) => byStatus(p)["5xx"] || 0, { index: 2 }), answers["5xx"] > 0.1 && "bad"),
    tile("refused", "Refused a second", rate(answers["429"]), denied.length ? `by ${denied.slice(0, 2).map(([name, row]) => `${name} ${rate(row.denied)}`).join(", ")}` : "nobody is over a limit", spark(past, (p) => byOutcome(p, "denied"), { index: 1 }), answers["429"] > 0.1 && "warn"),
    tile("payments", "Payment breaker", now.breaker.state, now.breaker.force ? "held by hand" : now.breaker.state === "closed" ? `${now.breaker.streak} of ${now.breaker.threshold} failures` : `${now.breaker.error || "opened"}; ${nextTry(now.breaker.retry_after_ms)}`, null, { open: "bad", "half-open": "warn" }[now.breaker.state]),
    tile("capacity", "Wait", String(waits), `${n.waiting_clients.used} for news of jobs, ${n.pool.waiting} for the database`, spark(past, (p) => p.waiting_clients.used + p.pool.waiting), n.pool.waiting && "warn"),
    tile("jobs", "Jobs not through", open === null ? "?" : String(open), open ? `the oldest for ${span(oldest)}` : open === null ? "cannot be counted" : "none", spark(past, (p) => sum(p.jobs))),
    tile("workers", "Workers", String(now.workers.length), now.whole ? `in ${replicas} ${replicas === 1 ? "replica" : "replicas"}` : "this one only", spark(past, (p) => p.workers), !now.whole && "bad"));
}

function tile(to, name, value, hint, line, kind) {
  return el("a", { class: `tile ${kind || ""}`, href: `#${to}` },
    el("span", { class: "name" }, name),
    el("b", {}, kind ? `${panels.SIGNS[kind]} ` : "", value),
    el("span", { class: "hint" }, hint), line);
}

/** The token is asked for, tried, and kept only if it is right. */
function askForToken(problem) {
  stop();
  parts = null;
  asking = true;
  const input = el("input", { id: "token", type: "password", autocomplete: "current-password", required: true });
  const fault = el("p", { class: "fault", role: "alert" }, hasToken() ? problem.message : "");
  const form = el("form", { class: "panel login", onsubmit: (event) => {
    event.preventDefault();
    keepToken(input.value.trim());
    asking = false;
    start();
  } },
  el("h1", {}, "Operations"),
  el("p", {}, "This page is not open to everybody here. It wants the admin token (TOLLGATE_ADMIN__TOKEN), which this tab keeps until it is closed."),
  el("p", { class: "row" }, el("label", { for: "token" }, "Admin token"), input), fault,
  el("p", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, "Open")));
  keepToken(null);
  main.replaceChildren(form);
  input.focus();
  draw();
}

async function look() {
  try {
    const now = await call("now");
    failure = null;
    seenMs = Date.now();
    past = [...past, now.numbers].filter((n) => n.at_ms > seenMs - SPAN_MS);
    show(now);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    failed(error);
  }
  draw();
}

function failed(problem) {
  failure = problem;
  if (problem.status === 401 || (problem.status === 429 && !parts)) { askForToken(problem); return; }
  if (!parts) main.replaceChildren(el("p", { class: "notice bad", role: "alert" }, `✗ ${problem.message}`));
}

function draw() {
  const old = seenMs && Date.now() - seenMs > OLD_MS;
  document.body.classList.toggle("old", Boolean(old && failure));
  if (document.hidden) live.replaceChildren(badge("", "paused"));
  else if (failure && parts) live.replaceChildren(badge("bad", `✗ no answer for ${span((Date.now() - seenMs) / 1000)}`));
  else if (!parts) live.replaceChildren();
  else live.replaceChildren(badge("good", "✓ live"));
}

async function start() {
  const mine = ++run;
  try {
    // Also what a page that was hidden has missed.
    past = (await call("past")).samples;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    failed(error);
    draw();
    if (asking) return;
  }
  while (mine === run) {
    await look();
    await new Promise((resolve) => { setTimeout(resolve, EVERY_MS); });
  }
}

function stop() {
  run += 1;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { stop(); draw(); } else if (!asking) start();
});
setInterval(draw, 1000);
start();
