// The parts of the page; each is built once and then brought up to date.
import { forceBreaker, resetBreaker, shadowPolicy } from "./actions.js";
import { badge, el } from "./dom.js";
import { clientFinder, jobFinder, jobList } from "./lookup.js";
import { linePlot, spark, statesOf, strip } from "./plots.js";
import { table } from "./tables.js";
import { byOutcome, byStatus, hits, megabytes, ms, nextTry, percent, rate, span, sum, when } from "./words.js";

function panel(id, title, ...children) {
  return el("section", { class: "panel", id, "aria-labelledby": `${id}-title`, tabindex: "-1" },
    el("h2", { id: `${id}-title` }, title), ...children);
}

export function traffic() {
  const answers = linePlot({
    title: "Answers a second", format: rate,
    series: [
      { name: "served (2xx, 3xx)", of: (n) => (byStatus(n)["2xx"] || 0) + (byStatus(n)["3xx"] || 0) },
      { name: "refused (429)", of: (n) => byStatus(n)["429"] || 0 },
      { name: "failed (5xx)", of: (n) => byStatus(n)["5xx"] || 0 },
      { name: "other 4xx", of: (n) => byStatus(n)["4xx"] || 0 },
    ],
  });
  const latency = linePlot({
    title: "Time to answer", format: ms,
    series: [
      { name: "half within (p50)", of: (n) => n.latency.all.p50_ms },
      { name: "95 % within", of: (n) => n.latency.all.p95_ms },
      { name: "99 % within", of: (n) => n.latency.all.p99_ms },
    ],
  });
  const classes = table({
    caption: "Traffic by route class", empty: "Nobody asks for anything.", key: (row) => row.name,
    columns: [
      { name: "Class", of: (row) => row.name },
      { name: "Answers/s", of: (row) => rate(sum(row.answers)), number: true },
      { name: "429/s", of: (row) => rate(row.answers["429"]), number: true },
      { name: "5xx/s", of: (row) => rate(row.answers["5xx"]), number: true },
      { name: "p50", of: (row) => ms(row.latency?.p50_ms), number: true },
      { name: "p95", of: (row) => ms(row.latency?.p95_ms), number: true },
      { name: "p99", of: (row) => ms(row.latency?.p99_ms), number: true },
    ],
  });
  return {
    node: panel("traffic", "Traffic", el("div", { class: "pair" }, answers.node, latency.node),
      el("p", { class: "hint" }, "Times leave out status, whose answers may wait for a change as long as the client likes."),
      classes.node),
    update(now, past) {
      answers.update(past);
      latency.update(past);
      classes.update(Object.entries(now.numbers.answers)
        .map(([name, row]) => ({ name, answers: row, latency: now.numbers.latency[name] }))
        .sort((a, b) => a.name.localeCompare(b.name)));
    },
  };
}

