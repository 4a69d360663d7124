// The page: which part of it is shown follows from the address after the #.
import { Problem, call, patiently, problemNote, waitingNote } from "./api.js";
import { badge, el, moment, say } from "./dom.js";
import { orderPage, resume } from "./order.js";
import { runPage, stateOf } from "./run.js";
import { all, followAll, isOver, runs } from "./runs.js";
import { inSandbox, priceOf } from "./wallet.js";

const main = document.getElementById("main");
/** Ends what the part that is left has under way. */
let leave = new AbortController();

async function show() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const [, kind = "", rest = ""] = location.hash.split("/");
  const [slug, variant] = rest.split("+");
  const waiting = (problem, until) => {
    if (problem && !signal.aborted) main.replaceChildren(waitingNote(problem, until));
  };
  const parts = {
    flow: () => orderPage(slug, variant, { signal, waiting }),
    run: () => runPage(rest, { signal }),
    runs: runsPage,
  };
  const first = main.dataset.started !== "yes";
  main.dataset.started = "yes";
  main.setAttribute("aria-busy", "true");
  try {
    const page = await (Object.hasOwn(parts, kind) ? parts[kind]() : flowsPage(signal));
    if (signal.aborted) return;
    main.replaceChildren(page);
  } catch (error) {
    if (signal.aborted) return;
    main.replaceChildren(problemNote(error), el("p", {}, el("a", { href: "#/" }, "All flows")));
  }
  main.removeAttribute("aria-busy");
  const title = main.querySelector("h1")?.textContent;
  document.title = title ? `${title} · Tollgate` : "Tollgate";
  mark(kind);
  if (first) return;
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

function mark(kind) {
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === (kind.startsWith("run") ? "#/runs" : "#/");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function flowsPage(signal) {
  const cards = el("div", { class: "cards" });
  const more = el("div");
  const notes = el("div");
  async function load(cursor) {
    const path = cursor ? `flows?cursor=${encodeURIComponent(cursor)}` : "flows";
    const page = await patiently(() => call(path, { signal }), {
      signal,
      waiting: (problem, until) => notes.replaceChildren(waitingNote(problem, until)),
    });
    cards.append(...page.flows.map((flow) => card(flow, signal)));
    if (!cards.childElementCount) notes.append(el("p", { class: "notice wait" }, "Nothing is for sale yet."));
    const next = { type: "button", onclick: () => load(page.next).catch(failed) };
    more.replaceChildren(page.next ? el("button", next, "More flows") : "");
  }
  const failed = (error) => { if (!signal.aborted) notes.replaceChildren(problemNote(error)); };
  load(null).catch(failed);
  return el("div", { class: "page" },
    el("section", { class: "hero" },
      el("h1", {}, "Runs of AI flows, one at a time"),
      el("p", { class: "lead" }, "Choose a flow, say what it is to work on, and pay for that one run.",
        " You get the result, and the proof that it is yours."),
      inSandbox && el("p", {}, badge("sandbox", "Sandbox"), " Nothing here costs real money.")),
    notes, cards, more);
}

function card(flow, signal) {
  const state = el("span");
  const variants = flow.variants.map((variant) => el("li", {},
    el("a", { href: `#/flow/${flow.id}+${variant.name}` }, el("span", {}, variant.name), el("b", {}, priceOf(variant)))));
  call(`${flow.id}/availability`, { signal }).then((found) => {
    const is = found.status === "available";
    state.replaceChildren(is ? badge("good", "Available") : badge("warn", "Not now"));
    state.title = found.message || "";
  }).catch(() => null);
  return el("article", { class: "card" },
    el("div", { class: "spread" }, el("h2", {}, el("a", { href: `#/flow/${flow.id}` }, flow.name)), state),
    el("p", { class: "quiet" }, flow.author && `by ${flow.author} · `, `version ${flow.version}`),
    el("p", { class: "what" }, flow.description),
    el("ul", { class: "tags", "aria-label": "Tags" }, ...flow.tags.map((tag) => el("li", {}, tag))),
    el("ul", { class: "prices", "aria-label": "Variants" }, ...variants));
}

function runsPage() {
  const list = el("div", { class: "stack" });
  const draw = () => {
    const shown = all().map((run) => el("a", { class: "panel line", href: `#/run/${run.key}` },
      el("span", {}, el("strong", {}, run.name),
        el("span", { class: "quiet" }, ` ${run.variant} · `, moment(run.ordered))),
      badge(...stateOf(run))));
    const none = el("p", {}, "None yet. ", el("a", { href: "#/" }, "Choose a flow"), ".");
    list.replaceChildren(...(shown.length ? shown : [none]));
  };
  runs.addEventListener("changed", draw, { signal: leave.signal });
  draw();
  return el("div", { class: "page" },
    el("h1", {}, "Your runs"), el("p", { class: "quiet" }, "Kept in this browser only."), list);
}

function count() {
  const open = all().filter((run) => !isOver(run)).length;
  const shown = document.getElementById("count");
  shown.hidden = open === 0;
  shown.textContent = open;
  shown.setAttribute("aria-label", `${open} under way`);
}

addEventListener("hashchange", show);
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof Problem) say(event.reason.title);
});
runs.addEventListener("changed", count);
count();
for (const run of all().filter((it) => !it.started && !isOver(it))) resume(run);
followAll();
show();
