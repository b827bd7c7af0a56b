// What the points can be coloured by. To add one, add an entry to COLOURINGS, and to `data` what it reads.

const FADED = 8;
const AMOUNT = 9; // the first of eleven colours for amounts, from little to much
const TENTHS = 11;
const NOT_TESTED = "not tested";

// Shares to the nearest tenth, the most first; `none` is the name of those without one.
function shares(values, none) {
  const edge = (g) => Math.max(0, Math.min(100, 105 - 10 * g));
  const tenth = (share) => (Number.isNaN(share) ? TENTHS : 10 - Math.round(10 * share));
  return {
    group: Uint8Array.from(values, tenth),
    names: [...Array.from({ length: TENTHS }, (_, g) => `${edge(g + 1)}–${edge(g)} %`), none],
    colour: (g) => (g === TENTHS ? FADED : AMOUNT + 10 - g),
  };
}

// Amounts in ten groups of one size, the most first.
function deciles(values, none) {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const ends = sorted.length ? Array.from({ length: 11 }, (_, i) => at(1 - i / 10)) : [];
  const decile = (value) => (Number.isNaN(value) ? 10 : Math.min(9, ends.slice(1).findIndex((end) => value >= end)));
  return {
    group: Uint8Array.from(values, decile),
    names: [...ends.slice(1).map((end, i) => `${end.toFixed(3)}–${ends[i].toFixed(3)}`), none],
    colour: (g) => (g === 10 ? FADED : AMOUNT + 10 - g),
  };
}

const asked = data.correct.some((correct) => correct >= 0);

// title: what the list says. fits: whether these data have it. make: the group of each row, the groups'
// names, and the colour of a group, 0…7 for kinds. sorted: whether the groups with most mistakes come first.
const COLOURINGS = {
  label: {
    title: data.labelled ? "label" : "group",
    fits: true,
    sorted: true,
    make: () => ({ group: data.label, names: data.labels, colour: (g) => data.colours[g] }),
  },
  prediction: {
    title: "prediction",
    fits: asked,
    sorted: true,
    make: () => {
      const [unanswered, unasked] = [data.labels.length, data.labels.length + 1];
      return {
        group: data.predicted.map((g, row) => (data.correct[row] < 0 ? unasked : g < 0 ? unanswered : g)),
        names: [...data.labels, "no answer", NOT_TESTED],
        colour: (g) => data.colours[g] ?? FADED,
      };
    },
  },
  outcome: {
    title: "right / wrong",
    fits: asked,
    make: () => ({
      group: data.correct.map((correct) => (correct < 0 ? 2 : 1 - correct)),
      names: ["right", "wrong", NOT_TESTED],
      colour: (g) => [1, 5, FADED][g],
    }),
  },
  confidence: {
    title: "confidence: share of the vote",
    fits: asked,
    make: () => shares(data.confidence, NOT_TESTED),
  },
  probability: {
    title: "probability of being right",
    fits: data.probability.some((chance) => chance >= 0),
    make: () => shares(data.probability, "no probability"),
  },
  agreement: {
    title: "neighbours with its label",
    fits: data.labelled,
    make: () => shares(data.agreement, "no neighbours"),
  },
  similarity: {
    title: "similarity of the nearest",
    fits: true,
    make: () => deciles(data.nearest, "no neighbours"),
  },
  split: {
    title: "split",
    fits: true,
    make: () => ({ group: data.split, names: data.splits, colour: (g) => g % FADED }),
  },
  finding: {
    title: "finding",
    fits: data.findings.length > 0,
    make: () => ({
      group: data.finding.map((kind) => (kind < 0 ? data.findings.length : kind)),
      names: [...data.findings, "none"],
      colour: (g) => (g === data.findings.length ? FADED : g % FADED),
    }),
  },
};

const made = {};

// A colouring that is ready to use.
const colouring = (name) => (made[name] ??= { ...COLOURINGS[name], ...COLOURINGS[name].make() });
