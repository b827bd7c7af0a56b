// The panel beside the map: one image and its nearest neighbours in the embedding space.

const NEAREST = 10;
const NO_HIT = " on the map; try a shorter part of the file or folder name";
const hint = [...byId("panel").childNodes];

const chosenRow = () => Number(byId("panel").dataset.row ?? -1);

function neighbourEntry({ row, similarity }, label) {
  const same = !data.labelled || data.label[row] === label;
  const text = make("span", {}, named(labelOf(row), 30), make("small", {}, ` ${similarity.toFixed(3)}`));
  return make("li", { class: same ? "same" : "other", "data-row": row }, thumb(row, 56), text);
}

// What the list of neighbours in a layout is, in one line; `absent` are not on this page.
function neighbourTitle(row, near, absent, layout) {
  if (!near.length) return absent ? "None of its nearest is on this page" : "No neighbours are stored for this image";
  const same = near.filter((entry) => data.label[entry.row] === data.label[row]).length;
  const alike = data.labelled ? "with the same label" : "in the same group";
  // images in no group have none in common
  const counted = data.hearts[data.label[row]] < 0 ? "" : `: ${same} of ${near.length} ${alike}`;
  const left = absent ? `; ${absent} more ${absent === 1 ? "is" : "are"} not on this page` : "";
  const space = layout === "before" ? "before training" : "in the embedding space";
  return `Nearest ${space}${counted}${left}`;
}

// The nearest images in a layout that are on this page, and what they are, in one line.
function nearestIn(row, layout) {
  const all = neighbours(row, layout).slice(0, NEAREST);
  const near = all.filter(onPage);
  return { near, title: neighbourTitle(row, near, all.length - near.length, layout) };
}

// How many of the neighbours training kept; empty where there is nothing to compare with.
function keptText(row, near) {
  const other = map.layout === "after" ? "before" : "after";
  if (!raw.before || !near.length) return "";
  const there = new Set(neighbours(row, other).slice(0, NEAREST).map((entry) => entry.row));
  const kept = near.filter((entry) => there.has(entry.row)).length;
  return `${kept} of ${near.length} also nearest ${other} training.`;
}

// Show `row` in the panel and on the map.
function showChosen(row) {
  const panel = byId("panel");
  const { near, title } = nearestIn(row, map.layout);
  const path = make("code", {}, named(data.paths[row], 70));
  const list = make("ol", {}, ...near.map((entry) => neighbourEntry(entry, data.label[row])));
  const kept = keptText(row, near);
  const focused = panel.contains(document.activeElement);
  panel.replaceChildren(
    make("div", { class: "subject" }, picture(row, 144), make("div", {}, ...describe(row), path)),
    make("h3", {}, title),
    ...(kept ? [make("p", { class: "kept" }, kept)] : []),
    list,
  );
  panel.dataset.row = row;
  if (focused) (panel.querySelector(".thumb") ?? panel).focus({ preventScroll: true });
  const answer = data.correct[row] === 0 ? `, wrong, taken for ${data.labels[data.predicted[row]] ?? "nothing"}` : "";
  byId("said").textContent = `${labelOf(row)}${answer}. ${title}.`;
  setPoints("near", near.map((entry) => entry.row));
  setPoints("chosen", [row]);
}

// Show `row` everywhere, and go to the map if asked.
function choose(row, travel = true) {
  showChosen(row);
  bringIntoView(row);
  explore(row);
  if (travel) goTo("map", byId("panel"));
}

function clearChoice() {
  byId("panel").replaceChildren(...hint);
  delete byId("panel").dataset.row;
  byId("said").textContent = "No image is chosen.";
  for (const layer of ["near", "chosen"]) setPoints(layer, []);
}

function startPanel() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".thumb");
    if (button) choose(Number(button.dataset.row), !button.closest("#panel"));
  });
  byId("find-image").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = byId("image-name").value.trim().toLowerCase();
    const found = wanted ? data.paths.flatMap((path, row) => (path.toLowerCase().includes(wanted) ? [row] : [])) : [];
    // The same search again goes on to the next.
    const next = (found.indexOf(chosenRow()) + 1) % found.length;
    const place = found.length > 1 ? `${grouped(next + 1)} of ` : "";
    byId("find-result").textContent = wanted ? `${place}${grouped(found.length)} found${found.length ? "" : NO_HIT}` : "";
    if (found.length) choose(found[next], false);
    else if (wanted) clearChoice(); // what was chosen before is no answer
  });
}
