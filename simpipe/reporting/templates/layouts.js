// The layouts of the map, after and before training, and the way from one to the other.

const MOVING = 300; // milliseconds
const MARGIN = 0.06;
const MOST_MOVING = 20_000;

const layouts = {};

// A layout, which is unpacked when it is first asked for.
const layout = (name = map.layout) => (layouts[name] ??= unpackLayout(raw[name]));
const neighbours = (row, name = map.layout) => layout(name).neighbours(row);

// Places come as 0…65535 across the map as it was at first.
function unpackLayout({ place, hearts, neighbours }) {
  const packed = array(Uint16Array, place);
  const along = ({ start, end }, axis) =>
    new Float32Array(data.n).map((_, row) => start + ((end - start) * packed[2 * row + axis]) / 65535);
  return { x: along(map.frame.x, 0), y: along(map.frame.y, 1), hearts, neighbours: lists(neighbours) };
}

function setPlaces(x, y) {
  Object.assign(map, { x, y });
  source("points").data = { ...source("points").data, x, y };
  redraw();
}

// Show the whole of a layout, with a margin; the tool bar's reset comes back to it.
function fit({ x, y }) {
  const { x_range: xs, y_range: ys } = map.plot;
  for (const [range, values] of data.n ? [[xs, x], [ys, y]] : []) {
    const [low, high] = [Math.min, Math.max].map((end) => values.reduce((a, b) => end(a, b)));
    const margin = MARGIN * (high - low) || 1;
    const [start, end] = [low - margin, high + margin];
    range.setv({ start, end, reset_start: start, reset_end: end });
  }
}

// Move the points to a layout: at once where they are many, or where the reader wants no motion.
function move(goal, arrived) {
  const from = { x: map.x, y: map.y };
  const began = performance.now();
  map.moving = began; // a later move ends this one
  const still = data.n > MOST_MOVING || matchMedia("(prefers-reduced-motion: reduce)").matches;
  const mix = (a, b, share) => a.map((value, row) => value + (b[row] - value) * share);
  const step = () => {
    if (map.moving !== began) return;
    const share = still ? 1 : Math.min(1, (performance.now() - began) / MOVING);
    if (share < 1) {
      const eased = share * share * (3 - 2 * share);
      setPlaces(mix(from.x, goal.x, eased), mix(from.y, goal.y, eased));
      requestAnimationFrame(step);
    } else {
      setPlaces(goal.x, goal.y);
      arrived();
    }
  };
  step();
}

function showLayout(name) {
  if (name === map.layout) return;
  map.layout = name;
  for (const button of byId("layouts").children) {
    button.setAttribute("aria-pressed", button.dataset.to === name);
  }
  for (const part of document.querySelectorAll("#map [data-layout]")) part.hidden = part.dataset.layout !== name;
  for (const layer of ["mistakes", "near", "chosen"]) setPoints(layer, []);
  source("names").data = { x: [], y: [], text: [] };
  showCard(-1);
  explore(explorer.row);
  fit(layout());
  move(layout(), () => {
    shade();
    ringMistakes();
    writeNames();
    if (chosenRow() >= 0) showChosen(chosenRow());
  });
}

function shade() {
  const url = raw.density[map.layout];
  source("density").data = { url: url ? [url] : [] };
}

function startLayouts() {
  const ends = ({ start, end }) => ({ start, end });
  map.frame = { x: ends(map.plot.x_range), y: ends(map.plot.y_range) };
  if (raw.before) {
    byId("layouts").addEventListener("click", ({ target }) => {
      if (target.dataset.to) showLayout(target.dataset.to);
    });
  }
  map.layout = "after";
  ({ x: map.x, y: map.y } = layout());
  fit(layout());
  shade();
}
