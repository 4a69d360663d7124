// Calls to the service, relative to the page. The admin token, where one is needed, is kept by this
// tab alone (sessionStorage) and sent by this code alone: no other page can make the browser send it.
const BASE = "ops/api/v1";
const KEPT = "tollgate.ops.token";
const PATIENCE_MS = 8000;

/** An answer that is no success (RFC 9457), or none at all (`status` 0). */
export class Problem extends Error {
  constructor(status, body, retryAfterS) {
    const faults = (body.errors || []).map((fault) => `${fault.pointer.slice(1)}: ${fault.detail}`);
    super([body.detail || body.title || "The service does not answer.", ...faults].join(" "));
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export function keepToken(token) {
  if (token) sessionStorage.setItem(KEPT, token);
  else sessionStorage.removeItem(KEPT);
}

export const hasToken = () => sessionStorage.getItem(KEPT) !== null;

/** One request; its body, or a Problem. */
export async function call(path, order) {
  const options = {
    headers: {}, credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS),
  };
  const token = sessionStorage.getItem(KEPT);
  if (token) options.headers.Authorization = `Bearer ${token}`;
  if (order !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(order);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(`${BASE}/${path}`, options);
  } catch {
    throw new Problem(0, {}, null);
  }
  const given = await answer.json().catch(() => null);
  if (answer.ok && given !== null) return given;
  throw new Problem(answer.status, given || {}, Number(answer.headers.get("Retry-After")) || null);
}
