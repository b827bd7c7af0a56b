// The explorer: any image, its ten nearest, and one of them beside it, all larger than on the map.

const LARGE = innerWidth < 700 ? 160 : 192;
const STRIP = 96;

const explorer = { row: -1, found: [], near: [], beside: 0, visible: false };

// The rows that the label and the file name leave.
function explorable() {
  const label = Number(byId("explorer-label").value);
  const wanted = byId("explorer-name").value.trim().toLowerCase();
  const rows = [];
  for (let row = 0; row < data.n; row++) {
    if (label >= 0 && data.label[row] !== label) continue;
    if (wanted && !data.paths[row].toLowerCase().includes(wanted)) continue;
    rows.push(row);
  }
  return rows;
}

function large(row) {
  const picture = make("div", { class: "picture", role: "img", "aria-label": `image of ${labelOf(row)}` });
  paint(picture, row, LARGE);
  return picture;
}

function drawChosen() {
  const { row } = explorer;
  const toMap = make("button", { type: "button" }, "Show on the map");
  toMap.addEventListener("click", () => choose(row));
  byId("explorer-chosen").replaceChildren(
    make("h3", {}, "Chosen"),
    large(row),
    make("figcaption", {}, ...describe(row), make("code", {}, named(data.paths[row], 70)), toMap),
  );
}

function drawBeside() {
  const entry = explorer.near[explorer.beside];
  const figure = byId("explorer-other");
  figure.hidden = !entry;
  if (!entry) return;
  const { row, similarity } = entry;
  const go = make("button", { type: "button" }, "Go to it");
  go.addEventListener("click", () => explore(row));
  const close = make("span", {}, `similarity ${similarity.toFixed(3)}, distance ${(1 - similarity).toFixed(3)}`);
  figure.replaceChildren(
    make("h3", {}, `Nearest ${explorer.beside + 1}`),
    large(row),
    make("figcaption", {}, close, ...describe(row), make("code", {}, named(data.paths[row], 70)), go),
  );
  for (const [place, item] of [...byId("explorer-near").children].entries()) {
    item.firstChild.setAttribute("aria-pressed", place === explorer.beside);
  }
}

// Same or another label, in words and a sign; without labels there is nothing to say.
function nearEntry({ row, similarity }, place) {
  const same = data.label[row] === data.label[explorer.row];
  const sign = data.labelled ? (same ? "= " : "≠ ") : "";
  const picture = make("span", { class: "picture" });
  paint(picture, row, STRIP);
  const button = make("button", { type: "button", class: data.labelled && !same ? "other" : "same" });
  button.append(picture, make("span", {}, sign, named(labelOf(row), 20)), make("small", {}, similarity.toFixed(3)));
  button.title = data.paths[row];
  button.setAttribute("aria-label", `compare with nearest ${place + 1}: ${labelOf(row)}, similarity ${similarity.toFixed(3)}`);
  button.addEventListener("click", () => {
    explorer.beside = place;
    drawBeside();
  });
  return make("li", {}, button);
}

function drawExplorer() {
  const { row, near, found } = explorer;
  byId("explorer").dataset.row = row;
  const place = found.indexOf(row);
  const counted = `${found.length.toLocaleString("en")} ${found.length === 1 ? "image" : "images"}`;
  byId("explorer-place").textContent = place < 0 ? counted : `${(place + 1).toLocaleString("en")} of ${counted}`;
  byId("explorer-previous").disabled = byId("explorer-next").disabled = !found.length;
  if (row < 0) return;
  const same = near.filter((entry) => data.label[entry.row] === data.label[row]).length;
  byId("explorer-told").textContent = !near.length
    ? "No neighbours are stored for this image"
    : data.labelled
      ? `${same} of its ${near.length} nearest have the same label`
      : `Its ${near.length} nearest`;
  byId("explorer-near").replaceChildren(...near.map(nearEntry));
  drawChosen();
  drawBeside();
}

// Take `row`; it is drawn when the section is on the screen.
function explore(row) {
  explorer.row = row;
  explorer.near = row < 0 ? [] : neighbours(row).slice(0, NEAREST).filter(onPage);
  explorer.beside = 0;
  if (explorer.visible) drawExplorer();
}

function stepImage(by) {
  const { found, row } = explorer;
  const place = found.indexOf(row);
  if (found.length) explore(found[place < 0 ? (by > 0 ? 0 : found.length - 1) : (place + by + found.length) % found.length]);
}

function refind() {
  explorer.found = explorable();
  if (explorer.found.includes(explorer.row)) drawExplorer();
  else if (explorer.found.length) explore(explorer.found[0]);
  else drawExplorer();
}

function startExplorer() {
  const names = data.labels.map((label, number) => [label, number]);
  if (data.labelled) names.sort(([a], [b]) => a.localeCompare(b));
  byId("explorer-label").append(...names.map(([label, number]) => make("option", { value: number }, named(label, 60).textContent)));
  byId("explorer-label").addEventListener("change", refind);
  byId("explorer-name").addEventListener("input", soon(refind, 150));
  byId("explorer-find").addEventListener("submit", (event) => event.preventDefault());
  byId("explorer-previous").addEventListener("click", () => stepImage(-1));
  byId("explorer-next").addEventListener("click", () => stepImage(1));
  explorer.found = explorable();
  explore(data.mistakes[0] ?? (data.n ? 0 : -1));
  const follow = () => chosenRow() >= 0 && explore(chosenRow());
  new MutationObserver(follow).observe(byId("panel"), { attributeFilter: ["data-row"] });
  addEventListener("beforeprint", drawExplorer);
  new IntersectionObserver(
    ([{ isIntersecting }]) => {
      explorer.visible = isIntersecting;
      if (isIntersecting && byId("explorer").dataset.row !== String(explorer.row)) drawExplorer();
    },
    { rootMargin: "200px" },
  ).observe(byId("explorer"));
}
