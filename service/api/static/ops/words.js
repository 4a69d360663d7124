// Numbers and names as people read them.
export function rate(value) {
  if (!value) return "0";
  if (value < 0.095) return "< 0.1";
  return value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 ms";
  if (value >= 10000) return `${(value / 1000).toFixed(0)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export const percent = (share) => (share === null ? "–" : `${(share * 100).toFixed(share > 0.995 && share < 1 ? 2 : 1)} %`);

/** How long, in the two largest units. */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86400)} d`;
}

/** When an open breaker lets the next call through. */
export const nextTry = (leftMs) => (leftMs > 500 ? `next try in ${span(leftMs / 1000)}` : "the next call is a try");

export function clock(atMs, withSeconds = true) {
  const options = { hour: "2-digit", minute: "2-digit", hour12: false };
  if (withSeconds) options.second = "2-digit";
  return new Date(atMs).toLocaleTimeString("en-GB", options);
}

/** A moment of today by its time, an older one by its date too. */
export function when(atMs) {
  const date = new Date(atMs);
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock(atMs) : `${date.toLocaleDateString("en-GB", { day: "2-digit", month: "short" })} ${clock(atMs)}`;
}

export const megabytes = (bytes) => (bytes ? `${Math.round(bytes / 1048576)} MB` : "–");

export const sum = (row) => Object.values(row || {}).reduce((a, b) => a + b, 0);

/** Answers of all route classes by class of status. */
export function byStatus(numbers) {
  const all = {};
  for (const row of Object.values(numbers.answers)) {
    for (const [status, value] of Object.entries(row)) all[status] = (all[status] || 0) + value;
  }
  return all;
}

export function byOutcome(numbers, outcome) {
  return Object.values(numbers.policies).reduce((total, row) => total + (row[outcome] || 0), 0);
}

/** Of all look-ups those the worker's own tier, and those Redis, could answer; null: there were none. */
export function hits(numbers) {
  const c = numbers.cache;
  const lookups = (c.local_hit || 0) + (c.local_miss || 0);
  if (!lookups) return { local: null, both: null };
  const local = (c.local_hit || 0) / lookups;
  const fleet = ((c.fleet_hit || 0) + (c.fleet_stale || 0)) / lookups;
  return { local, both: Math.min(1, local + fleet) };
}

export const MODES = {
  redis_away: "Redis is away: each worker limits by its share, the breaker is local, reads go to the database.",
  redis_refusing: "Redis answers, but refuses commands (read-only, out of memory or no permission).",
  limits_local: "Limits are decided by each worker's share.",
  postgres_away: "PostgreSQL is away: no sales, no status; flows come from the caches.",
  postgres_busy: "PostgreSQL answers, but every connection is in use.",
  postgres_read_only: "PostgreSQL takes no writes: no sales.",
  changes_unheard: "Changes of flows are not heard: they show only when caches grow old.",
  payment_open: "The payment breaker is not closed: paid orders are refused at once.",
  payment_key_unusable: "The payment service does not accept our key.",
  overloaded: "A worker has more to do than it can, and turns requests away: sales first, cached reads last.",
  unchecked: "A health check gives no answer.",
};
