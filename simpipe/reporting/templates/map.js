// The map: which points are seen and how, the nearest one to a place, and the card that follows the mouse.

const HOVER_REACH = 12;
const MOST_RINGS = 1_000; // more would hide the map; the reader can still ask for them

// x, y: where the points are now. only: the groups in focus, all where empty. seen, code: for each row, below.
const map = { plot: null, view: null, sources: {}, x: null, y: null, by: "label", only: new Set(), hide: false, seen: null, code: null };
const [HIDDEN, GREY, SHOWN] = [0, 1, 2];

const source = (name) => map.sources[name];

function setPoints(name, rows) {
  source(name).data = { x: rows.map((row) => map.x[row]), y: rows.map((row) => map.y[row]) };
}

// Colour, hide and ring the points by the colouring and the focus.
function recolour() {
  const { group, names, colour } = colouring(map.by);
  const seenOf = names.map((_, g) => (!map.only.size || map.only.has(g) ? SHOWN : map.hide ? HIDDEN : GREY));
  const codeOf = names.map((_, g) => (seenOf[g] === SHOWN ? colour(g) : FADED));
  map.seen = Uint8Array.from(group, (g) => seenOf[g]);
  map.code = Uint8Array.from(group, (g) => codeOf[g]);
  source("points").data = { x: map.x, y: map.y, code: map.code };
  for (const name of source("bright") ? ["faded", "bright"] : []) {
    const drawn = seenOf.map((seen, g) => seen !== HIDDEN && (codeOf[g] === FADED) === (name === "faded"));
    source(name).booleans = Array.from(group, (g) => drawn[g]);
  }
  ringMistakes();
  writeNames();
  redraw();
}

// Wrong is never told by colour alone.
function ringMistakes() {
  const rows = [];
  const wanted = byId("rings")?.checked;
  for (let row = 0; wanted && row < data.n; row++) {
    if (data.correct[row] === 0 && map.seen[row] === SHOWN) rows.push(row);
  }
  setPoints("mistakes", rows);
}

// Call `visit(row, x, y)` with the pixel of every point that is not hidden.
function eachPixel(visit) {
  const { x_scale: xs, y_scale: ys } = map.view.frame;
  const [x0, y0] = [xs.compute(0), ys.compute(0)];
  const [kx, ky] = [xs.compute(1) - x0, ys.compute(1) - y0];
  for (let row = 0; row < data.n; row++) {
    if (map.seen[row] !== HIDDEN) visit(row, x0 + kx * map.x[row], y0 + ky * map.y[row]);
  }
}

// The row nearest to a place on the screen, at most `reach` pixels away, in focus if it can be; else −1.
function nearest(sx, sy, reach) {
  const best = [-1, -1, -1];
  const closest = [0, reach * reach, reach * reach];
  eachPixel((row, x, y) => {
    const distance = (x - sx) ** 2 + (y - sy) ** 2;
    const seen = map.seen[row];
    if (distance < closest[seen]) [best[seen], closest[seen]] = [row, distance];
  });
  return best[SHOWN] >= 0 ? best[SHOWN] : best[GREY];
}

function answerText(row) {
  if (data.correct[row] < 0) return "";
  if (data.predicted[row] < 0) return "no answer";
  return data.correct[row] ? "✓ recognised" : "✗ taken for ";
}

// What is known of an image, as lines under its picture.
function describe(row) {
  const lines = [make("b", {}, named(labelOf(row)))];
  const query = data.correct[row] >= 0;
  const text = answerText(row);
  if (text) {
    const line = make("span", { class: data.correct[row] ? "right" : "wrong" }, text);
    if (data.correct[row] === 0 && data.predicted[row] >= 0) line.append(named(data.labels[data.predicted[row]]));
    lines.push(line);
  }
  const split = data.splits[data.split[row]];
  const [sure, vote] = [data.probability[row], data.confidence[row]];
  const certainty = Number.isNaN(sure) ? `${percent(vote)} of the vote` : `${percent(sure)} sure`;
  lines.push(make("small", {}, Number.isNaN(vote) ? split : `${split} · ${certainty}`));
  const near = data.nearest[row];
  if (!Number.isNaN(near)) lines.push(make("small", {}, `nearest${query ? " in train" : ""}: similarity ${near.toFixed(3)}`));
  if (data.finding[row] >= 0) lines.push(make("small", {}, `finding: ${data.findings[data.finding[row]]}`));
  return lines;
}

const card = byId("card");

function showCard(row, sx, sy) {
  card.hidden = row < 0;
  if (row < 0) return;
  if (card.dataset.row !== String(row)) {
    card.dataset.row = row;
    card.replaceChildren(picture(row, 96), make("div", {}, ...describe(row)));
  }
  const box = map.view.el.getBoundingClientRect();
  const [wide, high] = [card.offsetWidth, card.offsetHeight];
  const [left, top] = [box.left + sx + 16, box.top + sy + 16];
  card.style.left = `${Math.max(4, left + wide > box.right ? left - wide - 32 : left)}px`;
  card.style.top = `${top + high > innerHeight ? top - high - 32 : top}px`;
}

// What is drawn on the map follows the colours of the page.
function useTheme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => ({ value: style.getPropertyValue(`--${name}`).trim() });
  const glyph = (name) => map.plot.select_one(name).glyph;
  glyph("name_text").setv({ text_color: colour("ink"), background_fill_color: colour("paper") });
  if (source("bright")) glyph("bright_points").line_color = colour("outline");
  glyph("rings").line_color = colour("bad");
}

// Do something once before the next frame, however often it is asked for until then.
function beforeNextFrame(action) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      action();
    });
  };
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
  for (const name of ["points", "faded", "bright", "density", "mistakes", "near", "chosen", "names", "raster", "colours"]) {
    map.sources[name] = map.plot.document.get_model_by_name(name);
  }
  map.plot.on_event("mousemove", ({ sx, sy }) => showCard(nearest(sx, sy, HOVER_REACH), sx, sy));
  map.plot.on_event("mouseleave", () => showCard(-1));
  // To BokehJS a second click soon after the first is a double tap, and a slow one a press.
  for (const click of ["tap", "doubletap", "press"]) {
    map.plot.on_event(click, ({ sx, sy }) => {
      const row = nearest(sx, sy, 2 * HOVER_REACH);
      if (row >= 0) choose(row, false);
    });
  }
  map.plot.on_event("rangesupdate", soon(writeNames, 100));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", useTheme);
  if (byId("rings")) byId("rings").checked = data.correct.filter((correct) => correct === 0).length <= MOST_RINGS;
  byId("rings")?.addEventListener("change", ringMistakes);
  byId("names").addEventListener("change", writeNames);
  useTheme();
  startLayouts();
  startRaster();
  startLegend();
  startKeys();
}
