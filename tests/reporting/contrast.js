// The visible texts of the page whose contrast with what lies under them is less than `least`.
(least) => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const colours = new Map();
  const grounds = new Map();

  // Any CSS colour as [red, green, blue, alpha].
  function rgba(text) {
    if (!colours.has(text)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = text;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      colours.set(text, [r, g, b, a / 255]);
    }
    return colours.get(text);
  }

  const over = (top, under, opacity = 1) => under.map((part, i) => part + (top[i] - part) * top[3] * opacity);
  const opacity = (element) => (element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1);

  // The background that an element's ancestors make together.
  function ground(element) {
    if (!element) return rgba("Canvas").slice(0, 3);
    if (!grounds.has(element)) {
      const own = rgba(getComputedStyle(element).backgroundColor);
      grounds.set(element, over(own, ground(element.parentElement)));
    }
    return grounds.get(element);
  }

  // The same for a text in a drawing: also the shapes that were drawn before it, under its middle.
  function drawnGround(text) {
    const box = text.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    let found = ground(text);
    for (const shape of text.closest("svg").querySelectorAll("rect, circle")) {
      const { left, right, top, bottom } = shape.getBoundingClientRect();
      const { fill, fillOpacity, opacity } = getComputedStyle(shape);
      const before = shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING;
      if (!before || fill === "none" || x < left || x > right || y < top || y > bottom) continue;
      found = over(rgba(fill), found, fillOpacity * opacity);
    }
    return found;
  }

  function luminance(colour) {
    const [r, g, b] = colour
      .map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  }

  const faint = new Set();
  let looked = 0;

  function look(text, element, ink, under) {
    const shown = over(rgba(ink), under, opacity(element));
    const [high, low] = [luminance(shown), luminance(under)].sort((a, b) => b - a);
    looked++;
    if (high / low >= least) return;
    const place = `<${element.tagName.toLowerCase()} class="${element.getAttribute("class") ?? ""}">`;
    faint.add(`${(high / low).toFixed(2)} ${place} ${text.slice(0, 40)}`);
  }

  for (const element of document.body.querySelectorAll("*")) {
    if (element.matches("script, style, title, option") || element.closest(":disabled")) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.getBoundingClientRect().width <= 1) continue; // for screen readers only
    const style = getComputedStyle(element);
    const drawn = element instanceof SVGElement;
    const own = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const text = own.map((node) => node.data).join("").trim();
    if (text) look(text, element, drawn ? style.fill : style.color, drawn ? drawnGround(element) : ground(element));
    if (element.matches("input, select")) look(element.value, element, style.color, ground(element));
    if (element.placeholder) {
      look(element.placeholder, element, getComputedStyle(element, "::placeholder").color, ground(element));
    }
    for (const side of ["::before", "::after"]) {
      const { content, color } = getComputedStyle(element, side);
      if (!["none", "normal", '""'].includes(content)) look(content, element, color, ground(element));
    }
  }
  return { faint: [...faint], looked };
};
