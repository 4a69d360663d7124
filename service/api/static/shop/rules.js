// The rules of MIP-003 input, in the words of the service (service/mip/validation.py), which checks
// everything again. Never stricter than it: what only it can know (a file's type) is left to it.

export const TEXTS = new Set(["text", "string", "textarea", "password", "search", "tel", "email", "url"]);
export const MOMENTS = {
  date: [/^(\d{4})-(\d\d)-(\d\d)$/, "YYYY-MM-DD"],
  "datetime-local": [
    /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d))?$/,
    "YYYY-MM-DDTHH:MM or YYYY-MM-DDTHH:MM:SS, without a zone",
  ],
  time: [/^(\d\d):(\d\d)(?::(\d\d))?$/, "HH:MM or HH:MM:SS"],
  month: [/^(\d{4})-(\d\d)$/, "YYYY-MM"],
  week: [/^(\d{4})-W(\d\d)$/, "YYYY-Www"],
};
/** Types whose values are one text. */
const WRITTEN = new Set([...TEXTS, ...Object.keys(MOMENTS), "color"]);
const MAX_TEXT = 100_000;
const MAX_ITEMS = 1000;
// What Python's strip() takes for blank; the service asks that.
const BLANK = /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/;
const NUMBER = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/;
const INTEGER = /^[+-]?\d+$/;
const LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const EMAIL = new RegExp(`^[A-Za-z0-9.!#$%&'*+/=?^_\`{|}~-]{1,64}@${LABEL}(?:\\.${LABEL})*$`);

/** All fields of a schema, of all its groups. */
export function fieldsOf(schema) {
  return schema.input_data || (schema.input_groups || []).flatMap((group) => group.input_data);
}

/** The values of all validations of one kind. */
export function valuesOf(field, kind) {
  return (field.validations || []).filter((v) => v.validation === kind).map((v) => v.value);
}

/** Required unless said otherwise; "false" says required too. */
export function isOptional(field) {
  const said = valuesOf(field, "optional");
  return said.length > 0 && said.every((value) => String(value).toLowerCase() !== "false");
}

/** Is the answer one or several of `data.values`? */
export function isListed(field) {
  return ["radio", "option", "multiselect"].includes(field.type)
    || (field.type === "checkbox" && Array.isArray(field.data?.values));
}

/** Is this sent at all? */
export function isUnsent(raw) {
  return raw === null || raw === undefined || (Array.isArray(raw) && raw.length === 0)
    || (typeof raw === "string" && BLANK.test(raw));
}

/** Every fault of one value, none if it may be sent. */
export function faultsOf(field, raw) {
  if (field.type === "none" || field.type === "hidden") return [];
  if (isUnsent(raw)) {
    if (isOptional(field)) return [];
    return [raw === null || raw === undefined ? "is required" : "is required and must not be empty"];
  }
  if (typeof raw === "string" && raw.includes("\0")) return ["holds a NUL character; remove it"];
  if (field.type === "number" || field.type === "range") return numberFaults(field, raw);
  const length = typeof raw === "string" ? [...raw].length : 0;
  if (length > MAX_TEXT && WRITTEN.has(field.type)) {
    return [`must have at most ${MAX_TEXT} characters (it has ${length})`];
  }
  if (TEXTS.has(field.type)) return textFaults(field, raw, length);
  if (field.type in MOMENTS) return momentFaults(field, raw);
  if (isListed(field)) return choiceFaults(field, raw);
  if (field.type === "color") {
    return /^#[0-9A-Fa-f]{6}$/.test(raw) ? [] : ["must be a colour, such as #1e90ff"];
  }
  if (field.type === "file") return fileFaults(field, raw);
  return typeof raw === "boolean" ? [] : ["must be true or false (not a text, not a number)"];
}

function textFaults(field, text, length) {
  const faults = countFaults(field, length, "have # characters");
  const asked = valuesOf(field, "format").map((name) => name.toLowerCase());
  if (field.type === "email" || field.type === "url") asked.push(field.type);
  for (const name of new Set(asked)) {
    const [holds, advice] = FORMATS[name] || [];
    if (holds && !holds(text)) faults.push(advice);
  }
  return faults;
}

const isTelephone = (text) => /^\+?[0-9 ()./-]{3,32}$/.test(text) && text.replace(/\D/g, "").length >= 3;
const TELEPHONE = [isTelephone, "must be a telephone number, such as +49 30 123456"];
const FORMATS = {
  email: [(text) => text.length <= 254 && EMAIL.test(text), "must be an e-mail address, such as name@example.com"],
  url: [isHttpUrl, "must be an absolute http or https URL"],
  nonempty: [(text) => !BLANK.test(text), "must not be empty"],
  integer: [(text) => INTEGER.test(text), "must be a whole number"],
  "tel-pattern": TELEPHONE,
  tel_pattern: TELEPHONE,
};

