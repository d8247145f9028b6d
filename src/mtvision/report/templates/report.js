"use strict";

// What a cell is sorted by: a number where it is one; nothing where it is missing.
function sortKey(row, column) {
  const text = row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const number = Number(text);
  return text !== "" && !Number.isNaN(number) ? number : text;
}

// Numbers by size, text by its letters, missing cells last in both directions.
function compare(one, other, direction) {
  if (one === "" || other === "") return one === other ? 0 : one === "" ? 1 : -1;
  if (typeof one === "number" && typeof other === "number") return direction * (one - other);
  return direction * String(one).localeCompare(String(other), undefined, { numeric: true });
}

function sortBy(table, column) {
  const heads = Array.from(table.tHead.rows[0].cells);
  const direction = heads[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const rows = Array.from(table.tBodies[0].rows);
  rows.sort((one, other) => compare(sortKey(one, column), sortKey(other, column), direction));
  table.tBodies[0].append(...rows);
}

function search(table, words, count) {
  const rows = Array.from(table.tBodies[0].rows);
  rows.forEach((row) => {
    const text = Array.from(row.cells, (cell) => cell.textContent.toLowerCase()).join(" ");
    row.hidden = !words.every((word) => text.includes(word));
  });
  const shown = rows.filter((row) => !row.hidden).length;
  count.textContent = words.length ? `${shown} of ${rows.length}` : "";
}

document.querySelectorAll(".table").forEach((box) => {
  const table = box.querySelector("table");
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => sortBy(table, column));
  });
  const input = box.querySelector("input");
  if (input !== null) {
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
      search(table, words, box.querySelector(".count"));
    });
  }
});

// A card has its values in the order of the options, separated by blanks; what is missing is "nan" or nothing.
function cardKey(card, place) {
  const text = card.dataset.values.split(" ")[place];
  return text === "" || text === "nan" ? "" : Number(text);
}

document.querySelectorAll(".gallery").forEach((box) => {
  const list = box.querySelector(".cards");
  const cards = Array.from(list.children);
  const input = box.querySelector("input");
  const select = box.querySelector("select");
  if (input === null) return;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    cards.forEach((card) => {
      const text = card.textContent.toLowerCase();
      card.hidden = !words.every((word) => text.includes(word));
    });
    const shown = cards.filter((card) => !card.hidden).length;
    box.querySelector(".count").textContent = words.length ? `${shown} of ${cards.length}` : "";
  });
  select.addEventListener("change", () => {
    const [direction, place] = select.value.split(" ").map(Number);
    const sorted = select.value === "" ? cards
      : cards.slice().sort((one, other) => compare(cardKey(one, place), cardKey(other, place), direction));
    list.append(...sorted);
  });
});
