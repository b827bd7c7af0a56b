// The map by keyboard: arrows go from point to point, + and − zoom, Escape clears the choice.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 4; // pixels: who is nearer than this is under the same point

const middle = ({ start, end }) => (start + end) / 2;

// Show the part of a range that has `centre` in its middle and is `zoom` times as long.
function setRange(range, centre, zoom) {
  const half = ((range.end - range.start) / 2) * zoom;
  range.setv({ start: centre - half, end: centre + half });
}

function zoom(by) {
  for (const range of [map.plot.x_range, map.plot.y_range]) setRange(range, middle(range), by);
  writeNames();
}

// The row to go to from `row` in a direction: near, and not far to the side; −1 if there is none.
function next(row, [right, down]) {
  const { x_scale: xs, y_scale: ys } = map.view.frame;
  const [sx, sy] = [xs.compute(map.x[row]), ys.compute(map.y[row])];
  let best = -1;
  let least = Infinity;
  eachPixel((other, x, y) => {
    const along = (x - sx) * right + (y - sy) * down;
    const aside = Math.abs((x - sx) * down) + Math.abs((y - sy) * right);
    const cost = along + 2 * aside;
    if (along >= STEP && aside <= along && cost < least) [best, least] = [other, cost];
  });
  return best;
}

function bringIntoView(row) {
  const { x_range: xs, y_range: ys } = map.plot;
  const { x, y } = layout(); // where it is going, should it be moving
  const outside = (range, value) => value < range.start || value > range.end;
  if (!outside(xs, x[row]) && !outside(ys, y[row])) return;
  setRange(xs, x[row], 1);
  setRange(ys, y[row], 1);
  writeNames();
}

function go(direction) {
  const row = chosenRow();
  const box = map.view.frame.bbox;
  const to = row < 0 ? nearest(box.hcenter, box.vcenter, Infinity) : next(row, direction);
  if (to >= 0) choose(to, false);
}

// To BokehJS a tool is a box with a title, and Space a long press: to a reader it is a button, and Space as good as Enter.
function nameTools() {
  for (const button of map.view.toolbar_panel.toolbar_view.tool_button_views) {
    const { el, model: { type, tool } } = button;
    el.setAttribute("role", "button");
    el.setAttribute("aria-label", el.title);
    const tell = () => el.setAttribute("aria-pressed", tool.active);
    if (type === "OnOffButton") {
      tell();
      tool.properties.active.change.connect(tell);
    }
    const press = (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      event.stopImmediatePropagation();
      button.tap();
    };
    el.addEventListener("keydown", press, { capture: true }); // before BokehJS
  }
}

function startKeys() {
  nameTools();
  const plot = byId("map-plot");
  map.view.canvas_view.events_el.tabIndex = -1; // the map itself takes the focus
  plot.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (ARROWS[event.key]) go(ARROWS[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1 / 1.5);
    else if (event.key === "-") zoom(1.5);
    else if (event.key === "Escape") clearChoice();
    else return;
    event.preventDefault();
  });
}
