// The mistakes: the query, the gallery images nearest to it, the nearest one of the true label.

const PAGE = 50;

const mistakes = { kind: "all", pair: null, rows: [], shown: 0 };

const isKind = {
  all: () => true,
  unanimous: (row) => {
    const votes = answers(row).slice(0, data.voters);
    return votes.length > 0 && votes.every((vote) => data.label[vote.row] === data.label[votes[0].row]);
  },
  close: (row) => answers(row).slice(0, data.voters).some((vote) => data.label[vote.row] === data.label[row]),
  far: (row) => answers(row).every((vote) => data.label[vote.row] !== data.label[row]),
};

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

function mistakeEntry(row) {
  const found = answers(row);
  const votes = found
    .slice(0, data.voters)
    .map((vote) => picture(vote.row, named(labelOf(vote.row), 24), vote.similarity.toFixed(3)));
  const sure = data.confidence[row];
  const verdict = make("p", {}, "✗ ", named(labelOf(row), 40), " taken for ");
  verdict.append(data.predicted[row] < 0 ? "nothing" : named(data.labels[data.predicted[row]], 40));
  if (!Number.isNaN(sure)) verdict.append(` · ${percent(sure)} of the vote`);
  const evidence = make("div", { class: "evidence" });
  evidence.append(
    make("div", { class: "query" }, thumb(row, 96)),
    make("div", { class: "votes" }, make("h4", {}, "nearest"), ...votes),
    make("div", { class: "truth" }, make("h4", {}, "true label"), trueSide(row, found)),
  );
  return make("li", { "data-row": row }, verdict, make("code", {}, named(data.paths[row], 70)), evidence);
}

function moreMistakes() {
  const next = mistakes.rows.slice(mistakes.shown, mistakes.shown + PAGE);
  byId("mistake-list").append(...next.map(mistakeEntry));
  mistakes.shown += next.length;
  byId("more-mistakes").hidden = mistakes.shown >= mistakes.rows.length;
}

function filterMistakes() {
  const { pair } = mistakes;
  mistakes.rows = data.mistakes.filter(
    (row) => isKind[mistakes.kind](row) && (!pair || (data.label[row] === pair[0] && data.predicted[row] === pair[1])),
  );
  mistakes.shown = 0;
  byId("mistake-list").replaceChildren();
  byId("mistake-count").textContent = `${mistakes.rows.length} of ${data.mistakes.length}`;
  const chip = byId("mistake-pair");
  chip.hidden = !pair;
  if (pair) chip.firstChild.replaceChildren(named(data.labels[pair[0]], 24), " → ", named(data.labels[pair[1]], 24));
  for (const button of byId("mistake-filters").querySelectorAll("[data-show]")) {
    button.setAttribute("aria-pressed", button.dataset.show === mistakes.kind);
  }
  moreMistakes();
}

function choosePair(cell) {
  mistakes.pair = [Number(cell.dataset.true), Number(cell.dataset.predicted)];
  mistakes.kind = "all";
  filterMistakes();
  focusLabels(mistakes.pair);
  byId("mistakes").scrollIntoView({ block: "start" });
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
  for (const cell of document.querySelectorAll(".matrix [data-true]")) {
    cell.addEventListener("click", () => choosePair(cell));
    cell.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choosePair(cell);
    });
  }
  filterMistakes();
}
