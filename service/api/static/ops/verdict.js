// What is wrong, the worst first: each a severity, a text, and the part of the page that shows more.
import { byOutcome, byStatus, MODES, ms, nextTry, percent, rate, span, sum } from "./words.js";

const BAD = "bad";
const WARN = "warn";

/** All that should worry somebody. */
export function concerns(now) {
  const found = [
    ...ofModes(now), ...ofErrors(now), ...ofBreaker(now), ...ofJobs(now), ...ofRoom(now), ...ofFleet(now),
  ];
  return found.sort((a, b) => (a.severity === b.severity ? 0 : a.severity === BAD ? -1 : 1));
}

function ofModes(now) {
  const found = Object.entries(now.modes)
    .filter(([mode]) => mode !== "payment_open" || now.breaker.state === "closed")
    .map(([mode, workers]) => {
      const told = MODES[mode] || "A degraded mode this page does not know.";
      const where = workers < now.workers.length ? ` In ${workers} of ${now.workers.length} workers.` : "";
      return { severity: BAD, text: `${told}${where}`, name: mode, at: "workers" };
    });
  if (!now.whole) {
    found.unshift({ severity: BAD, name: "this worker only", at: "workers",
      text: "Redis cannot be read, so these numbers are of the one worker that answered, not of the fleet." });
  }
  return found;
}

function ofErrors(now) {
  const answers = byStatus(now.numbers);
  const failed = answers["5xx"] || 0;
  const share = failed / (sum(answers) || 1);
  if (failed < 0.1 || share < 0.01) return [];
  return [{ severity: BAD, name: "errors", at: "traffic",
    text: `${rate(failed)} answers a second are 5xx, ${percent(share)} of all.` }];
}

function ofBreaker(now) {
  const { state, force, error, retry_after_ms: left, local } = now.breaker;
  if (state === "closed") {
    if (!force) return [];
    return [{ severity: WARN, name: "breaker", at: "payments",
      text: `The payment breaker is held closed by ${force.by} for another ${span(force.left_ms / 1000)}: ${force.reason}` }];
  }
  const why = force ? `held by ${force.by}: ${force.reason}` : error || "the payment service failed";
  return [{ severity: state === "open" ? BAD : WARN, name: "breaker", at: "payments",
    text: `The payment breaker is ${state}${local ? " in the worker that answered" : ""} (${why}). Paid orders are refused; ${nextTry(left)}.` }];
}

function ofJobs(now) {
  if (!now.jobs) {
    return [{ severity: BAD, name: "jobs unknown", at: "jobs", text: `Jobs cannot be counted: ${now.jobs_away}.` }];
  }
  const { settlement, late_paid: late, lost, open } = now.jobs;
  const found = [];
  const add = (severity, name, text) => found.push({ severity, name, text, at: "jobs" });
  if (settlement.stuck) add(BAD, "settlement", `${settlement.stuck} results are stuck on their way to the chain and need a person.`);
  if (settlement.tightest_s !== null && settlement.tightest_s < 600) {
    add(BAD, "settlement", settlement.tightest_s < 0
      ? `A result is ${span(-settlement.tightest_s)} late on chain.`
      : `A result must be on chain in ${span(settlement.tightest_s)}.`);
  }
  if (lost) add(BAD, "settlement", `${lost} results lost their funds.`);
  if (late) add(BAD, "refunds", `${late} jobs were paid after they had failed: their purchasers must be given the money back.`);
  const unanswered = open.find((crowd) => crowd.state === "creating");
  if (unanswered && unanswered.oldest_s > 300) {
    add(WARN, "jobs", `${unanswered.jobs} orders wait to learn of their payment, the oldest for ${span(unanswered.oldest_s)}.`);
  }
  return found;
}

function ofRoom(now) {
  const { pool, bulkhead, waiting_clients: clients, lag_ms: lag } = now.numbers;
  const found = [];
  const add = (name, text) => found.push({ severity: WARN, name, text, at: "capacity" });
  if (pool.waiting) add("database", `${pool.waiting} requests wait for a database connection.`);
  if (bulkhead.size && bulkhead.used >= bulkhead.size) add("payments", "Every place for a payment call is taken: more are refused.");
  if (clients.size && clients.used >= clients.size * 0.9) add("clients", `${clients.used} of ${clients.size} places for waiting clients are taken.`);
  if (lag > 250) add("event loop", `A worker's event loop came back ${ms(lag)} late: something blocks it.`);
  return found;
}

function ofFleet(now) {
  const found = [];
  const admitted = byOutcome(now.numbers, "allowed") + byOutcome(now.numbers, "local");
  const refused = byStatus(now.numbers)["429"] || 0;
  if (refused > 1 && refused > admitted * 0.2) {
    const [most] = Object.entries(now.numbers.policies).sort((a, b) => (b[1].denied || 0) - (a[1].denied || 0));
    const by = most && most[1].denied ? `, most by ${most[0]}` : "";
    found.push({ severity: WARN, name: "refused", at: "refused", text: `${rate(refused)} requests a second are over their limits${by}.` });
  }
  if (!now.workers.length) found.push({ severity: WARN, name: "workers", at: "workers", text: "No worker has told of itself in the last seconds." });
  if (now.unreadable) found.push({ severity: WARN, name: "workers", at: "workers", text: `${now.unreadable} workers of another version cannot be read.` });
  const versions = new Set(now.workers.map((worker) => worker.version));
  if (versions.size > 1) found.push({ severity: WARN, name: "versions", at: "workers", text: `${versions.size} versions run at once: ${[...versions].join(", ")}.` });
  return found;
}
