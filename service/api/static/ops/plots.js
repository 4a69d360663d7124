// Plots drawn as SVG: lines told apart by dashes as well as by colour, read with the pointer, with the
// arrow keys, or as a table.
import { el } from "./dom.js";
import { clock } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const SPAN_MS = 600_000;
/** Between two points further apart than this nothing is known. */
const GAP_MS = 20_000;
const LEFT = 54;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat());
  return node;
}

/** A round number at or above `value`, whose half is round too. */
export function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((top) => top >= value * 0.999);
}

/**
 * A plot of the last minutes. `series`: [{name, of: point => number|null}]; `format` writes a number;
 * `most`: the top of the scale where it is known.
 */
export function linePlot({ title, series, format, most, height = 168 }) {
  const readout = el("p", { class: "readout" });
  const drawing = el("div", { class: "drawing", tabindex: "0", role: "img", "aria-label": title });
  const legend = el("ul", { class: "legend" });
  const values = series.map((one, i) => {
    const value = el("b", {}, "–");
    legend.append(el("li", {}, key(i), one.name, " ", value));
    return value;
  });
  const rows = el("tbody");
  const table = el("details", { class: "astable", ontoggle: () => redraw() },
    el("summary", {}, "As a table"),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {},
      el("th", { scope: "col" }, "Time"), series.map((one) => el("th", { scope: "col" }, one.name)))), rows)));
  const node = el("figure", { class: "plot" },
    el("figcaption", {}, el("h3", {}, title), legend), drawing, readout, table);
  let points = [];
  let chosen = null;

  function redraw() {
    const width = Math.max(240, Math.round(drawing.clientWidth || 600));
    drawing.replaceChildren(draw(points, width));
    drawing.setAttribute("aria-label", told());
    const last = points.at(-1);
    series.forEach((one, i) => { values[i].textContent = last ? shown(one.of(last)) : "–"; });
    tell();
    if (table.open) {
      rows.replaceChildren(...points.filter((_, i) => (points.length - 1 - i) % 6 === 0).reverse().map((point) =>
        el("tr", {}, el("th", { scope: "row" }, clock(point.at_ms)), series.map((one) => el("td", {}, shown(one.of(point)))))));
    }
  }

  const shown = (value) => (value === null || value === undefined ? "–" : format(value));

  /** The plot in a sentence, for who cannot see it. */
  function told() {
    if (!points.length) return `${title}: nothing is known yet.`;
    const parts = series.map((one) => {
      const known = points.map(one.of).filter((value) => value !== null && value !== undefined);
      if (!known.length) return `${one.name}: none`;
      return `${one.name}: now ${shown(one.of(points.at(-1)))}, at most ${shown(Math.max(...known))}`;
    });
    return `${title}, the last 10 minutes. ${parts.join("; ")}. Arrow keys read single moments.`;
  }

  function draw(all, width) {
    const endMs = Math.max(Date.now(), all.at(-1)?.at_ms || 0);
    const known = all.flatMap((point) => series.map((one) => one.of(point) || 0));
    const top = most || ceiling(Math.max(0, ...known));
    const x = (at) => LEFT + (1 - (endMs - at) / SPAN_MS) * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - value / top) * (height - TOP - BOTTOM);
    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const shares = format(top / 2) === format(top) || format(top / 2) === format(0) ? [0, 1] : [0, 0.5, 1];
    for (const share of shares) {
      const line = y(top * share);
      picture.append(
        svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: line, y2: line }),
        svg("text", { class: "tick", x: LEFT - 6, y: line + 4, "text-anchor": "end" }, format(top * share)));
    }
    const minute = 60_000;
    const step = width < 420 ? 5 * minute : 2 * minute;
    for (let at = Math.ceil((endMs - SPAN_MS) / step) * step; at <= endMs; at += step) {
      if (x(at) < LEFT + 14 || x(at) > width - RIGHT - 14) continue;
      picture.append(svg("text", { class: "tick", x: x(at), y: height - 5, "text-anchor": "middle" }, clock(at, false)));
    }
    const within = all.filter((point) => point.at_ms >= endMs - SPAN_MS);
    series.forEach((one, i) => {
      picture.append(svg("path", { class: `series s${i}`, d: path(within, one.of, x, y) }));
    });
    if (chosen !== null && all[chosen]) {
      const at = x(all[chosen].at_ms);
      picture.append(svg("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: height - BOTTOM }));
    }
    picture.dataset.from = String(endMs - SPAN_MS);
    picture.dataset.to = String(endMs);
    return picture;
  }

  function tell() {
    const point = chosen === null ? null : points[chosen];
    readout.textContent = point
      ? `${clock(point.at_ms)} · ${series.map((one) => `${one.name} ${shown(one.of(point))}`).join(" · ")}`
      : "";
  }

  function choose(index) {
    chosen = index === null ? null : Math.min(points.length - 1, Math.max(0, index));
    if (points.length) redraw();
  }

  drawing.addEventListener("pointermove", (event) => {
    const picture = drawing.firstElementChild;
    if (!picture || !points.length) return;
    const box = picture.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    const at = Number(picture.dataset.from) + share * SPAN_MS;
    let nearest = 0;
    points.forEach((point, i) => {
      if (Math.abs(point.at_ms - at) < Math.abs(points[nearest].at_ms - at)) nearest = i;
    });
    choose(nearest);
  });
  drawing.addEventListener("pointerleave", () => choose(null));
  drawing.addEventListener("blur", () => choose(null));
  drawing.addEventListener("keydown", (event) => {
    const at = chosen === null ? points.length - 1 : chosen;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: points.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to);
  });
  new ResizeObserver(() => redraw()).observe(drawing);
  return {
    node,
    update(next) {
      const read = chosen === null ? null : points[chosen];
      points = next;
      // What is being read stays the same moment.
      if (read) chosen = points.indexOf(read) < 0 ? null : points.indexOf(read);
      redraw();
    },
  };
}

