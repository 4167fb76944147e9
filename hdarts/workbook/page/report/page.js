// Without this script the page still reads well: contents unfolded, pictures link to their files, tables unsorted.

// fold the contents on a narrow screen; their links unfold the target
const contents = document.querySelector("nav details");
const wide = matchMedia("(min-width: 62rem)");
const fold = () => { contents.open = wide.matches; };
wide.addEventListener("change", fold);
fold();
const unfold = () => {
  const folded = location.hash && document.getElementById(location.hash.slice(1))?.querySelector(":scope > details");
  if (folded) folded.open = true;
};
addEventListener("hashchange", unfold);
unfold();
contents.addEventListener("click", event => {
  if (event.target.matches("a")) { setTimeout(unfold); if (!wide.matches) contents.open = false; }
});

// a click on a column head sorts by it, a second click reverses the order; numbers by value, empty cells last
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.classList.contains("files")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = head.classList.contains("number");
      const words = row => row.cells[column].textContent.trim();
      const order = (a, b) => numeric ? parseFloat(a) - parseFloat(b) : a.localeCompare(b, "en", { numeric: true });
      [...body.rows]
        .sort((a, b) => !words(a) - !words(b) || (down ? -1 : 1) * order(words(a), words(b)))
        .forEach(row => body.append(row));
    });
  });
}

// a click or Enter enlarges a picture; arrow keys show the next one, Escape closes it
const dialog = document.querySelector("dialog");
const [box, caption, file] = ["div", "p", "a"].map(one => dialog.querySelector(one));
const image = box.appendChild(new Image());
const figures = () => [...document.querySelectorAll("figure a")].filter(link => link.checkVisibility());
let shown = null;
const show = link => {
  shown = link;
  image.src = link.firstElementChild.src;
  image.alt = link.firstElementChild.alt;
  caption.textContent = link.nextElementSibling.textContent;
  file.href = link.href;
};
const turn = steps => {
  const all = figures();
  show(all[(all.indexOf(shown) + steps + all.length) % all.length]);
};
for (const link of document.querySelectorAll("figure a")) link.addEventListener("click", event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab or window, as with any link
  event.preventDefault();
  show(link);
  dialog.showModal();
});
dialog.querySelector("[name=before]").addEventListener("click", () => turn(-1));
dialog.querySelector("[name=next]").addEventListener("click", () => turn(1));
dialog.addEventListener("keydown", event => {
  const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (steps) turn(steps);
});
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => { shown.scrollIntoView({ block: "nearest" }); shown.focus(); });