export function refused(acted) {
  const plot = linePlot({
    title: "Admission a second", format: rate,
    series: [
      { name: "admitted", of: (n) => byOutcome(n, "allowed") },
      { name: "refused", of: (n) => byOutcome(n, "denied") },
      { name: "by own share", of: (n) => byOutcome(n, "local") },
      { name: "only on trial", of: (n) => byOutcome(n, "shadow") },
    ],
  });
  const version = el("p", { class: "hint" });
  const policies = table({
    caption: "Policies: what they admit and refuse", empty: "There are no policies.", key: (row) => row.name,
    columns: [
      { name: "Policy", of: (row) => [el("b", {}, row.name), row.shadow ? [" ", badge("warn", "on trial")] : null].flat() },
      { name: "Limit", of: (row) => `${row.rate}, burst ${row.burst.toLocaleString("en")}${row.scope === "fleet" ? ", all clients" : ""}` },
      { name: "Admitted/s", of: (row) => rate((row.now.allowed || 0) + (row.now.local || 0)), number: true },
      { name: "Refused/s", of: (row) => (row.now.denied ? el("b", { class: "bad" }, rate(row.now.denied)) : "0"), number: true },
      { name: "On trial/s", of: (row) => rate(row.now.shadow), number: true },
      { name: "Refused, 10 min", of: (row) => row.spark },
      { name: "", of: (row) => el("button", { type: "button", class: "small",
        "aria-label": `${row.shadow ? "Enforce" : "Put on trial"}: ${row.name}`,
        onclick: () => shadowPolicy(row, acted) }, row.shadow ? "Enforce…" : "Put on trial…") },
    ],
  });
  const top = table({
    caption: "Clients refused most", empty: "Nobody has been refused lately.", key: (row) => row.kind + row.hash,
    columns: [
      { name: "Client", of: (row) => el("code", { class: "whole" }, `${row.kind} ${row.hash}`) },
      { name: "Refused in a minute, about", of: (row) => Math.round(row.per_minute).toLocaleString("en"), number: true },
      { name: "Share", of: (row) => bar(row.share, `${Math.round(row.share * 100)} %`) },
    ],
  });
  const finder = clientFinder(acted);
  return {
    node: panel("refused", "Admitted and refused", plot.node, policies.node, version,
      el("div", { class: "pair" },
        el("div", { class: "stack" }, el("h3", {}, "Clients refused most"), top.node,
          el("p", { class: "hint" }, "Hashed: look an address or key up to see whether it is one of these.")),
        el("div", { class: "stack" }, el("h3", {}, "Look a client up"), finder.node))),
    update(now, past) {
      plot.update(past);
      version.textContent = `Limits in force: ${now.limits_version}.`;
      policies.update(now.policies
        .map((policy) => ({ ...policy, now: now.numbers.policies[policy.name] || {},
          spark: spark(past, (n) => n.policies[policy.name]?.denied || 0, { index: 1 }) }))
        .sort((a, b) => (b.now.denied || 0) - (a.now.denied || 0)));
      const all = now.denied.reduce((total, one) => total + one.per_minute, 0) || 1;
      top.update(now.denied.slice(0, 10).map((one) => ({ ...one, share: one.per_minute / all })));
    },
  };
}

export function payments(acted) {
  const state = el("p", { class: "state" });
  const line = el("div", { class: "timeline" });
  const told = el("p", { class: "hint" });
  const events = table({
    caption: "Steps of the breaker", empty: "It has made no step in the last week.", key: (event) => `${event.at_ms}${event.cause}${event.after}`,
    columns: [
      { name: "Time", of: (event) => when(event.at_ms) },
      { name: "Step", of: (event) => `${event.before} → ${event.after}` },
      { name: "Cause", of: (event) => event.cause },
      { name: "Why", of: (event) => [event.seconds ? `for ${event.seconds} s` : "", event.detail].filter(Boolean).join(": ") },
      { name: "Who", of: (event) => event.who },
    ],
  });
  const calls = linePlot({
    title: "Payment calls a second", format: rate,
    series: [
      { name: "answered", of: (n) => (n.payments.ok || 0) + (n.payments.rejected || 0) },
      { name: "failed", of: (n) => (n.payments.unavailable || 0) + (n.payments.unknown || 0) },
      { name: "not sent (open)", of: (n) => n.payments.open || 0 },
      { name: "not sent (busy)", of: (n) => n.payments.busy || 0 },
    ],
  });
  const button = (text, act) => el("button", { type: "button", onclick: act }, text);
  return {
    node: panel("payments", "Payments and their breaker", state, line, told,
      el("p", { class: "buttons" },
        button("Hold open…", () => forceBreaker("open", acted)),
        button("Hold closed…", () => forceBreaker("closed", acted)),
        button("Reset…", () => resetBreaker(acted))),
      el("div", { class: "pair" }, calls.node, el("div", { class: "stack" }, el("h3", {}, "Steps of the breaker"), el("div", { class: "tall" }, events.node)))),
    update(now, past) {
      const { breaker } = now;
      const kind = { closed: "good", open: "bad", "half-open": "warn" }[breaker.state];
      const force = breaker.force;
      state.replaceChildren(badge(kind, `${SIGNS[kind]} ${breaker.state}`), " ",
        force ? `held by ${force.by} for another ${span(force.left_ms / 1000)}: ${force.reason}`
          : breaker.state === "closed" ? `${breaker.streak} of ${breaker.threshold} failures in a row`
            : `${breaker.error || "opened"}; ${nextTry(breaker.retry_after_ms)}`,
        breaker.local ? " (as the worker that answered sees it: Redis is away)" : "");
      const parts = statesOf(breaker.events, breaker.state);
      line.replaceChildren(strip(parts));
      const now_ms = Date.now();
      const open = parts.filter((part) => part.state === "open").reduce((total, part) => total + part.toMs - Math.max(part.fromMs, now_ms - 600000), 0);
      told.textContent = `The last 10 minutes: ${open > 0 ? `open for ${span(open / 1000)}` : "never open"}. Full height: open; half: half-open; low: closed.`;
      calls.update(past);
      events.update(breaker.events.slice(0, 30));
    },
  };
}

