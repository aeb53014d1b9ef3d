"use strict";
// Sorts the cases by a column and shows those that hold a text; without it the table is as it was written.
(function () {
  const table = document.querySelector("table.cases");
  const filter = document.getElementById("filter");
  if (!table || !filter) return;
  const bodies = Array.from(table.tBodies);
  const heads = Array.from(table.tHead.rows[0].cells);
  const say = document.getElementById("shown");
  const cell = (body, number) => {
    const first = body.rows[0].cells;
    let column = 0;
    for (const one of first) {
      if (number < column + one.colSpan) return one.textContent.trim();
      column += one.colSpan;
    }
    return "";
  };
  const order = (a, b) => {
    const x = parseFloat(a.replace("\u2212", "-")), y = parseFloat(b.replace("\u2212", "-"));
    const isNumber = (text) => /^[\u2212\d]/.test(text);
    if (isNumber(a) && isNumber(b)) return x - y;
    if (isNumber(a) !== isNumber(b)) return isNumber(a) ? -1 : 1;
    return a.localeCompare(b);
  };
  heads.forEach((head, number) => {
    const button = document.createElement("button");
    button.type = "button";
    while (head.firstChild) button.appendChild(head.firstChild);
    head.appendChild(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      bodies.sort((a, b) => (down ? -1 : 1) * order(cell(a, number), cell(b, number)));
      bodies.forEach((body) => table.appendChild(body));
    });
  });
  filter.parentElement.hidden = false;
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    let count = 0;
    for (const body of bodies) {
      body.hidden = !body.textContent.toLowerCase().includes(wanted);
      count += body.hidden ? 0 : 1;
    }
    say.textContent = count + " of " + bodies.length;
  });
})();
