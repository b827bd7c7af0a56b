// The data, and the few helpers that all parts use. Names are only ever set as text, never as markup.

const byId = (id) => document.getElementById(id);

function array(Type, text) {
  return new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}

function lists({ k, ids, distances }) {
  const rows = array(Int32Array, ids);
  const far = array(Uint16Array, distances);
  // The neighbours of one slot, nearest first: [{row, similarity}].
  return (slot) => {
    const found = [];
    for (let i = slot * k; slot >= 0 && i < (slot + 1) * k; i++) {
      if (rows[i] >= 0) found.push({ row: rows[i], similarity: 1 - (far[i] * 2) / 65535 });
    }
    return found;
  };
}

const raw = JSON.parse(byId("data").textContent);

const data = {
  n: raw.n,
  labelled: raw.labelled,
  labels: raw.labels,
  splits: raw.splits,
  paths: raw.paths,
  colours: raw.colours,
  hearts: raw.hearts,
  mistakes: raw.mistakes,
  voters: raw.queries.voters,
  side: raw.side,
  label: array(Int32Array, raw.label),
  split: array(Uint8Array, raw.split),
  predicted: array(Int32Array, raw.predicted),
  correct: array(Int8Array, raw.correct),
  confidence: array(Float32Array, raw.confidence),
  tile: array(Int32Array, raw.tile),
};

const slotOf = array(Int32Array, raw.neighbours.slot);
const neighboursInSlot = lists(raw.neighbours);
const answersInSlot = lists(raw.queries);
const queryOf = new Map([...array(Int32Array, raw.queries.rows)].map((row, slot) => [row, slot]));

const neighbours = (row) => neighboursInSlot(slotOf[row]);
const answers = (row) => answersInSlot(queryOf.get(row) ?? -1);
const labelOf = (row) => data.labels[data.label[row]];

const percent = (share) => `${(100 * share).toFixed(1)} %`;

// A new element: `attributes` are set as they are, `children` are nodes or text.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A name from the data, cut to `limit` characters, whole in its tooltip.
function named(text, limit = 60) {
  const cut = text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
  return make("bdi", cut === text ? { class: "name" } : { class: "name", title: text }, cut);
}
