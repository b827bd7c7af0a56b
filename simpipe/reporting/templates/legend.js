// The list of colourings, and the legend: find a group, focus on some, grey or hide the others.

const SEARCHED_FROM = 12;

function legend() {
  const { group, names, colour, sorted } = colouring(map.by);
  const total = new Array(names.length).fill(0);
  const tested = new Array(names.length).fill(0);
  const wrong = new Array(names.length).fill(0);
  for (let row = 0; row < data.n; row++) {
    total[group[row]]++;
    if (data.correct[row] >= 0) tested[group[row]]++;
    if (data.correct[row] === 0) wrong[group[row]]++;
  }
  const order = names.map((_, g) => g).filter((g) => total[g]);
  // the rest, which is no label or group, stands last
  const rest = (g) => sorted && (data.hearts[g] ?? -1) < 0;
  if (sorted) order.sort((a, b) => rest(a) - rest(b) || wrong[b] - wrong[a] || total[b] - total[a]);
  const mistaken = (g) => {
    if (!wrong[g] || map.by === "outcome") return "";
    const of = tested[g] < total[g] ? ` of ${grouped(tested[g])}` : "";
    return ` · ${grouped(wrong[g])}${of} wrong`;
  };
  const entry = (g) => legendEntry(g, names[g], colour(g), grouped(total[g]) + mistaken(g));
  byId("legend-list").replaceChildren(...order.map(entry));
  byId("label-name").closest("label").hidden = order.length < SEARCHED_FROM;
  byId("label-name").value = "";
  focusChanged();
}

function legendEntry(g, name, colour, counts) {
  const button = make("button", { type: "button" });
  button.append(make("i", { class: `swatch colour${colour}` }), named(name, 28), make("small", {}, counts));
  button.addEventListener("click", () => {
    if (!map.only.delete(g)) map.only.add(g);
    focusChanged();
  });
  const item = make("li", {}, button);
  item.dataset.group = g;
  return item;
}

function focusChanged() {
  for (const item of byId("legend-list").children) {
    item.firstChild.setAttribute("aria-pressed", map.only.has(Number(item.dataset.group)));
  }
  for (const button of byId("others").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", (button.dataset.others === "hidden") === map.hide);
  }
  filterLegend();
  recolour();
}

function filterLegend() {
  const wanted = byId("label-name").value.toLowerCase();
  for (const item of byId("legend-list").children) {
    const name = colouring(map.by).names[Number(item.dataset.group)];
    item.hidden = !name.toLowerCase().includes(wanted);
  }
  byId("show-all").disabled = !map.only.size && !map.hide && !wanted;
}

function colourBy(name, groups = []) {
  byId("colour-by").value = map.by = name;
  map.only = new Set(groups);
  legend();
}

// Show only these labels, others grey; used by the matrix and the groups.
const focusLabels = (labels) => colourBy("label", labels);

function startLegend() {
  const fitting = Object.entries(COLOURINGS).filter(([, { fits }]) => fits);
  byId("colour-by").append(...fitting.map(([name, { title }]) => make("option", { value: name }, title)));
  byId("colour-by").addEventListener("change", (event) => colourBy(event.target.value));
  byId("label-name").addEventListener("input", filterLegend);
  byId("others").addEventListener("click", ({ target }) => {
    if (!target.dataset.others) return;
    map.hide = target.dataset.others === "hidden";
    focusChanged();
  });
  byId("show-all").addEventListener("click", () => {
    map.hide = false;
    colourBy(map.by);
  });
  for (const button of document.querySelectorAll("[data-group]")) {
    button.addEventListener("click", () => {
      focusLabels([Number(button.dataset.group)]);
      goTo("map", byId("legend-list").querySelector("[aria-pressed=true]"));
    });
  }
  colourBy("label");
}
