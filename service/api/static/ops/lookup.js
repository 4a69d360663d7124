// Looking one thing up: a job by its id, a client by its address or key.
import { call, Problem } from "./api.js";
import { resetPrincipal } from "./actions.js";
import { badge, code, el, facts, say } from "./dom.js";
import { table } from "./tables.js";
import { span, when } from "./words.js";

const STATES = ["creating", "awaiting_payment", "running", "awaiting_input", "completed", "failed"];

/** A line with an input and a button; `find(text)` gives what is shown below it. */
function finder({ label, hint, verb, find, name }) {
  const input = el("input", { id: `find-${name}`, type: "search", autocomplete: "off", spellcheck: "false", required: true });
  const shown = el("div", { class: "stack" });
  let asked = 0;
  async function look() {
    const text = input.value.trim();
    if (!text) return;
    const mine = ++asked;
    shown.setAttribute("aria-busy", "true");
    try {
      const found = await find(text);
      if (mine === asked) shown.replaceChildren(...found);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (mine === asked) shown.replaceChildren(el("p", { class: "fault", role: "alert" }, error.message));
    }
    shown.removeAttribute("aria-busy");
  }
  const form = el("form", { class: "finder", role: "search", onsubmit: (event) => { event.preventDefault(); look(); } },
    el("label", { for: `find-${name}` }, label),
    el("span", { class: "beside" }, input, el("button", { type: "submit" }, verb)),
    hint && el("span", { class: "hint" }, hint));
  return { node: el("div", { class: "stack" }, form, shown), open(text) { input.value = text; return look(); } };
}

export function jobFinder() {
  return finder({ name: "job", label: "A job by its id", verb: "Show", find: async (id) => {
    const job = await call(`jobs/${encodeURIComponent(id)}`);
    const history = table({
      caption: "How the job came there", empty: "No events.", key: (event) => event.seq,
      columns: [
        { name: "#", of: (event) => String(event.seq), number: true },
        { name: "Time", of: (event) => when(event.at_ms) },
        { name: "State", of: (event) => event.state },
        { name: "Cause", of: (event) => event.cause },
        { name: "Detail", of: (event) => event.detail || "" },
      ],
    });
    history.update(job.events);
    say(`The job is ${job.state}.`);
    return [
      el("div", { class: "job" },
        job.paid_late && el("p", { class: "notice bad" }, "Paid after it had failed: its purchaser must be given the money back."),
        facts(...job.facts.map(([name, value]) => [name, name === "state" ? badge(kind(value), value) : text(value)])),
        el("h4", {}, "Its history"), history.node),
    ];
  } });
}

const kind = (state) => ({ failed: "bad", completed: "good" }[state] || "busy");
const text = (value) => (value.length > 60 && !value.includes(" ") ? code(value) : value);

/** Jobs of one state, the oldest first. */
export function jobList(show) {
  const list = table({
    caption: "Jobs, the oldest first", empty: "There are none.", key: (job) => job.id,
    columns: [
      { name: "Job", of: (job) => el("button", { type: "button", class: "link mono", onclick: () => show(job.id) }, job.id) },
      { name: "Flow", of: (job) => job.flow },
      { name: "State", of: (job) => job.state },
      { name: "For", of: (job) => span((Date.now() - job.updated_ms) / 1000), number: true },
      { name: "Settlement", of: (job) => (job.settlement === "none" ? "–" : job.settlement) },
      { name: "Runs", of: (job) => String(job.run_attempts), number: true },
    ],
  });
  const select = el("select", { id: "job-state", onchange: () => load() },
    el("option", { value: "" }, "not through yet"), STATES.map((state) => el("option", { value: state }, state)));
  const fault = el("p", { class: "fault", role: "alert" });
  const node = el("details", { class: "stack", ontoggle: () => node.open && load() },
    el("summary", {}, "List jobs, the oldest first"),
    el("p", { class: "beside" }, el("label", { for: "job-state" }, "State"), select,
      el("button", { type: "button", onclick: () => load() }, "Look again")),
    fault, list.node);
  let asked = 0;
  async function load() {
    const mine = ++asked;
    fault.textContent = "";
    try {
      const { jobs } = await call(`jobs?state=${select.value}`);
      if (mine === asked) list.update(jobs); // not an older answer after a newer one
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fault.textContent = error.message;
    }
  }
  return { node, show(state) { select.value = state; if (node.open) return load(); node.open = true; return undefined; } };
}

export function clientFinder(acted) {
  const found = finder({
    name: "client", label: "A client's buckets", verb: "Look up",
    hint: "An address, key:<name>, or fleet for what all clients share. Shows the hash it is listed under when it is refused.",
    find: async (given) => {
      const client = await call("principal", { principal: given });
      const again = (message) => { acted(message); found.open(given); };
      const buckets = table({
        caption: "Its buckets", empty: "Nothing counts it.", key: (bucket) => bucket.policy,
        columns: [
          { name: "Policy", of: (bucket) => bucket.policy + (bucket.shadow ? " (on trial)" : "") },
          { name: "Left", of: (bucket) => `${bucket.left} of ${bucket.burst}`, number: true },
          { name: "Full in", of: (bucket) => (bucket.full_in_ms ? span(bucket.full_in_ms / 1000) : "full"), number: true },
          { name: "", of: (bucket) => el("button", { type: "button", class: "small", disabled: !bucket.full_in_ms,
            "aria-label": `Fill the bucket of ${bucket.policy}`, onclick: () => resetPrincipal(client.principal, bucket.policy, again) }, "Fill…") },
        ],
      });
      buckets.update(client.buckets);
      return [el("div", { class: "job" },
        facts(["Counted as", el("code", {}, client.principal)], ["Listed as", `${client.kind} ${client.hash}`]),
        buckets.node,
        el("p", {}, el("button", { type: "button", onclick: () => resetPrincipal(client.principal, null, again) }, "Fill all of them…")))];
    },
  });
  return found;
}