/** A line that breaks where nothing is known. */
export function path(points, of, x, y) {
  let d = "";
  let before = null;
  for (const point of points) {
    const value = of(point);
    if (value === null || value === undefined) { before = null; continue; }
    const begins = before === null || point.at_ms - before > GAP_MS;
    d += `${begins ? "M" : "L"}${x(point.at_ms).toFixed(1)} ${y(value).toFixed(1)}`;
    if (begins) d += "h0.1";
    before = point.at_ms;
  }
  return d;
}

/** What a line of the legend looks like in the plot. */
function key(i) {
  return svg("svg", { class: "key", width: 26, height: 10, "aria-hidden": "true" },
    svg("path", { class: `series s${i}`, d: "M1 5H25" }));
}

/** A small line without scale, for a row of a table. */
export function spark(points, of, { width = 120, height = 22, index = 0 } = {}) {
  const top = Math.max(0.001, ...points.map((point) => of(point) || 0));
  const endMs = points.at(-1)?.at_ms || 0;
  const x = (at) => 1 + (1 - (endMs - at) / SPAN_MS) * (width - 2);
  const y = (value) => 2 + (1 - value / top) * (height - 4);
  return svg("svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: `series s${index}`, d: path(points.filter((p) => p.at_ms >= endMs - SPAN_MS), of, x, y) }));
}

/** States of the last minutes as a strip: what held from when; hatched or dotted as well as coloured. */
export function strip(parts, { height = 34 } = {}) {
  const endMs = Date.now();
  const width = 1000;
  const x = (at) => Math.max(0, (1 - (endMs - at) / SPAN_MS) * width);
  const picture = svg("svg", { class: "strip", width: "100%", height, viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const part of parts) {
    const from = x(part.fromMs);
    const to = x(part.toMs ?? endMs);
    if (to <= 0) continue;
    const tall = { closed: 0.3, "half-open": 0.65, open: 1 }[part.state] * height;
    picture.append(svg("rect", { class: `state ${part.state}`, x: from, width: Math.max(2, to - from), y: height - tall, height: tall }));
  }
  return picture;
}

/** From transitions (newest first) to what held when. */
export function statesOf(events, state, endMs = Date.now()) {
  const parts = [];
  let toMs = endMs;
  let held = state;
  for (const event of events) {
    if (toMs < endMs - SPAN_MS) break;
    held = event.after;
    if (event.before === event.after) continue;
    parts.push({ state: held, fromMs: event.at_ms, toMs });
    toMs = event.at_ms;
    held = event.before;
  }
  if (toMs > endMs - SPAN_MS) parts.push({ state: held, fromMs: endMs - SPAN_MS, toMs });
  return parts.reverse();
}
