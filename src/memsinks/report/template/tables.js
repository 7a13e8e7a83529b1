(function () {
  "use strict";

  const missing = Number.NEGATIVE_INFINITY;

  function keyOf(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.sort === undefined) { return cell.textContent.trim(); }
    return cell.dataset.sort === "" ? missing : Number(cell.dataset.sort);
  }

  function compare(a, b) {
    return typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
  }

  // A column goes from ascending to descending to the order of the file.
  const following = { none: "ascending", ascending: "descending", descending: "none" };

  function sort(table, rows, heads, column) {
    const direction = following[heads[column].getAttribute("aria-sort") || "none"];
    heads.forEach(function (head) { head.removeAttribute("aria-sort"); });
    const sorted = rows.slice();
    if (direction !== "none") {
      const sign = direction === "ascending" ? 1 : -1;
      heads[column].setAttribute("aria-sort", direction);
      sorted.sort(function (one, other) {
        const a = keyOf(one, column), b = keyOf(other, column);
        // What was not measured stays last either way.
        if (a === missing || b === missing) { return (a === missing) - (b === missing); }
        return sign * compare(a, b);
      });
    }
    table.tBodies[0].append.apply(table.tBodies[0], sorted);
  }

  document.querySelectorAll("table.sortable").forEach(function (table) {
    const rows = Array.from(table.tBodies[0].rows);
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.append.apply(button, Array.from(head.childNodes));
      button.addEventListener("click", function () { sort(table, rows, heads, column); });
      head.append(button);
    });
  });

  // What is folded on the screen is printed, and folded again afterwards.
  const opened = [];
  addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not([open])").forEach(function (details) {
      details.open = true;
      opened.push(details);
    });
  });
  addEventListener("afterprint", function () {
    opened.splice(0).forEach(function (details) { details.open = false; });
  });
})();
