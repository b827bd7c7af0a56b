// The map: colours, legend, hover card, and the choice of an image.

const FADED = 8;
const HOVER_REACH = 12;
const MOST_NAMES = 60;

const map = { plot: null, view: null, sources: {}, x: null, y: null, colourBy: "label", only: new Set() };

const OUTCOMES = ["right", "wrong", "no query"];
const OUTCOME_COLOURS = [1, 5, FADED];

// What the points are grouped by: the group of a row, the groups' names and colours.
const groupings = {
  label: { of: (row) => data.label[row], names: data.labels, colour: (group) => data.colours[group] },
  split: { of: (row) => data.split[row], names: data.splits, colour: (group) => group % FADED },
  outcome: {
    of: (row) => (data.correct[row] < 0 ? 2 : 1 - data.correct[row]),
    names: OUTCOMES,
    colour: (group) => OUTCOME_COLOURS[group],
  },
};

const grouping = () => groupings[map.colourBy];
const shown = (row) => !map.only.size || map.only.has(grouping().of(row));

function setPoints(name, rows) {
  map.sources[name].data = { x: rows.map((row) => map.x[row]), y: rows.map((row) => map.y[row]) };
}

function recolour() {
  const { of, colour } = grouping();
  const code = new Uint8Array(data.n);
  for (let row = 0; row < data.n; row++) code[row] = shown(row) ? colour(of(row)) : FADED;
  map.sources.points.data = { ...map.sources.points.data, code };
  // Wrong is never told by colour alone.
  setPoints("mistakes", map.colourBy === "outcome" ? data.mistakes.filter(shown) : []);
  nameGroups();
}

// Write label names beside their middles, large labels first, none over another.
function nameGroups() {
  const names = { x: [], y: [], text: [] };
  if (map.colourBy === "label") {
    const size = new Map();
    for (const label of data.label) size.set(label, (size.get(label) ?? 0) + 1);
    const taken = [];
    const { x_scale: xs, y_scale: ys } = map.view.frame;
    for (const label of [...size.keys()].sort((a, b) => size.get(b) - size.get(a))) {
      const row = data.hearts[label];
      if (row < 0 || !shown(row) || names.text.length >= MOST_NAMES) continue;
      const whole = data.labels[label];
      const text = whole.length > 22 ? `${whole.slice(0, 21)}…` : whole;
      const box = { x: xs.compute(map.x[row]), y: ys.compute(map.y[row]), w: 4 * text.length + 6, h: 9 };
      if (taken.some((b) => Math.abs(b.x - box.x) < b.w + box.w && Math.abs(b.y - box.y) < b.h + box.h)) continue;
      taken.push(box);
      names.x.push(map.x[row]);
      names.y.push(map.y[row]);
      names.text.push(text);
    }
  }
  map.sources.names.data = names;
}

// The row nearest to a place on the screen, at most `reach` pixels away; -1 if there is none.
function nearest(sx, sy, reach) {
  const { x_scale: xs, y_scale: ys } = map.view.frame;
  const [x0, y0] = [xs.compute(0), ys.compute(0)];
  const [kx, ky] = [xs.compute(1) - x0, ys.compute(1) - y0];
  let best = -1;
  let closest = reach * reach;
  for (let row = 0; row < data.n; row++) {
    const dx = x0 + kx * map.x[row] - sx;
    const dy = y0 + ky * map.y[row] - sy;
    const distance = dx * dx + dy * dy;
    if (distance < closest && shown(row)) [best, closest] = [row, distance];
  }
  return best;
}

function answerText(row) {
  if (data.correct[row] < 0) return "";
  if (data.predicted[row] < 0) return "no answer";
  return data.correct[row] ? "✓ recognised" : "✗ taken for ";
}

// What is known of an image, as lines under its picture.
function describe(row) {
  const lines = [make("b", {}, named(labelOf(row)))];
  const text = answerText(row);
  if (text) {
    const line = make("span", { class: data.correct[row] ? "right" : "wrong" }, text);
    if (data.correct[row] === 0 && data.predicted[row] >= 0) line.append(named(data.labels[data.predicted[row]]));
    lines.push(line);
  }
  const sure = data.confidence[row];
  const split = data.splits[data.split[row]];
  lines.push(make("small", {}, Number.isNaN(sure) ? split : `${split} · ${percent(sure)} of the vote`));
  return lines;
}

const card = byId("card");

