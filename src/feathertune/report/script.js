"use strict";
// Convenience only: the page works without scripts. Texts are inserted as text, never as markup.

// Tables sort by a cell's data-sort attribute, else by its text.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = table.tHead.rows[0].cells;
  [...heads].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        const unknown = (v) => v === "" || v === "–";
        if (unknown(x) || unknown(y)) return unknown(x) - unknown(y);
        const [p, q] = [parseFloat(x), parseFloat(y)];
        const order = Number.isNaN(p) || Number.isNaN(q) ? y.localeCompare(x) : q - p;
        return falling ? order : -order;
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare));
    });
  });
}

// Show the <title> of a mark immediately, also on touch screens. Screen readers get each chart as one labelled image,
// followed by a table.
const tip = document.getElementById("tip");
for (const title of document.querySelectorAll("svg title")) {
  const mark = title.parentElement;
  const words = title.textContent;
  const show = () => {
    tip.textContent = words;
    tip.hidden = false;
    const at = mark.getBoundingClientRect();
    const left = at.left + at.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${at.top > tip.offsetHeight + 12 ? at.top - tip.offsetHeight - 8 : at.bottom + 8}px`;
  };
  title.remove();
  mark.addEventListener("pointerenter", show);
  mark.addEventListener("click", show);
  mark.addEventListener("pointerleave", () => { tip.hidden = true; });
}
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

// Unfold everything for printing.
const folded = () => document.querySelectorAll("details:not([open])");
addEventListener("beforeprint", () => { for (const part of folded()) { part.open = true; part.dataset.unfolded = ""; } });
addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("details[data-unfolded]")) { part.open = false; delete part.dataset.unfolded; }
});
