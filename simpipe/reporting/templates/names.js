// The names of the labels, each beside the middle of its images.

const MOST_NAMES = 60;
const NAME_LENGTH = 22;

// The labels, those of most images first.
const bySize = (() => {
  const size = new Array(data.labels.length).fill(0);
  for (const label of data.label) size[label]++;
  return size.map((_, label) => label).sort((a, b) => size[b] - size[a]);
})();

// Write as many names as the view has room for, none over another: to zoom in shows more.
function writeNames() {
  const names = { x: [], y: [], text: [] };
  const taken = [];
  const { x_scale: xs, y_scale: ys, bbox } = map.view.frame;
  const inFocus = (label) => map.by !== "label" || !map.only.size || map.only.has(label);
  for (const label of byId("names").checked ? bySize : []) {
    const row = layout().hearts[label];
    if (row < 0 || !inFocus(label) || taken.length >= MOST_NAMES) continue;
    const [x, y] = [xs.compute(map.x[row]), ys.compute(map.y[row])];
    if (!bbox.contains(x, y)) continue;
    const whole = data.labels[label];
    const text = whole.length > NAME_LENGTH ? `${whole.slice(0, NAME_LENGTH - 1)}…` : whole;
    const box = { x, y, w: 4 * text.length + 6, h: 9 };
    if (taken.some((b) => Math.abs(b.x - x) < b.w + box.w && Math.abs(b.y - y) < b.h + box.h)) continue;
    taken.push(box);
    names.x.push(map.x[row]);
    names.y.push(map.y[row]);
    names.text.push(text);
  }
  source("names").data = names;
}
