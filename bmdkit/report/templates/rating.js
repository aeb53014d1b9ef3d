"use strict";
// Keeps what a reader thinks of the pairs in the browser, and saves it as ratings.csv.
(function () {
  const place = "bmdkit " + location.href.replace(/[^/]*$/, "") + " ";
  const save = document.getElementById("save-ratings");
  if (!save) return;
  const count = document.getElementById("rated");
  const store = (function () {
    try { localStorage.length; return localStorage; } catch (error) { return null; }
  })();
  const here = new Map();
  const gather = () => {
    const found = new Map(here);
    for (let n = 0; store && n < store.length; n++) {
      const key = store.key(n);
      if (key.startsWith(place)) found.set(key.slice(place.length), store.getItem(key));
    }
    return found;
  };
  const tell = () => { count.textContent = gather().size + " rated in this browser"; };
  document.querySelectorAll("fieldset.rating").forEach((group) => {
    const pair = group.dataset.pair;
    const kept = store && store.getItem(place + pair);
    group.querySelectorAll("input").forEach((input) => {
      if (kept) input.checked = input.value === kept;
      input.addEventListener("change", () => {
        here.set(pair, input.value);
        if (store) store.setItem(place + pair, input.value);
        tell();
      });
    });
  });
  const quote = (text) => (/[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text);
  save.addEventListener("click", () => {
    const rows = Array.from(gather()).sort((a, b) => (a[0] < b[0] ? -1 : 1));
    const text = "pair_id,rating\n" + rows.map((row) => row.map(quote).join(",") + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "ratings.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.querySelectorAll(".needs-script").forEach((part) => { part.hidden = false; });
  tell();
})();
