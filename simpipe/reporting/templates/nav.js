// The bar of sections says where one is, the browser's Back returns, and what can be scrolled shows that it can.

const bar = byId("sections");

function markSection() {
  const line = bar.getBoundingClientRect().bottom + 24;
  const links = [...bar.querySelectorAll("a")];
  const passed = links.filter((link) => byId(link.hash.slice(1)).getBoundingClientRect().top <= line);
  const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  const current = atEnd ? links.at(-1) : passed.at(-1);
  const before = bar.querySelector("[aria-current]");
  if (current === before) return;
  before?.removeAttribute("aria-current");
  current?.setAttribute("aria-current", "location");
  if (current) bar.scrollLeft = current.offsetLeft - bar.clientWidth / 2;
}

function hintAtMore(box) {
  box.classList.toggle("more-left", box.scrollLeft > 4);
  box.classList.toggle("more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - 4);
}

// A box is a stop of the tab key only while something in it scrolls; the bar has links to stop at.
function watchScroll(box) {
  const fitted = () => {
    hintAtMore(box);
    if (box === bar) return;
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (scrolls) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  };
  box.addEventListener("scroll", () => hintAtMore(box), { passive: true });
  const sizes = new ResizeObserver(fitted);
  for (const each of [box, ...box.children]) sizes.observe(each);
}

const load = performance.timeOrigin;
const focused = []; // what had the focus at an entry of the browser's history; that entry's state has its place here
const remember = (element) => ({ load, place: focused.push(element) - 1 });

// Go to another section and hand the focus to a part of it; the browser's Back returns, and so does the focus.
function goTo(section, part) {
  history.replaceState(remember(document.activeElement), "");
  history.pushState(remember(part), "");
  byId(section).scrollIntoView({ block: "start" });
  part?.focus({ preventScroll: true });
}

function startNavigation() {
  addEventListener("scroll", beforeNextFrame(markSection), { passive: true });
  addEventListener("popstate", ({ state }) => {
    if (state?.load === load) focused[state.place]?.focus({ preventScroll: true });
  });
  for (const box of [bar, ...document.querySelectorAll(".scroll")]) watchScroll(box);
  markSection();
}
