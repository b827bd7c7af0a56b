// Tables that can be sorted by a column and searched by name.

const keyOf = (cell) => {
  const text = (cell.querySelector("data")?.value ?? cell.textContent).trim();
  const number = Number(text);
  return text === "–" ? null : cell.classList.contains("figure") && !Number.isNaN(number) ? number : text;
};

// Empty cells stay last in both directions.
function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  return direction * (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
}

function sortBy(table, column, header) {
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row.cells[column]), row]);
  rows.sort(([a], [b]) => compare(a, b, direction));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function startTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      header.firstElementChild.addEventListener("click", () => sortBy(table, column, header));
    });
  }
  for (const input of document.querySelectorAll("[data-filters]")) {
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      const rows = [...byId(input.dataset.filters).tBodies[0].rows];
      for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      input.closest(".controls").querySelector("output").textContent = rows.every((row) => row.hidden) ? "0 found" : "";
    });
  }
}
