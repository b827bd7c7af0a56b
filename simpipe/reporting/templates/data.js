// The data, and the few helpers that all parts use. Names are only ever set as text, never as markup.

const byId = (id) => document.getElementById(id);

function bytes(text) {
  const binary = atob(text);
  const found = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) found[i] = binary.charCodeAt(i);
  return found;
}

const array = (Type, text) => new Type(bytes(text).buffer);

// The JSON of an element that holds it in gzip in base64.
function unpacked(id) {
  const packed = new Blob([bytes(byId(id).textContent)]).stream();
  return new Response(packed.pipeThrough(new DecompressionStream("gzip"))).json();
}

// A distance, 65535 for 2, as similarity.
const similarityOf = (far) => 1 - (far * 2) / 65535;

// How to look up the neighbours of a row, nearest first: [{row, similarity, rank}]; a row of −1 is not on the page.
function lists({ rows, k, ids, distances }) {
  const slots = new Int32Array(raw.n).fill(-1);
  array(Int32Array, rows).forEach((row, slot) => (slots[row] = slot));
  const near = array(Int32Array, ids);
  const far = array(Uint16Array, distances);
  return (row) => {
    const found = [];
    const start = slots[row] * k;
    for (let i = start; i >= 0 && i < start + k; i++) {
      if (near[i] === -1) continue;
      found.push({ row: Math.max(near[i], -1), similarity: similarityOf(far[i]), rank: i - start + 1 });
    }
    return found;
  };
}

const raw = await unpacked("data");

const data = {
  n: raw.n,
  labelled: raw.labelled,
  labels: raw.labels,
  splits: raw.splits,
  paths: raw.paths,
  findings: raw.findings,
  colours: raw.colours,
  hearts: raw.after.hearts,
  mistakes: raw.mistakes,
  voters: raw.queries.voters,
  label: array(Int32Array, raw.label),
  split: array(Uint8Array, raw.split),
  predicted: array(Int32Array, raw.predicted),
  correct: array(Int8Array, raw.correct),
  confidence: array(Float32Array, raw.confidence),
  probability: array(Float32Array, raw.probability),
  agreement: array(Float32Array, raw.agreement),
  nearest: Float32Array.from(array(Uint16Array, raw.nearest), (far) => (far === 65535 ? NaN : similarityOf(far))),
  finding: array(Int8Array, raw.finding),
  tile: array(Int32Array, raw.tile),
};

const onPage = ({ row }) => row >= 0;
const answers = lists(raw.queries);
const labelOf = (row) => data.labels[data.label[row]];

// A share in percent, as `figure` of wording.py writes it: only all is 100.0, and only nothing is 0.0.
function figure(share) {
  const shown = (100 * share).toFixed(1), rounding = 1e-6;
  if (share < 1 - rounding && shown === "100.0") return "> 99.9";
  if (share > rounding && shown === "0.0") return "< 0.1";
  return shown;
}

const percent = (share) => `${figure(share)} %`;
const grouped = (number) => number.toLocaleString("en");

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
