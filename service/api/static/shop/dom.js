// Elements without HTML: every text stays a text, whatever it holds.

/** An element; `on…` are listeners, null, undefined and false leave an attribute out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node[name] = value; // where others find it: tables.js keeps buttons
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value);
    }
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Tell those who hear the page what has changed. */
export function say(text) {
  const said = document.getElementById("said");
  if (said.textContent !== text) said.textContent = text;
}

/** Calls `draw` now and every second, until `node` has left the page. */
export function everySecond(node, draw) {
  draw();
  const timer = setInterval(() => {
    if (node.isConnected) draw();
    else clearInterval(timer);
  }, 1000);
  return node;
}

/** A span of time in words: 1 h 05 min, 4 min 10 s, 9 s. */
export function spanOf(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const two = (number) => String(number).padStart(2, "0");
  if (s >= 3600) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return s >= 60 ? `${Math.floor(s / 60)} min ${two(s % 60)} s` : `${s} s`;
}

/** A moment in the reader's own zone and spelling. */
export function moment(ms) {
  const shown = new Date(ms).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return el("time", { datetime: new Date(ms).toISOString() }, shown);
}

/** A button that copies; says so for a moment. */
export function copyButton(text, label = "Copy") {
  const button = el("button", { type: "button", class: "small", onclick: copy }, label);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      say("Copied.");
    } catch {
      button.textContent = "Not allowed: mark and copy it";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  }
  return button;
}

/** A long machine's word, whole in its title and when marked, short to the eye. */
export function code(text) {
  return el("code", { class: "word", title: text }, text);
}

export function badge(kind, text) {
  return el("span", { class: `badge ${kind}` }, text);
}

/** Rows of a name and what stands beside it. */
export function facts(...rows) {
  const shown = rows.filter(Boolean).map(([name, ...what]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, ...what)));
  return el("dl", { class: "facts" }, ...shown);
}
