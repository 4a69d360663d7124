// Reads pictures under the pointer, or by the arrow keys: what all of a run showed at one moment.
// What it tells it takes from the tables behind them; without it, they can be opened.
"use strict";
for (const run of document.querySelectorAll(".run")) {
  const pictures = [...run.querySelectorAll(".timed")].map((figure) => ({
    drawing: figure.querySelector(".drawing"),
    plot: figure.querySelector(".plot"),
    readout: figure.querySelector(".readout"),
    length: Number(figure.dataset.length),
    names: [...figure.querySelectorAll(".astable thead th")].map((head) => head.textContent),
    rows: [...figure.querySelectorAll(".astable [data-at]")].map((cell) => ({
      at: Number(cell.dataset.at),
      cells: [...cell.closest("tr").children].map((one) => one.textContent),
    })),
  }));

  function show(at, whose) {
    for (const { plot, readout, length, names, rows } of pictures) {
      plot.querySelector(".cursor")?.remove();
      readout.textContent = "";
      if (at === null) continue;
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      const x = `${Math.min(100, (100 * at) / length)}%`;
      for (const [name, value] of Object.entries({ class: "cursor", x1: x, x2: x, y1: 0, y2: plot.getAttribute("height") - 22 })) {
        line.setAttribute(name, value);
      }
      plot.append(line);
      const row = rows.findLast((one) => one.at <= at) || rows[0];
      if (!row) continue;
      const told = row.cells.map((text, i) => (i ? `${names[i]} ${text}` : text));
      readout.textContent = told.join(" · ");
    }
    if (whose) whose.dataset.now = at === null ? "" : at;
  }

  for (const { drawing, plot, readout, length, rows } of pictures) {
    drawing.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      show(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * length, drawing);
    });
    drawing.addEventListener("pointerleave", () => show(null, drawing));
    if (!rows.length) continue;
    drawing.tabIndex = 0;
    // Who moves by keys hears what stands below this picture, and of none other.
    drawing.addEventListener("focus", () => {
      readout.removeAttribute("aria-hidden");
      readout.setAttribute("aria-live", "polite");
    });
    drawing.addEventListener("blur", () => {
      readout.setAttribute("aria-hidden", "true");
      readout.removeAttribute("aria-live");
      show(null, drawing);
    });
    drawing.addEventListener("keydown", (event) => {
      const now = drawing.dataset.now ? Number(drawing.dataset.now) : rows[0].at;
      const index = Math.max(0, rows.findLastIndex((one) => one.at <= now));
      const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: rows.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(rows[Math.min(rows.length - 1, Math.max(0, to))].at + 1e-6, drawing);
    });
  }
}