function isHttpUrl(text) {
  if (text.length > 8192 || !/^https?:\/\/[^/?#\\]/i.test(text) || /[\s\x00-\x1f\x7f\x85\\]/.test(text)) {
    return false;
  }
  return URL.canParse(text);
}

function numberFaults(field, raw) {
  const value = typeof raw === "string" ? Number(raw.trim()) : raw;
  const text = typeof raw === "string" ? raw.trim() : String(raw);
  const written = typeof raw === "number" || (NUMBER.test(text) && text.length <= 64);
  const whole = INTEGER.test(text) && Math.abs(value) > Number.MAX_SAFE_INTEGER;
  if (typeof value !== "number" || !written || !Number.isFinite(value) || whole) return ["must be a number"];
  const found = exact(value);
  const faults = [];
  for (const [kind, words, wrong] of BOUNDS) {
    for (const limit of valuesOf(field, kind)) {
      if (wrong(compare(found, exact(limit)))) faults.push(`must be ${words} ${limit}`);
    }
  }
  const asked = valuesOf(field, "format").some((name) => name.toLowerCase() === "integer");
  if (asked && !Number.isInteger(value)) faults.push("must be a whole number");
  if (field.type !== "range") return faults;
  return [...faults, ...rangeFaults(field.data || {}, asked ? exact(Math.trunc(value)) : found)];
}

const BOUNDS = [
  ["min", "at least", (order) => order < 0],
  ["max", "at most", (order) => order > 0],
];

function rangeFaults({ min = null, max = null, step = null }, found) {
  const low = exact(min ?? 0);
  const faults = [];
  if (min !== null && compare(found, low) < 0) faults.push(`must be at least ${min}`);
  if (max !== null && compare(found, exact(max)) > 0) faults.push(`must be at most ${max}`);
  if (step) {
    const [value, start] = alike(found, low);
    const [away, by] = alike({ digits: value - start, places: Math.max(found.places, low.places) }, exact(step));
    if (away % by !== 0n) faults.push(`must be reached from ${min || 0} in steps of ${step}`);
  }
  return faults;
}

/** A decimal as written, digits x 10^-places: 0.1 is a tenth, so steps and bounds have no rounding. */
function exact(number) {
  const [, sign, whole, part = "", power = "0"] =
    String(Number(number)).match(/^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/);
  const places = part.length - Number(power);
  const digits = BigInt(`${sign}${whole}${part}`);
  return places < 0 ? { digits: digits * 10n ** BigInt(-places), places: 0 } : { digits, places };
}

function alike(a, b) {
  const places = Math.max(a.places, b.places);
  return [a, b].map((n) => n.digits * 10n ** BigInt(places - n.places));
}

function compare(a, b) {
  const [left, right] = alike(a, b);
  return left < right ? -1 : Number(left > right);
}

function momentFaults(field, text) {
  const found = momentOf(field.type, text);
  if (found === null) return [`must be a ${field.type} that exists, written ${MOMENTS[field.type][1]}`];
  const faults = [];
  for (const [kind, words, wrong] of BOUNDS) {
    for (const limit of valuesOf(field, kind)) {
      const bound = momentOf(field.type, limit);
      if (bound && wrong(order(found, bound))) faults.push(`must be ${words} ${limit}`);
    }
  }
  return faults;
}

function order(a, b) {
  const i = a.findIndex((part, at) => part !== b[at]);
  return i < 0 ? 0 : a[i] - b[i];
}

/** The numbers of a date, time, month or week that exists; null for any other. */
function momentOf(type, text) {
  const match = MOMENTS[type][0].exec(text);
  if (!match) return null;
  const parts = match.slice(1).map((part) => Number(part || 0));
  const clock = type === "time" ? parts : type === "datetime-local" ? parts.slice(3) : [0, 0, 0];
  if (clock[0] > 23 || clock[1] > 59 || clock[2] > 59) return null;
  if (type === "time") return parts;
  if (parts[0] < 1) return null;
  if (type === "week") return parts[1] >= 1 && parts[1] <= weeksIn(parts[0]) ? parts : null;
  const [year, month, day = 1] = parts;
  const last = month >= 1 && month <= 12 ? dateOf(year, month, 0).getUTCDate() : 0;
  return type === "month" ? (last ? parts : null) : (day >= 1 && day <= last ? parts : null);
}

/** `day` of the month after `month` - 1; Date.UTC alone takes the years up to 99 for 1900 and on. */
function dateOf(year, month, day) {
  const date = new Date(0);
  date.setUTCFullYear(year, month, day);
  return date;
}

/** ISO 8601: 53 where the year begins on a Thursday, or is a leap year that begins on a Wednesday. */
function weeksIn(year) {
  const begins = dateOf(year, 0, 1).getUTCDay();
  const leap = dateOf(year, 2, 0).getUTCDate() === 29;
  return begins === 4 || (leap && begins === 3) ? 53 : 52;
}

function choiceFaults(field, raw) {
  const sent = Array.isArray(raw) ? raw : [raw];
  const offered = field.data.values;
  const chosen = sent.map((item) => (Number.isInteger(item) ? offered[item] : item));
  if (chosen.some((item) => typeof item !== "string" || !offered.includes(item))) {
    return [`must be from the schema's values, or their positions 0 to ${offered.length - 1}`];
  }
  const faults = new Set(chosen).size === chosen.length ? [] : ["must not name a choice twice"];
  if (field.type === "radio" && chosen.length !== 1) faults.push("must be exactly one choice");
  return [...faults, ...countFaults(field, chosen.length, "name # choices")];
}

function fileFaults(field, raw) {
  const sent = Array.isArray(raw) ? raw : [raw];
  if (sent.length > MAX_ITEMS) return [`must have at most ${MAX_ITEMS} entries (it has ${sent.length})`];
  const faults = countFaults(field, sent.length, "name # files");
  sent.forEach((url, i) => {
    const which = sent.length > 1 ? `file ${i + 1} ` : "";
    if (typeof url !== "string" || !isHttpUrl(url)) faults.push(`${which}must be an absolute http or https URL`);
  });
  return faults;
}

function countFaults(field, count, must) {
  const faults = [];
  for (const [kind, words, wrong] of BOUNDS) {
    for (const limit of valuesOf(field, kind)) {
      if (wrong(count - Number(limit))) faults.push(`must ${must.replace("#", `${words} ${limit}`)} (it has ${count})`);
    }
  }
  return faults;
}