function showCard(row, sx, sy) {
  card.hidden = row < 0;
  if (row < 0) return;
  if (card.dataset.row !== String(row)) {
    card.dataset.row = row;
    const picture = make("div", { class: "picture" });
    paint(picture, row, 96);
    card.replaceChildren(picture, make("div", {}, ...describe(row)));
  }
  const box = map.view.el.getBoundingClientRect();
  const [left, top] = [box.left + sx + 16, box.top + sy + 16];
  card.style.left = `${Math.max(4, Math.min(left, innerWidth - card.offsetWidth - 8))}px`;
  card.style.top = `${top + card.offsetHeight > innerHeight ? top - card.offsetHeight - 32 : top}px`;
}

function legend() {
  const { of, names, colour } = grouping();
  const total = new Array(names.length).fill(0);
  const wrong = new Array(names.length).fill(0);
  for (let row = 0; row < data.n; row++) {
    total[of(row)]++;
    if (data.correct[row] === 0) wrong[of(row)]++;
  }
  const order = names.map((_, group) => group).filter((group) => total[group]);
  if (map.colourBy === "label") order.sort((a, b) => wrong[b] - wrong[a] || total[b] - total[a]);
  // images in no group stand last
  if (map.colourBy === "label") order.sort((a, b) => (data.hearts[a] < 0) - (data.hearts[b] < 0));
  byId("legend-list").replaceChildren(...order.map((group) => legendEntry(group, names, colour, total, wrong)));
  byId("label-name").closest("label").hidden = map.colourBy !== "label";
  filterLegend();
}

function legendEntry(group, names, colour, total, wrong) {
  const button = make("button", { type: "button", "aria-pressed": map.only.has(group) });
  const counts = wrong[group] && map.colourBy !== "outcome" ? `${total[group]} · ${wrong[group]} wrong` : `${total[group]}`;
  button.append(make("i", { class: `swatch colour${colour(group)}` }), named(names[group], 28), make("small", {}, counts));
  button.addEventListener("click", () => {
    if (!map.only.delete(group)) map.only.add(group);
    focusChanged();
  });
  const item = make("li", {}, button);
  item.dataset.group = group;
  return item;
}

function focusChanged() {
  for (const item of byId("legend-list").children) {
    item.firstChild.setAttribute("aria-pressed", map.only.has(Number(item.dataset.group)));
  }
  byId("show-all").disabled = !map.only.size;
  recolour();
}

function filterLegend() {
  const wanted = map.colourBy === "label" ? byId("label-name").value.toLowerCase() : "";
  for (const item of byId("legend-list").children) {
    const name = grouping().names[Number(item.dataset.group)];
    item.hidden = !name.toLowerCase().includes(wanted);
  }
}

// Show only these labels, others grey; used by the matrix.
function focusLabels(labels) {
  byId("colour-by").value = map.colourBy = "label";
  map.only = new Set(labels);
  legend();
  focusChanged();
}

function inkOfNames() {
  const style = getComputedStyle(document.documentElement);
  const text = map.plot.select_one("name_text").glyph;
  text.text_color = { value: style.getPropertyValue("--ink").trim() };
  text.background_fill_color = { value: style.getPropertyValue("--paper").trim() };
}

function soon(action, wait) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, wait);
  };
}

async function startMap() {
  const views = await Bokeh.embed.embed_item(JSON.parse(byId("plot").textContent));
  map.view = [...views][0];
  map.plot = map.view.model;
  if (innerWidth < 700) map.plot.height = 380;
  for (const name of ["points", "mistakes", "near", "chosen", "names"]) {
    map.sources[name] = map.plot.document.get_model_by_name(name);
  }
  ({ x: map.x, y: map.y } = map.sources.points.data);
  map.plot.on_event("mousemove", ({ sx, sy }) => showCard(nearest(sx, sy, HOVER_REACH), sx, sy));
  map.plot.on_event("mouseleave", () => showCard(-1));
  map.plot.on_event("tap", ({ sx, sy }) => {
    const row = nearest(sx, sy, 2 * HOVER_REACH);
    if (row >= 0) choose(row, false);
  });
  map.plot.on_event("rangesupdate", soon(nameGroups, 100));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", inkOfNames);
  byId("colour-by").addEventListener("change", (event) => {
    map.colourBy = event.target.value;
    map.only.clear();
    legend();
    focusChanged();
  });
  for (const button of document.querySelectorAll("[data-group]")) {
    button.addEventListener("click", () => {
      focusLabels([Number(button.dataset.group)]);
      byId("map").scrollIntoView({ block: "start" });
    });
  }
  byId("label-name").addEventListener("input", filterLegend);
  byId("show-all").addEventListener("click", () => {
    map.only.clear();
    focusChanged();
  });
  inkOfNames();
  legend();
  recolour();
}
