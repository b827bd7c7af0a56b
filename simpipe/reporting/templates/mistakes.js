// The mistakes: the query, the gallery images nearest to it, the nearest one of the true label.

const PAGE = 50;

const evidence = {
  kinds: new Map(Object.entries(raw.evidence.kinds)),
  probability: new Map(Object.entries(raw.evidence.probability)),
  also: new Map(Object.entries(raw.evidence.also)),
};

const mistakes = { kind: "all", pair: null, rows: [], shown: 0 };

function picture(row, caption, note) {
  return make("figure", {}, thumb(row), make("figcaption", {}, caption, make("small", {}, note)));
}

// The nearest image of the true label among the stored answers, or any image of it to compare with.
function trueSide(row, found) {
  const rank = found.findIndex((vote) => data.label[vote.row] === data.label[row]);
  if (rank >= 0) {
    return picture(found[rank].row, named(labelOf(row), 24), `rank ${rank + 1}, ${found[rank].similarity.toFixed(3)}`);
  }
  const train = data.splits.indexOf("train");
  const example = data.label.findIndex((label, other) => label === data.label[row] && data.split[other] === train);
  const why = found.length ? `not among the ${found.length} nearest` : "no neighbours stored";
  return example < 0
    ? make("p", { class: "empty" }, "no image of this label in train")
    : picture(example, named(labelOf(row), 24), `${why}; an example`);
}

// How sure the answer was: the calibrated probability where there is one, and how the nearest voted.
function sureness(row, found) {
  const chance = evidence.probability.get(String(row));
  const votes = found.slice(0, data.voters);
  const agree = votes.filter((vote) => data.label[vote.row] === data.predicted[row]).length;
  const said = chance === undefined ? [] : [`${percent(chance)} sure`];
  if (votes.length) said.push(`${agree} of ${votes.length} nearest agree`);
  return said.join(" · ");
}

function mistakeTitle(row, found) {
  const line = make("p", {});
  if (data.correct[row] === 0) {
    line.append("✗ ", named(labelOf(row), 40), " taken for ");
    line.append(data.predicted[row] < 0 ? "nothing" : named(data.labels[data.predicted[row]], 40));
  } else {
    const near = found.length ? ` at similarity ${found[0].similarity.toFixed(3)}` : "";
    line.append("– ", named(labelOf(row), 40), ` would be right, and is called unknown${near}`);
  }
  line.append(make("small", {}, ` ${sureness(row, found)}`));
  for (const title of evidence.also.get(String(row)) ?? []) line.append(" ", make("small", { class: "badge" }, title));
  return line;
}

function mistakeEntry(row) {
  const found = answers(row);
  const votes = found
    .slice(0, data.voters)
    .map((vote) => picture(vote.row, named(labelOf(vote.row), 24), vote.similarity.toFixed(3)));
  const shown = make("div", { class: "evidence" });
  shown.append(
    make("div", { class: "query" }, thumb(row, 96)),
    make("div", { class: "votes" }, make("h4", {}, "nearest"), ...votes),
    make("div", { class: "truth" }, make("h4", {}, "true label"), trueSide(row, found)),
  );
  const item = make("li", { "data-row": row, tabindex: "-1" });
  item.append(mistakeTitle(row, found), make("code", {}, named(data.paths[row], 70)), shown);
  return item;
}

function moreMistakes() {
  const next = mistakes.rows.slice(mistakes.shown, mistakes.shown + PAGE);
  byId("mistake-list").append(...next.map(mistakeEntry));
  mistakes.shown += next.length;
  byId("more-mistakes").hidden = mistakes.shown >= mistakes.rows.length;
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
  byId("mistake-list").firstChild?.setAttribute("tabindex", "0");
}

function choosePair(cell) {
  mistakes.pair = [Number(cell.dataset.true), Number(cell.dataset.predicted)];
  mistakes.kind = "all";
  filterMistakes();
  focusLabels(mistakes.pair);
  byId("mistakes").scrollIntoView({ block: "start" });
}

const STEPS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

// The arrow keys go from mistake to mistake; one of them is in the order of the tab key.
function stepThrough(event) {
  const step = STEPS[event.key];
  const current = event.target.closest("#mistake-list > li");
  if (!step || !current) return;
  event.preventDefault();
  if (step > 0 && !current.nextSibling) moreMistakes();
  const next = step > 0 ? current.nextSibling : current.previousSibling;
  if (!next) return;
  current.setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  next.focus();
}

function startMistakes() {
  if (!byId("mistake-list")) return;
  byId("mistake-filters").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    if (button.dataset.show) mistakes.kind = button.dataset.show;
    else {
      mistakes.pair = null;
      focusLabels([]);
    }
    filterMistakes();
  });
  byId("more-mistakes").addEventListener("click", moreMistakes);
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
