// The mistakes: the query, the gallery images nearest to it, the nearest one of the true label.

const PAGE = 20;

const evidence = {
  kinds: new Map(Object.entries(raw.evidence.kinds)),
  probability: new Map(Object.entries(raw.evidence.probability)),
  also: new Map(Object.entries(raw.evidence.also)),
};

const mistakes = { kind: "all", pair: null, rows: [], shown: 0 };

function captioned(row, caption, note) {
  return make("figure", {}, thumb(row), make("figcaption", {}, caption, make("small", {}, note)));
}

// The nearest image of the true label among the stored answers, or any image of it to compare with.
function trueSide(row, found) {
  const own = found.find((vote) => data.label[vote.row] === data.label[row]);
  if (own) return captioned(own.row, named(labelOf(row), 24), `rank ${own.rank}, ${own.similarity.toFixed(3)}`);
  const train = data.splits.indexOf("train");
  const example = data.label.findIndex((label, other) => label === data.label[row] && data.split[other] === train);
  const of = found.every(onPage) ? `the ${found.length} nearest` : "the nearest on this page";
  const why = found.length ? `not among ${of}` : "no neighbours stored";
  return example < 0
    ? make("p", { class: "empty" }, "no image of this label in train")
    : captioned(example, named(labelOf(row), 24), `${why}; an example`);
}

// How sure the answer was: the calibrated probability where there is one, and how the nearest voted.
function sureness(row, votes) {
  const chance = evidence.probability.get(String(row));
  const agree = votes.filter((vote) => data.label[vote.row] === data.predicted[row]).length;
  const said = chance === undefined ? [] : [`${percent(chance)} sure`];
  if (votes.length) said.push(`${agree} of ${votes.length} nearest agree`);
  return said.join(" · ");
}

function mistakeTitle(row, found, votes) {
  const line = make("p", {});
  if (data.correct[row] === 0) {
    line.append("✗ ", named(labelOf(row), 40), " taken for ");
    line.append(data.predicted[row] < 0 ? "nothing" : named(data.labels[data.predicted[row]], 40));
  } else {
    const near = found.length ? ` at similarity ${found[0].similarity.toFixed(3)}` : "";
    line.append("– ", named(labelOf(row), 40), ` would be right, and is called unknown${near}`);
  }
  line.append(make("small", {}, ` ${sureness(row, votes)}`));
  for (const title of evidence.also.get(String(row)) ?? []) line.append(" ", make("small", { class: "badge" }, title));
  return line;
}

function mistakeEntry(row) {
  const found = answers(row);
  const votes = found.slice(0, data.voters).filter(onPage);
  const voter = (vote) => captioned(vote.row, named(labelOf(vote.row), 24), vote.similarity.toFixed(3));
  const shown = make("div", { class: "evidence" });
  shown.append(
    make("div", { class: "query" }, thumb(row, 96)),
    make("div", { class: "votes" }, make("h4", {}, "nearest"), ...votes.map(voter)),
    make("div", { class: "truth" }, make("h4", {}, "true label"), trueSide(row, found)),
  );
  const item = make("li", { "data-row": row, tabindex: "-1" });
  item.append(mistakeTitle(row, found, votes), make("code", {}, named(data.paths[row], 70)), shown);
  return item;
}

function moreMistakes() {
  const next = mistakes.rows.slice(mistakes.shown, mistakes.shown + PAGE);
  byId("mistake-list").append(...next.map(mistakeEntry));
  mistakes.shown += next.length;
  const left = mistakes.rows.length - mistakes.shown;
  byId("more-mistakes").hidden = !left;
  byId("more-mistakes").textContent = left > PAGE ? `Show ${PAGE} more of ${grouped(left)}` : `Show ${left} more`;
}

// Of all mistakes, one is in the order of the tab key.
function atHand(item) {
  byId("mistake-list").querySelector(":scope > [tabindex='0']")?.setAttribute("tabindex", "-1");
  item?.setAttribute("tabindex", "0");
  return item;
}

function filterMistakes() {
  const { pair, kind } = mistakes;
  const rows = kind === "all" ? data.mistakes : evidence.kinds.get(kind);
  mistakes.rows = rows.filter((row) => !pair || (data.label[row] === pair[0] && data.predicted[row] === pair[1]));
  mistakes.shown = 0;
  byId("mistake-list").replaceChildren();
  byId("mistake-count").textContent = pair ? `${mistakes.rows.length} of ${rows.length}` : "";
  const chip = byId("mistake-pair");
  chip.hidden = !pair;
  if (pair) chip.firstChild.replaceChildren(named(data.labels[pair[0]], 24), " → ", named(data.labels[pair[1]], 24));
  for (const button of byId("mistake-filters").querySelectorAll("[data-show]")) {
    button.setAttribute("aria-pressed", button.dataset.show === kind);
    const about = byId(`about-${button.dataset.show}`);
    if (about) about.hidden = button.dataset.show !== kind;
  }
  moreMistakes();
  atHand(byId("mistake-list").firstChild);
}

function choosePair(cell) {
  mistakes.pair = [Number(cell.dataset.true), Number(cell.dataset.predicted)];
  mistakes.kind = "all";
  filterMistakes();
  focusLabels(mistakes.pair);
  goTo("mistakes", byId("mistake-list").firstChild);
}

const STEPS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

// The arrow keys go from mistake to mistake; one of them is in the order of the tab key.
function stepThrough(event) {
  const step = STEPS[event.key];
  const current = event.target.closest("#mistake-list > li");
  if (!step || !current) return;
  event.preventDefault();
  if (step > 0 && !current.nextSibling) moreMistakes();
  atHand((step > 0 ? current.nextSibling : current.previousSibling) ?? current).focus();
}

function clearPair() {
  mistakes.pair = null;
  if (map.by === "label") focusLabels([]);
  byId("mistake-filters").querySelector("[data-show][aria-pressed=true]").focus();
}

function startMistakes() {
  if (!byId("mistake-list")) return;
  byId("mistake-filters").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    if (button.dataset.show) mistakes.kind = button.dataset.show;
    else clearPair();
    filterMistakes();
  });
  byId("more-mistakes").addEventListener("click", () => {
    const first = mistakes.shown;
    moreMistakes();
    atHand(byId("mistake-list").children[first])?.focus({ preventScroll: true });
  });
  byId("mistake-list").addEventListener("keydown", stepThrough);
  for (const cell of document.querySelectorAll("[data-true]")) {
    cell.addEventListener("click", () => choosePair(cell));
    if (cell.tagName === "BUTTON") continue; // a button takes the keys itself
    cell.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choosePair(cell);
    });
  }
  filterMistakes();
}