export const SIGNS = { good: "✓", warn: "!", bad: "✗" };

export function capacity() {
  const meters = el("div", { class: "meters" });
  const cache = linePlot({
    title: "Flow cache: found", format: percent, most: 1,
    series: [
      { name: "in the worker", of: (n) => hits(n).local },
      { name: "with Redis", of: (n) => hits(n).both },
    ],
  });
  const lag = linePlot({
    title: "Event loops: worst delay", format: ms,
    series: [{ name: "worst worker", of: (n) => n.lag_ms }],
  });
  const pool = linePlot({
    title: "In use", format: (value) => String(Math.round(value)),
    series: [
      { name: "database connections", of: (n) => n.pool.used },
      { name: "waiting for one", of: (n) => n.pool.waiting },
      { name: "payment calls", of: (n) => n.bulkhead.used },
      { name: "runs", of: (n) => n.runs.used },
    ],
  });
  return {
    node: panel("capacity", "Room that is left", meters, el("div", { class: "three" }, pool.node, cache.node, lag.node)),
    update(now, past) {
      const n = now.numbers;
      meters.replaceChildren(
        meter("Database connections", n.pool, n.pool.waiting ? `${n.pool.waiting} wait for one` : "nobody waits"),
        meter("Payment calls (bulkhead)", n.bulkhead, "more are refused at once"),
        meter("Runs", n.runs, "more jobs wait their turn"),
        meter("Clients that wait for news", n.waiting_clients, "more are answered at once"));
      for (const plot of [cache, lag, pool]) plot.update(past);
    },
  };
}

function bar(share, text) {
  return el("span", { class: "bar" }, el("progress", { max: "1", value: String(Math.min(1, share)), "aria-label": text }), el("span", {}, text));
}

function meter(name, use, hint) {
  const share = use.size ? use.used / use.size : 0;
  const kind = use.waiting || share >= 1 ? "bad" : share >= 0.8 ? "warn" : "good";
  return el("div", { class: `meter ${kind}` },
    el("b", {}, name), el("span", { class: "number" }, use.size ? `${use.used} of ${use.size}` : "none here"),
    el("progress", { max: "1", value: String(Math.min(1, share)), "aria-label": `${name}: ${use.used} of ${use.size}` }),
    el("span", { class: "hint" }, kind === "good" ? hint : `${SIGNS[kind]} ${hint}`));
}

