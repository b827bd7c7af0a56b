// The bar of sections says where one is, and shows that there is more of it than fits.

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

function hintAtMore() {
  bar.classList.toggle("more-left", bar.scrollLeft > 4);
  bar.classList.toggle("more-right", bar.scrollLeft + bar.clientWidth < bar.scrollWidth - 4);
}

// Go to another section and hand the focus to a part of it; the browser's Back returns.
function goTo(section, part) {
  history.pushState(null, "");
  byId(section).scrollIntoView({ block: "start" });
  part?.focus({ preventScroll: true });
}

function startNavigation() {
  addEventListener("scroll", beforeNextFrame(markSection), { passive: true });
  bar.addEventListener("scroll", hintAtMore, { passive: true });
  addEventListener("resize", hintAtMore);
  markSection();
  hintAtMore();
}
