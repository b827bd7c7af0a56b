// The picker of a threshold: slider, two fields and buttons set a distance; everything else follows.

// The 95 % interval of a share of some trials, after Wilson.
function wilson(hits, of) {
  const z = 1.959964, share = hits / of, spread = (z * z) / of;
  const centre = (share + spread / 2) / (1 + spread);
  const half = (z / (1 + spread)) * Math.sqrt((share * (1 - share)) / of + spread / (4 * of));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

const ratio = (hits, of) => (of ? percent(hits / of) : "–");
const outOf = (hits, of, noun) => `${grouped(hits)} of ${grouped(of)} ${noun}${of === 1 ? "" : "s"}`;

const share = (hits, of, noun) => `${outOf(hits, of, noun)} (${ratio(hits, of)})`;

function sure(hits, of) {
  const [low, high] = wilson(hits, of).map(figure);
  return `; 95 % interval ${low} to ${high}\u00a0%`;
}

// The target that `precision` meets, in two decimals as calibration.json names it, and below 1.
const targetOf = (precision) => Math.min(0.99, Math.floor(100 * precision + 1e-9) / 100).toFixed(2);

function startThresholds() {
  const picker = byId("threshold-picker");
  if (!picker) return;
  const curve = JSON.parse(picker.dataset.curve);
  const part = (name) => byId(`threshold-${name}`);
  const say = (name, text) => { part(name).textContent = text; };
  const buttons = [...picker.querySelectorAll("[data-distance]")];
  const last = curve.distance.length - 1;
  const mistakes = curve.wrong[last], rights = curve.right[last];

  // The counts at a distance are those of the last step that it reaches.
  function countsAt(distance) {
    const step = curve.distance.findLastIndex((each) => each <= distance);
    const [right, wrong, letIn] = ["right", "wrong", "let_in"].map((name) => curve[name][step] ?? 0);
    return { step, right, wrong, letIn, given: right + wrong };
  }

  function command(button, { right, given }) {
    if (button) return `simpipe query IMAGE --threshold ${button.dataset.key}`;
    const asked = given && targetOf(right / given);
    if (!asked || Number(asked) <= 0) return "";
    const all = [asked, ...curve.targets.filter((each) => Number(each) !== Number(asked))];
    return `simpipe calibrate --set "calibrate.precision=[${all.join(", ")}]" && simpipe evaluate && simpipe report`;
  }

  function origin(button, step) {
    if (button) return button.dataset.told;
    if (step < last) return "Picked by eye, on the test images.";
    return curve.working
      ? "Every image is answered."
      : "Every image is answered, as simpipe query does where no threshold could be chosen.";
  }

  function draw(distance, { right, given, letIn }) {
    const x = curve.left + (curve.wide * Math.min(distance, curve.end)) / curve.end;
    for (const side of ["x1", "x2"]) part("line").setAttribute(side, x);
    part("declined").setAttribute("x", x);
    part("declined").setAttribute("width", curve.left + curve.wide - x);
    [[given, curve.known], [right, given], [letIn, curve.strangers]].forEach(([hits, of], index) => {
      part(`dot${index}`).setAttribute("cx", x);
      part(`dot${index}`).setAttribute("cy", curve.top + curve.high * (1 - hits / (of || 1)));
      part(`dot${index}`).setAttribute("r", of ? 5 : 0);
    });
  }

  function tell(button, counts) {
    const { right, wrong, letIn, given } = counts, { known, strangers } = curve;
    say("answered", ratio(given, known));
    say("answered-note", outOf(given, known, "known image"));
    say("precision", ratio(right, given));
    say("precision-note", given
      ? `${outOf(right, given, "answer")} right${sure(right, given)}`
      : "Nothing is answered.");
    say("unknown", ratio(letIn, strangers));
    say("unknown-note", strangers
      ? `${outOf(letIn, strangers, "unknown image")} taken for a known one${sure(letIn, strangers)}`
      : "Not measured: no test image has an unknown label.");
    const gain = mistakes
      ? `avoids ${share(mistakes - wrong, mistakes, "mistake")}`
      : "has no mistake to avoid";
    const price = rights
      ? `loses ${share(rights - right, rights, "right answer")}`
      : "has no right answer to lose";
    say("bargain", `Compared with answering every image, it ${gain} and ${price}.`);
    say("which", origin(button, counts.step));
    const line = command(button, counts);
    say("command", line);
    part("use").hidden = !line;
    say("how", button ? "To use it:" : "To have a distance of this precision chosen on the calibration images:");
    say("copied", "");
  }

  // `by` is the control that was used: it keeps what was typed, and a slider is not spoken over.
  function set(wanted, by) {
    let distance = Math.fround(Math.min(Math.max(wanted, 0), curve.end));
    const counts = countsAt(distance);
    if (!curve.whole) distance = curve.distance[counts.step];
    const button = buttons.find((each) => Math.fround(each.dataset.distance) === distance);
    const far = distance.toFixed(curve.digits), near = (1 - distance).toFixed(curve.digits);
    if (by !== part("slider")) part("slider").value = distance;
    part("distance").value = far;
    part("similarity").value = near;
    picker.dataset.at = distance;
    part("bargain").setAttribute("aria-live", by === part("slider") ? "off" : "polite");
    for (const each of buttons) each.setAttribute("aria-pressed", each === button);
    draw(distance, counts);
    tell(button, counts);
    const shares = [
      `${ratio(counts.given, curve.known)} of known images answered`,
      counts.given ? `${ratio(counts.right, counts.given)} of the answers right` : "",
      curve.strangers ? `${ratio(counts.letIn, curve.strangers)} of unknown images let in` : "",
    ];
    const spoken = [`distance ${far}, similarity ${near}`, ...shares].filter(Boolean).join(", ");
    part("slider").setAttribute("aria-valuetext", spoken);
  }

  part("slider").addEventListener("input", (event) => set(Number(event.target.value), event.target));
  for (const [name, distanceOf] of [["distance", (typed) => typed], ["similarity", (typed) => 1 - typed]]) {
    part(name).addEventListener("change", ({ target: field }) => {
      set(field.value === "" ? Number(picker.dataset.at) : distanceOf(Number(field.value)), field);
    });
  }
  for (const button of buttons) {
    button.addEventListener("click", () => set(Number(button.dataset.distance), button));
  }
  const drawing = part("chart").firstElementChild;
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * drawing.viewBox.baseVal.width;
    set(((x - curve.left) / curve.wide) * curve.end, drawing);
  });
  part("copy").addEventListener("click", async () => {
    getSelection().selectAllChildren(part("command"));
    const text = part("command").textContent;
    const copied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
    say("copied", copied ? "Copied." : "Selected: copy it with your keyboard.");
  });
  for (const hidden of picker.querySelectorAll("[data-scripted]")) hidden.hidden = false;
  set(curve.start, null);
}
