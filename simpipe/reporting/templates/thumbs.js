// Pictures: tiles of WebP sheets, each sheet decoded when one of its tiles first comes into view.

const TILES = 256;
const sheetUrls = new Map();

function sheetUrl(sheet) {
  if (!sheetUrls.has(sheet)) {
    const file = new Blob([bytes(byId(`sheet${sheet}`).textContent)], { type: "image/webp" });
    sheetUrls.set(sheet, URL.createObjectURL(file));
  }
  return sheetUrls.get(sheet);
}

// Load the sheets one by one, without decoding them: a printer does not wait for what is not loaded.
const loaded = [];
function loadSheets() {
  if (!byId(`sheet${loaded.length}`)) return;
  const image = new Image();
  image.src = sheetUrl(loaded.length);
  loaded.push(image);
  setTimeout(loadSheets, 100);
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

// A picture that is only looked at.
function picture(row, size) {
  const element = make("div", { class: "picture", role: "img", "aria-label": `image of ${labelOf(row)}` });
  paint(element, row, size);
  return element;
}

const THUMB = 64;

function paintThumb(button) {
  inView.unobserve(button);
  paint(button, Number(button.dataset.row), Number(button.dataset.size ?? THUMB));
}

const inView = new IntersectionObserver(
  (entries) => entries.filter(({ isIntersecting }) => isIntersecting).forEach(({ target }) => paintThumb(target)),
  { rootMargin: "300px" },
);

// Give a picture that can be chosen its name and its place in the queue.
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
