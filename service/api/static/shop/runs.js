// What was ordered here: kept in this browser, and followed until it is over.
import { Problem, call, patiently, sleep } from "./api.js";

/** Pages below different addresses of one origin keep apart. */
const PLACE = `tollgate.runs${new URL(".", document.baseURI).pathname}`;
const MOST = 50;
/** A browser gives a server six connections; the rest must be free for orders. */
const MOST_WAITING = 3;
const WAIT_S = 20;
const UNKNOWN = { status: "unknown", message: "The service does not know this run any more." };
const OVER = new Set(["completed", "failed", "unknown"]);

/** Tells of every change: `changed` with the run's key, in this page and in other windows. */
export const runs = new EventTarget();
let kept = load();

function load() {
  try {
    return JSON.parse(localStorage.getItem(PLACE)) || [];
  } catch {
    return [];
  }
}

function keep() {
  for (;;) {
    try {
      localStorage.setItem(PLACE, JSON.stringify(kept));
      return;
    } catch (error) {
      // Full: the oldest that is over goes. Not allowed: kept for as long as the page lives.
      const last = error.name === "QuotaExceededError" ? kept.findLastIndex(isOver) : -1;
      if (last < 0) return;
      kept.splice(last, 1);
    }
  }
}

addEventListener("storage", (event) => {
  if (event.key !== PLACE) return;
  kept = load();
  runs.dispatchEvent(new CustomEvent("changed", { detail: null }));
});

export const all = () => kept;
export const find = (key) => kept.find((run) => run.key === key);
export const isOver = (run) => OVER.has(run.status?.status) || Boolean(run.refused);
export const referenceOf = (run) => (run.variant === run.usual ? run.flow : `${run.flow}+${run.variant}`);

/** Newest first. `run`: key, flow, variant, usual, name, free, identifier, input, ordered, … */
export function add(run) {
  const others = current().filter((it) => it.key !== run.key);
  kept = [run, ...others].filter((it, i) => i < MOST || !isOver(it));
  keep();
  tell(run.key);
}

export function change(key, changes) {
  kept = current();
  const run = find(key);
  if (!run) return;
  Object.assign(run, changes);
  keep();
  tell(key);
}

export function remove(key) {
  kept = current().filter((run) => run.key !== key);
  keep();
  tell(key);
}

/** Another window may have ordered since. */
function current() {
  const stored = load();
  return stored.length ? stored : kept;
}

function tell(key) {
  runs.dispatchEvent(new CustomEvent("changed", { detail: key }));
}

/** Orders it, however long that takes; the key makes a repeated request the same order. */
export async function order(run, { waiting, signal }) {
  const body = { input_data: run.input };
  if (run.identifier) body.identifier_from_purchaser = run.identifier;
  const send = () => call(`${referenceOf(run)}/start_job`, { body, key: run.key, signal });
  return patiently(send, { waiting, signal });
}

const followed = new Map();
const queue = [];
let waitingNow = 0;

/** Follows every run that is not over while the page is seen. */
export function followAll() {
  if (document.hidden) return;
  for (const run of kept) {
    if (run.started && !isOver(run) && !followed.has(run.key)) {
      const stop = new AbortController();
      followed.set(run.key, stop);
      follow(run.key, stop.signal).catch(() => null).finally(() => {
        followed.delete(run.key);
        followAll();
      });
    }
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) followed.forEach((stop) => stop.abort());
  else followAll();
});
runs.addEventListener("changed", followAll);

/** What is waited for by a run at the moment, for its page: key -> [problem, until]. */
export const pauses = new Map();

async function follow(key, signal) {
  for (;;) {
    const run = find(key);
    if (!run || isOver(run)) return;
    let restMs = 0;
    await turn();
    try {
      const waiting = (problem, until) => pause(key, problem, until);
      const status = await patiently(() => look(run, signal), { signal, waiting });
      // Failed without ever having been at work: it was not paid.
      const began = run.began || ["running", "awaiting_input", "completed"].includes(status.status);
      if (status.id !== run.status?.id) change(key, { status, began });
    } catch (error) {
      if (error.name === "AbortError") return;
      const gone = error instanceof Problem && error.status === 404;
      if (gone) change(key, { status: UNKNOWN });
      else restMs = 30_000;
    } finally {
      waitingNow -= 1;
      queue.shift()?.();
    }
    if (restMs) await sleep(restMs, signal);
  }
}

export function pause(key, problem, until) {
  if (!problem && !pauses.has(key)) return;
  if (problem) pauses.set(key, [problem, until]);
  else pauses.delete(key);
  runs.dispatchEvent(new CustomEvent("paused", { detail: key }));
}

function look(run, signal) {
  const query = new URLSearchParams({ job_id: run.started.id });
  if (run.status?.id) {
    query.set("status_id", run.status.id);
    query.set("wait", followed.size > MOST_WAITING ? 4 : WAIT_S);
  }
  return call(`${run.flow}/status?${query}`, { signal });
}

async function turn() {
  if (waitingNow >= MOST_WAITING) await new Promise((resolve) => { queue.push(resolve); });
  waitingNow += 1;
}
