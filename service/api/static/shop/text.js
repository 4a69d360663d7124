// A result made readable: headings, lists, tables and links, all of them from plain text nodes.
import { el } from "./dom.js";

const LINK = /https?:\/\/[^\s<>"'`|]+[^\s<>"'`|.,;:!?)\]]/g;
const BOLD = /(\*\*[^*\n]+\*\*|`[^`\n]+`)/;

/** `text` with its web addresses as links, which tell nobody where they were found. */
export function linked(text) {
  const found = [];
  let from = 0;
  for (const match of text.matchAll(LINK)) {
    found.push(text.slice(from, match.index));
    const link = { href: match[0], target: "_blank", rel: "noopener noreferrer nofollow" };
    found.push(URL.canParse(match[0]) ? el("a", link, match[0]) : match[0]);
    from = match.index + match[0].length;
  }
  return [...found, text.slice(from)];
}

function inline(text) {
  return text.split(BOLD).flatMap((part) => {
    if (/^\*\*.+\*\*$/.test(part)) return el("strong", {}, part.slice(2, -2));
    if (/^`.+`$/.test(part)) return el("code", {}, part.slice(1, -1));
    return linked(part);
  });
}

/** The little of Markdown that results use; anything else stays the lines it is. */
export function readable(text) {
  const blocks = [];
  let last = null;
  for (const line of text.split("\n")) {
    const kind = kindOf(line);
    if (kind && last?.kind === kind && kind !== "heading") last.lines.push(line);
    else if (kind) blocks.push((last = { kind, lines: [line] }));
    else last = null;
  }
  return el("div", { class: "prose" }, ...blocks.map(({ kind, lines }) => SHOWN[kind](lines)));
}

function kindOf(line) {
  if (!line.trim()) return null;
  if (/^#{1,6} /.test(line)) return "heading";
  if (/^\s*[-*] /.test(line)) return "list";
  return /^\|.*\|$/.test(line.trim()) ? "table" : "paragraph";
}

const SHOWN = {
  heading: ([line]) => el(line.startsWith("# ") ? "h3" : "h4", {}, ...inline(line.replace(/^#+ /, ""))),
  list: (lines) => el("ul", {}, ...lines.map((line) => el("li", {}, ...inline(line.replace(/^\s*[-*] /, ""))))),
  paragraph: (lines) => el("p", {}, ...inline(lines.join("\n"))),
  table(lines) {
    const rows = lines.map((line) => line.trim().slice(1, -1).split("|").map((text) => text.trim()));
    const isRule = (row) => row.every((text) => /^:?-+:?$/.test(text));
    const head = rows.length > 1 && isRule(rows[1]) ? rows[0] : null;
    const body = head ? rows.slice(2) : rows;
    const cell = (text, tag) => el(tag, { scope: tag === "th" && "col" }, ...inline(text));
    const cells = (row, tag) => el("tr", {}, ...row.map((text) => cell(text, tag)));
    const table = el("table", {}, head && el("thead", {}, cells(head, "th")),
      el("tbody", {}, ...body.map((row) => cells(row, "td"))));
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, table);
  },
};
