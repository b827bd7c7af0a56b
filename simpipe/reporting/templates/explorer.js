// The explorer: any image, its ten nearest, and one of them beside it, all larger than on the map.

const LARGE = innerWidth < 700 ? 160 : 192;
const STRIP = 96;

// row: −1 where the search finds nothing. stale: whether it is to be drawn once it is seen.
const explorer = { row: -1, found: [], near: [], title: "", beside: 0, visible: false, stale: true };

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

function drawChosen() {
  const { row } = explorer;
  byId("explorer-chosen").hidden = row < 0;
  if (row < 0) return;
  const toMap = make("button", { type: "button" }, "Show on the map");
  toMap.addEventListener("click", () => choose(row));
  byId("explorer-chosen").replaceChildren(
    make("h3", {}, "Chosen"),
    picture(row, LARGE),
    make("figcaption", {}, ...describe(row), make("code", {}, named(data.paths[row], 70)), toMap),
  );
}

function drawBeside() {
  const entry = explorer.near[explorer.beside];
  const figure = byId("explorer-other");
  figure.hidden = !entry;
  if (!entry) return;
  const { row, similarity, rank } = entry;
  const go = make("button", { type: "button" }, "Go to it");
  go.addEventListener("click", () => {
    explore(row);
    figure.querySelector("button").focus({ preventScroll: true });
  });
  const close = make("span", {}, `similarity ${similarity.toFixed(3)}, distance ${(1 - similarity).toFixed(3)}`);
  figure.replaceChildren(
    make("h3", {}, `Nearest ${rank}`),
    picture(row, LARGE),
    make("figcaption", {}, close, ...describe(row), make("code", {}, named(data.paths[row], 70)), go),
  );
  for (const [place, item] of [...byId("explorer-near").children].entries()) {
    item.firstChild.setAttribute("aria-pressed", place === explorer.beside);
  }
}

// Same or another label, in words and a sign; without labels there is nothing to say.
function nearEntry({ row, similarity, rank }, place) {
  const same = data.label[row] === data.label[explorer.row];
  const sign = data.labelled ? (same ? "= " : "≠ ") : "";
  const tile = make("span", { class: "picture" });
  paint(tile, row, STRIP);
  const button = make("button", { type: "button", class: data.labelled && !same ? "other" : "same" });
  button.append(tile, make("span", {}, sign, named(labelOf(row), 20)), make("small", {}, similarity.toFixed(3)));
  button.title = data.paths[row];
  button.setAttribute("aria-label", `compare with nearest ${rank}: ${labelOf(row)}, similarity ${similarity.toFixed(3)}`);
  button.addEventListener("click", () => {
    explorer.beside = place;
    drawBeside();
  });
  return make("li", {}, button);
}

function drawExplorer() {
  const { row, near, title, found } = explorer;
  explorer.stale = false;
  byId("explorer").dataset.row = row;
  const place = found.indexOf(row);
  const counted = `${grouped(found.length)} ${found.length === 1 ? "image" : "images"}`;
  const told = place < 0 ? `${counted} found${row < 0 ? "" : "; the one below was chosen elsewhere"}` : `${grouped(place + 1)} of ${counted}`;
  byId("explorer-place").textContent = told;
  byId("explorer-previous").disabled = byId("explorer-next").disabled = !found.length;
  byId("explorer-told").textContent = title;
  byId("explorer-near").replaceChildren(...near.map(nearEntry));
  drawChosen();
  drawBeside();
}

const NOTHING = { near: [], title: "No image fits. Try another label, or a shorter part of the file name." };

// Take `row`, beside its nearest by the embeddings that the map shows; it is drawn when the section is seen.
function explore(row) {
  Object.assign(explorer, { row, beside: 0, stale: true, ...(row < 0 ? NOTHING : nearestIn(row, map.layout)) });
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
  else explore(explorer.found[0] ?? -1);
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
  addEventListener("beforeprint", drawExplorer);
  new IntersectionObserver(
    ([{ isIntersecting }]) => {
      explorer.visible = isIntersecting;
      if (isIntersecting && explorer.stale) drawExplorer();
    },
    { rootMargin: "200px" },
  ).observe(byId("explorer"));
}
