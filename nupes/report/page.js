// Sort a table by the column whose heading is pressed; numbers by their data-value.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex;
    const down = heading.getAttribute("aria-sort") === "descending";
    const first = heading.dataset.kind === "number" ? !down : heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", first ? "descending" : "ascending");
    const value = (row) => {
      const cell = row.cells[column];
      return heading.dataset.kind === "number" ? Number(cell.dataset.value) : cell.textContent.trim();
    };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      const result = typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
      return first ? -result : result;
    };
    body.append(...[...body.rows].sort(order));
  });
}

// A link to a layer opens its details.
const reveal = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener("hashchange", reveal);
reveal();

const all = document.getElementById("toggle-all");
all?.addEventListener("click", () => {
  const parts = [...document.querySelectorAll("details.layer")];
  const open = !parts.every((part) => part.open);
  for (const part of parts) part.open = open;
  all.textContent = open ? "Close all" : "Open all";
});