export function jobs() {
  const finder = jobFinder();
  const show = (id) => { finder.open(id); finder.node.scrollIntoView({ block: "start" }); };
  const list = jobList(show);
  const open = table({
    caption: "Unfinished jobs by state", empty: "Every job is through.", key: (row) => row.state,
    columns: [
      { name: "State", of: (row) => el("button", { type: "button", class: "link", onclick: () => list.show(row.state) }, row.state) },
      { name: "Jobs", of: (row) => String(row.jobs), number: true },
      { name: "The oldest since", of: (row) => span(row.oldest_s), number: true },
    ],
  });
  const settlement = el("dl", { class: "facts" });
  const away = el("p", { class: "notice bad", hidden: true });
  const plot = linePlot({
    title: "Unfinished jobs", format: (value) => String(Math.round(value)),
    series: ["running", "awaiting_payment", "awaiting_input", "creating"].map((state) => ({ name: state, of: (n) => n.jobs[state] ?? null })),
  });
  const fact = (name, value, bad) => el("div", {}, el("dt", {}, name), el("dd", { class: bad && "bad" }, bad ? `${SIGNS.bad} ${value}` : value));
  return {
    node: panel("jobs", "Jobs", away,
      el("div", { class: "pair" }, el("div", { class: "stack" }, open.node, el("h3", {}, "Settlement"), settlement), plot.node),
      list.node, finder.node),
    update(now, past) {
      plot.update(past);
      away.hidden = now.jobs !== null;
      away.textContent = now.jobs ? "" : `Jobs cannot be counted at the moment: ${now.jobs_away}.`;
      open.update(now.jobs?.open.map((crowd) => ({ ...crowd })) || []);
      const s = now.jobs?.settlement;
      settlement.replaceChildren(...(s ? [
        fact("Results on their way", String(s.waiting), false),
        fact("First one due on chain", s.tightest_s === null ? "none waits" : s.tightest_s < 0 ? `${span(-s.tightest_s)} too late` : `in ${span(s.tightest_s)}`, s.tightest_s !== null && s.tightest_s < 600),
        fact("Stuck, need a person", String(s.stuck), s.stuck > 0),
        fact("Paid too late, to be given back", String(now.jobs.late_paid), now.jobs.late_paid > 0),
        fact("Lost their funds", String(now.jobs.lost), now.jobs.lost > 0),
      ] : []));
    },
  };
}

export function workers() {
  const rows = table({
    caption: "Workers of the fleet", empty: "No worker has told of itself.", key: (row) => row.worker,
    columns: [
      { name: "Replica", of: (row) => row.replica },
      { name: "Process", of: (row) => String(row.pid), number: true },
      { name: "Version", of: (row) => row.version },
      { name: "Role", of: (row) => row.role },
      { name: "Up", of: (row) => span(row.up_s), number: true },
      { name: "Answers/s", of: (row) => rate(row.per_second), number: true },
      { name: "In hand", of: (row) => String(row.in_flight), number: true },
      { name: "Pool", of: (row) => `${row.pool.used}/${row.pool.size}`, number: true },
      { name: "Loop delay", of: (row) => ms(row.lag_ms), number: true },
      { name: "Memory", of: (row) => megabytes(row.memory_bytes), number: true },
      { name: "State", of: (row) => (row.modes.length ? el("b", { class: "bad" }, `${SIGNS.bad} ${row.modes.join(", ")}`) : row.age_s > 5 ? `! silent for ${span(row.age_s)}` : "✓ well") },
    ],
  });
  return {
    node: panel("workers", "Workers", rows.node),
    update(now) { rows.update(now.workers); },
  };
}

export function changes() {
  const rows = table({
    caption: "What was done by hand", empty: "Nothing has been done by hand.", key: (row) => `${row.at_ms}${row.what}${row.detail}`,
    columns: [
      { name: "Time", of: (row) => when(row.at_ms) },
      { name: "Who", of: (row) => row.who },
      { name: "What", of: (row) => row.what },
      { name: "Why", of: (row) => row.detail },
    ],
  });
  return {
    node: panel("changes", "Done by hand", el("div", { class: "tall" }, rows.node)),
    update(now) { rows.update(now.changes); },
  };
}
