// MIP-004 hashes, worked out here anew: what the service says is compared with these.

/** Is there what to count them with? Browsers have it on https and on this machine only. */
export const canHash = Boolean(globalThis.crypto?.subtle);

/** RFC 8785: canonical JSON. JavaScript writes numbers and sorts names just as it asks. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join(",")}}`;
}

export async function sha256(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Of what was ordered, or answered; free orders may have no identifier. */
export function inputHash(identifier, input) {
  return sha256(`${identifier || ""};${canonical(input)}`);
}

/** Of a result as `status` gives it; `escaped` is what marketplaces compute. */
export function resultHash(identifier, result, form) {
  const text = form === "escaped" ? JSON.stringify(result).slice(1, -1) : result;
  return sha256(`${identifier || ""};${text}`);
}

/** A fresh hexadecimal name for a purchase. */
export function freshIdentifier() {
  return Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) =>
    byte.toString(16).padStart(2, "0")).join("");
}
