// Calls to the service, relative to the page, so that it works below any prefix.
import { el, everySecond, say } from "./dom.js";

/** An answer that is no success (RFC 9457), or none at all (`status` 0). */
export class Problem extends Error {
  constructor(status, body, retryAfterS) {
    const said = body.detail || body.title || body.error?.message;
    super(said || (status ? "It does not say why." : "Is this machine online?"));
    this.status = status;
    this.body = body;
    this.retryAfterS = retryAfterS;
    this.code = String(body.type || "").split(/[:#]/).pop();
    /** Faults of single members: [{pointer, detail}]. */
    this.errors = body.errors || [];
  }

  /** A heading a purchaser understands. */
  get title() {
    if (this.status === 0) return "No connection to the service";
    if (this.status === 429) return "That was a little fast";
    if (this.status === 402) return "This has to be paid first";
    if (this.body.error) return "The payment service refused it";
    if (this.code.startsWith("payment-")) return TITLES[this.code] || "Payments are away";
    return this.body.title || `The service answered ${this.status}`;
  }

  /** How long to wait before the same request is sent again by itself; null: it is not. */
  waitS(attempt) {
    if (this.status === 429) return this.retryAfterS || 1;
    const passing = this.status === 409 || (this.status >= 502 && this.body.retryable !== false);
    if (this.status !== 0 && !passing) return null;
    if (attempt >= MOST_FAILURES) return null;
    return this.retryAfterS || Math.min(30, 2 ** attempt);
  }
}

const TITLES = {
  "payment-rejected": "The payment service refused this payment",
  "payment-misconfigured": "Payments are not set up",
  "payment-outcome-unknown": "It is being found out whether the payment was made",
  "payment-busy": "Many are paying at this moment",
};
/** Failures in a row after which somebody should look; limits are waited out for ever. */
const MOST_FAILURES = 30;

/** One request; its body, or a Problem. */
export async function call(path, { body, key, signal } = {}) {
  const options = { headers: {}, signal, credentials: "same-origin" };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
    if (key) options.headers["Idempotency-Key"] = key;
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, {}, null);
  }
  const given = await answer.json().catch(() => null);
  if (answer.ok && given !== null) return given;
  const retryAfter = Number.parseInt(answer.headers.get("Retry-After") || "", 10);
  throw new Problem(answer.status, given || {}, Number.isNaN(retryAfter) ? null : retryAfter);
}

/** `send` again after what passes: limits and outages. `waiting(problem, until)` shows it. */
export async function patiently(send, { waiting, signal }) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const given = await send();
      waiting(null);
      return given;
    } catch (error) {
      const waitS = error instanceof Problem ? error.waitS(attempt) : null;
      if (waitS === null) {
        waiting(null);
        throw error;
      }
      waiting(error, Date.now() + waitS * 1000);
      await sleep(waitS * 1000, signal);
    }
  }
}

export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("Stopped.", "AbortError"));
    if (signal?.aborted) return stop();
    signal?.addEventListener("abort", stop, { once: true });
    setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
  });
}

/** What is waited for, counted down; empty while there is nothing. `stop` offers to give up. */
export function waitingNote(problem, until, stop) {
  if (problem === null) return el("div");
  say(`${problem.title}. It goes on by itself.`);
  const left = el("strong");
  const note = el("div", { class: "notice wait" },
    el("p", {}, el("strong", {}, problem.title)),
    el("p", {}, problem.status === 429 ? "The service takes so many requests and no more." : problem.message),
    el("p", {}, "Goes on by itself in ", left, ".", stop && " ",
      stop && el("button", { type: "button", class: "small", onclick: stop }, "Stop")));
  return everySecond(note, () => {
    left.textContent = `${Math.max(1, Math.ceil((until - Date.now()) / 1000))} s`;
  });
}

/** A failure that does not pass by itself. */
export function problemNote(problem) {
  const reference = problem.body?.request_id;
  return el("div", { class: "notice bad", role: "alert" },
    el("p", {}, el("strong", {}, problem.title || "Something went wrong in this page")),
    el("p", {}, problem.message),
    reference && el("p", { class: "quiet" }, `Request ${reference}`));
}
