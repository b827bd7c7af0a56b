// Pictures: tiles of WebP sheets, each sheet decoded when one of its tiles first comes into view.

const TILES = 256;
const sheetUrls = new Map();

function sheetUrl(sheet) {
  if (!sheetUrls.has(sheet)) {
    const bytes = Uint8Array.from(atob(byId(`sheet${sheet}`).textContent), (c) => c.charCodeAt(0));
    sheetUrls.set(sheet, URL.createObjectURL(new Blob([bytes], { type: "image/webp" })));
  }
  return sheetUrls.get(sheet);
}

// Draw the picture of `row` into `element`, `size` CSS pixels each way.
function paint(element, row, size) {
  const tile = data.tile[row];
  element.style.width = element.style.height = `${size}px`;
  if (tile < 0) {
    element.classList.add("missing");
    return;
  }
  const place = tile % TILES;
  element.style.backgroundImage = `url(${sheetUrl(Math.floor(tile / TILES))})`;
  element.style.backgroundSize = `${16 * size}px auto`;
  element.style.backgroundPosition = `${-(place % 16) * size}px ${-Math.floor(place / 16) * size}px`;
}

const THUMB = 64;

const inView = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      inView.unobserve(target);
      paint(target, Number(target.dataset.row), Number(target.dataset.size ?? THUMB));
    }
  },
  { rootMargin: "300px" },
);

// Give a picture its name and its place in the queue.
function prepare(button) {
  const row = Number(button.dataset.row);
  button.title = `${labelOf(row)}\n${data.paths[row]}`;
  button.setAttribute("aria-label", `image of ${labelOf(row)}; show its neighbours`);
  inView.observe(button);
}

function thumb(row, size = THUMB) {
  const button = make("button", { type: "button", class: "thumb", "data-row": row, "data-size": size });
  button.style.width = button.style.height = `${size}px`;
  prepare(button);
  return button;
}
