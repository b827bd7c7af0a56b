// The panel beside the map: one image and its nearest neighbours in the embedding space.

const NEAREST = 10;

function neighbourEntry({ row, similarity }, label) {
  const same = !data.labelled || data.label[row] === label;
  const text = make("span", {}, named(labelOf(row), 30), make("small", {}, ` ${similarity.toFixed(3)}`));
  return make("li", { class: same ? "same" : "other", "data-row": row }, thumb(row, 56), text);
}

// Show `row` in the panel and on the map, and bring them into view if asked.
function choose(row, scroll = true) {
  const near = neighbours(row).slice(0, NEAREST);
  const picture = make("div", { class: "picture", role: "img", "aria-label": `image of ${labelOf(row)}` });
  paint(picture, row, 144);
  const path = make("code", {}, named(data.paths[row], 70));
  const list = make("ol", {}, ...near.map((entry) => neighbourEntry(entry, data.label[row])));
  const same = near.filter((entry) => data.label[entry.row] === data.label[row]).length;
  const alike = data.labelled ? "with the same label" : "in the same group";
  // images in no group have none in common
  const counted = data.hearts[data.label[row]] < 0 ? "" : `: ${same} of ${near.length} ${alike}`;
  const told = near.length ? `Nearest in the embedding space${counted}` : "No neighbours are stored for this image.";
  byId("panel").replaceChildren(
    make("div", { class: "subject" }, picture, make("div", {}, ...describe(row), path)),
    make("h3", {}, told),
    list,
  );
  byId("panel").dataset.row = row;
  setPoints("chosen", [row]);
  setPoints("near", near.map((entry) => entry.row));
  if (scroll) byId("map").scrollIntoView({ block: "start" });
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
    byId("find-result").textContent = wanted ? `${found.length} found` : "";
    if (!found.length) return;
    // The same search again goes on to the next.
    const current = found.indexOf(Number(byId("panel").dataset.row ?? -1));
    choose(found[(current + 1) % found.length], false);
  });
}
