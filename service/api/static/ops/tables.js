// Tables that are brought up to date cell by cell, so that focus, selection and open parts stay.
import { el } from "./dom.js";

/**
 * `columns`: [{name, of: row => text or node, make: key => node (once, for buttons), number: bool}];
 * `key` names a row. In a narrow window each row becomes a small list, by `data-label`.
 */
export function table({ caption, columns, key, empty }) {
  const body = el("tbody");
  const nothing = el("p", { class: "quiet" }, empty);
  const whole = el("table", { class: "rows" },
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, columns.map((column) =>
      el("th", { scope: "col", class: column.number && "number" }, column.name)))), body);
  const node = el("div", {}, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole), nothing);
  const rows = new Map();

  function update(items) {
    whole.parentElement.hidden = items.length === 0;
    nothing.hidden = items.length > 0;
    const seen = new Set();
    items.forEach((item, place) => {
      const name = key(item);
      seen.add(name);
      let row = rows.get(name);
      if (!row) {
        row = el("tr", {}, columns.map((column) => el("td", { "data-label": column.name, class: column.number && "number" })));
        rows.set(name, row);
      }
      columns.forEach((column, i) => fill(row.cells[i], column.of(item)));
      if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] || null);
    });
    for (const [name, row] of rows) {
      if (!seen.has(name)) { row.remove(); rows.delete(name); }
    }
  }
  return { node, update };
}

/** A text, a node, or a list of both; a button with the same words stays the one it was. */
function fill(cell, content) {
  const parts = [content].flat().filter((part) => part !== null && part !== undefined && part !== false);
  if (parts.every((part) => typeof part === "string")) {
    const text = parts.join("");
    if (cell.childElementCount || cell.textContent !== text) cell.textContent = text;
    return;
  }
  const old = cell.firstElementChild;
  if (old instanceof HTMLButtonElement && parts.length === 1 && parts[0].textContent === old.textContent) {
    old.onclick = parts[0].onclick;
    return;
  }
  cell.replaceChildren(...parts);
}
