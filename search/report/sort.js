// A click on a column's head, or Enter there, sorts the table's rows: numbers from the greatest, then from the least.
"use strict";
for (const head of document.querySelectorAll("table.sortable th")) {
  const table = head.closest("table"), column = head.cellIndex;
  const number = (row) => {
    const text = row.cells[column].textContent.trim().replace(/[\s\u2009\u202f,]/g, "").replace("−", "-");
    const value = parseFloat(text.replace(/^</, ""));
    return Number.isNaN(value) ? null : value;
  };
  const sort = () => {
    const rows = Array.from(table.rows).slice(1);
    const up = head.getAttribute("aria-sort") === "descending";
    const numeric = head.classList.contains("number");
    for (const other of table.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort((a, b) => {
      if (!numeric) return (up ? 1 : -1) * b.cells[column].textContent.localeCompare(a.cells[column].textContent);
      const x = number(a), y = number(b);
      if (x === null || y === null) return (x === null) - (y === null);
      return up ? x - y : y - x;
    });
    for (const row of rows) table.tBodies[0].append(row);
  };
  head.tabIndex = 0;
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => {
    if (event.key === "Enter") sort();
  });
}
