// Many points are drawn as one picture. Without a GPU 100,000 markers take two seconds, the picture some milliseconds.

const { ndarray } = Bokeh.require("core/util/ndarray");

// Colours such as #56B4E9 or #88888830 as the bytes R, G, B, A in one number.
const rgba = (palette) =>
  Uint32Array.from(palette, (colour) => {
    const [r, g, b, a = 255] = colour.match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16));
    return new Uint32Array(new Uint8Array([r, g, b, a]).buffer)[0];
  });

// A disc of `side` pixels each way, as steps from its first pixel: [right, up].
function disc(side) {
  const middle = (side - 1) / 2;
  const steps = [];
  for (let up = 0; up < side; up++) {
    for (let right = 0; right < side; right++) {
      if (Math.hypot(right - middle, up - middle) < side / 2 - 0.1) steps.push([right, up]);
    }
  }
  return steps;
}

function drawRaster() {
  const { x_range: xs, y_range: ys } = map.plot;
  const { width, height } = map.view.frame.bbox;
  const density = Math.min(devicePixelRatio, 2);
  const [wide, high] = [Math.round(width * density), Math.round(height * density)];
  const [dw, dh] = [xs.end - xs.start, ys.end - ys.start];
  const pixels = new Uint32Array(wide * high);
  const colours = rgba(source("colours").palette);
  const side = Math.round(source("raster").tags[0] * density);
  const steps = disc(side);
  // what is faded lies under the rest
  for (const faded of [true, false]) {
    for (let row = 0; row < data.n; row++) {
      if (map.seen[row] === HIDDEN || (map.code[row] === FADED) !== faded) continue;
      const left = Math.round(((map.x[row] - xs.start) / dw) * wide - side / 2);
      const bottom = Math.round(((map.y[row] - ys.start) / dh) * high - side / 2);
      for (const [right, up] of steps) {
        const [x, y] = [left + right, bottom + up];
        if (x >= 0 && x < wide && y >= 0 && y < high) pixels[y * wide + x] = colours[map.code[row]];
      }
    }
  }
  const image = ndarray(pixels.buffer, { dtype: "uint32", shape: [high, wide] });
  source("raster").data = { image: [image], x: [xs.start], y: [ys.start], dw: [dw], dh: [dh] };
}

const redraw = beforeNextFrame(() => {
  if (source("raster")) drawRaster();
});

function startRaster() {
  const { x_range: xs, y_range: ys } = map.plot;
  for (const signal of [xs.change, ys.change, map.plot.properties.inner_width.change]) signal.connect(redraw);
}
