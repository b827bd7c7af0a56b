"""The numbers that a finished run ends with: how good, how sure, worth training or not, what to do next."""

import csv
import json
from collections import Counter
from typing import Any

from simpipe.engine.rundir import RunDir
from simpipe.metrics.verdicts import judge, training_advice
from simpipe.wording import count, figure

WEAKEST = 3
NOTABLE_PAIR = 3


def headline(run: RunDir) -> list[str]:
    """How good, how sure, worth training or not, what to mend first."""
    metrics = json.loads((run.stage("evaluate") / "metrics.json").read_bytes())
    findings = _rows(run, "findings.csv")
    if "unlabelled" in metrics:
        calibration = _calibration(run)
        return ["", *_without_labels(metrics["unlabelled"], calibration), _findings(run, findings), ""]
    classes = [row for row in _rows(run, "classes.csv") if row["block"] == "seen"]
    return [
        "",
        *_accuracy(metrics, classes),
        *_familiar_to_the_encoder(run),
        *(_gain(gain, metrics["trained_here"]) for gain in metrics["gain"]),
        *_linear(metrics),
        *_shortcut(metrics),
        *_unseen(metrics),
        *_pairs(metrics),
        *_unknowns(metrics),
        *threshold_lines(run),
        _findings(run, findings),
        *_first(metrics, findings, classes),
        "",
    ]


def threshold_lines(run: RunDir) -> list[str]:
    """The thresholds with what they do on test, and what a probability is worth."""
    calibration = _calibration(run)
    if "reason" in calibration:  # no labels
        return _familiar_lines(calibration)
    lines = [_threshold(name, entry) for name, entry in calibration["thresholds"].items()]
    return [*lines, *_probability(calibration)]


def _calibration(run: RunDir) -> Any:
    return json.loads((run.stage("calibrate") / "calibration.json").read_bytes())


def _rows(run: RunDir, name: str) -> list[dict[str, str]]:
    with (run.stage("evaluate") / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _accuracy(metrics: dict[str, Any], classes: list[dict[str, str]]) -> list[str]:
    seen = metrics["blocks"]["seen"]
    if "reason" in seen:
        return [f"accuracy   not measured: {seen['reason']}"]
    counts, values = seen["counts"], seen["metrics"]
    of = f" (a sample of {counts['sampled']:,})" if "sampled" in counts else ""
    lines = [
        f"accuracy@1 {_estimate(values['accuracy@1'])}   "
        f"{counts['queries']:,} test images{of} of {counts['classes']} labels against {counts['gallery']:,}"
    ]
    missed = [row for row in classes if row["recall"] and float(row["recall"]) < 1]
    weakest = sorted(missed, key=lambda row: (float(row["recall"]), -int(row["support"])))[:WEAKEST]
    told = ", ".join(f"{row['label']} {float(row['recall']):.2f} of {row['support']}" for row in weakest)
    weak = f"   weakest: {told}" if told else ""
    lines.append(f"macro      {_estimate(values['macro_accuracy@1'])}{weak}")
    lines.append(f"map@r      {_estimate(values['map@r'])}")
    cleaned = metrics["after_cleaning"]
    if cleaned:
        removed = cleaned["removed"]["queries"] + cleaned["removed"]["gallery"]
        lines.append(
            f"cleaned    {_estimate(cleaned['metrics']['accuracy@1'])}   "
            f"accuracy@1 without {removed:,} images whose label is in doubt, not trained again"
        )
    return lines


def _familiar_to_the_encoder(run: RunDir) -> list[str]:
    """A warning where the encoder was taken as it is, and images that are tested here trained it."""
    adopted = json.loads((run.stage("train") / "encoder.json").read_bytes()).get("adopted") or {}
    if not adopted.get("known_images"):
        return []
    known, tested = adopted["known_images"], adopted["tested_images"]
    return [f"{'':10} {known:,} of the {tested:,} images of val and test trained the encoder: this flatters"]


def _linear(metrics: dict[str, Any]) -> list[str]:
    """A note where the linear discriminants, which take seconds, do as well as the encoder."""
    found = {
        entry["rung"]: entry["metrics"]["accuracy@1"]["value"]
        for entry in metrics["ladder"]
        if entry["block"] == "seen" and "accuracy@1" in entry["metrics"]
    }
    if "lda" not in found or found["lda"] < found["trained"]:
        return []
    return [
        f"{'':10} lda, a linear map of the pretrained features, reaches accuracy@1 {found['lda']:.3f}, too"
    ]


def _shortcut(metrics: dict[str, Any]) -> list[str]:
    found = metrics["shortcut"]
    if not found or not found["suspicious"]:
        return []
    return [
        f"shortcut?  tiny thumbnails alone reach {found['thumbnail']:.3f}: backgrounds, colours or sizes may "
        "give the labels away"
    ]


def _unseen(metrics: dict[str, Any]) -> list[str]:
    unseen, matched = metrics["blocks"]["unseen"], metrics["matched"]
    if "reason" in unseen:
        return []
    counts = unseen["counts"]
    lines = [
        f"unseen     recall@1 {_estimate(unseen['metrics']['recall@1'])}   "
        f"{counts['queries']:,} images of {counts['classes']} labels that training never saw"
    ]
    if matched.get("classes"):
        one, other = (matched["blocks"][name]["recall@1"] for name in ("seen", "unseen"))
        lines.append(
            f"           at {matched['classes']} labels each: recall@1 seen {_estimate(one)}, "
            f"unseen {_estimate(other)}"
        )
    return lines


def _pairs(metrics: dict[str, Any]) -> list[str]:
    """Of the unseen block where there is one: a threshold on pairs is for labels that nobody named."""
    blocks = metrics["verification"]
    name = "seen" if "reason" in blocks["unseen"] else "unseen"
    found = blocks[name].get("metrics", {})
    if not found or found["eer"]["value"] is None:
        return []
    missed = found["fnmr@fmr=1e-2"]["value"]
    told = ""
    if missed is not None:
        told = f"; where 1% of unlike pairs pass, {_percent(missed)} of like ones do not"
    return [f"pairs      equal error rate {_estimate(found['eer'])} ({name} labels){told}"]


def _unknowns(metrics: dict[str, Any]) -> list[str]:
    open_set = metrics["blocks"]["open_set"]
    if "reason" in open_set:
        return []
    counts = open_set["counts"]
    better = open_set["novelty"]["better"]
    told = f"; {better[0].replace('_', ' ')} would be a better score" if better else ""
    return [
        f"unknowns   AUROC {_estimate(open_set['metrics']['auroc'])}   "
        f"{counts['unknown']:,} images of {count(counts['unknown_classes'], 'held-out label')}{told}"
    ]


def _probability(calibration: dict[str, Any]) -> list[str]:
    found = calibration["probability"]
    if found["knots"] is None:
        return [f"P(right)   none; {found['reason']}"]
    test = found["on_test"]
    if test is None:
        return [f"P(right)   calibrated, not verified: {found.get('untested', 'there are no test images')}"]
    return [
        f"P(right)   off by {test['ece']['value']:.3f} on average (by chance alone "
        f"{test['ece']['by_chance']:.3f}); Brier {_estimate(test['brier'])}, "
        f"{test['brier']['constant']:.3f} without a model"
        + ("" if test["brier"]["value"] < test["brier"]["constant"] else ": do not rely on it")
    ]


def _first(
    metrics: dict[str, Any], findings: list[dict[str, str]], classes: list[dict[str, str]]
) -> list[str]:
    """What to do next, the most useful first; at most three things."""
    kinds = Counter(row["kind"] for row in findings)
    advice = training_advice(metrics)
    steps = []
    if kinds["collapse"]:
        steps.append("the embedding collapsed: lower train.lr, or take another train.loss")
    for kind, what in (
        ("label_error", "look at the likely label errors: {count}"),
        ("duplicate_conflict", "decide on copies under two labels; pairs: {count}"),
        ("leak", "take copies of training images out of the test: {count}"),
        ("merge", "ask whether two labels are one; pairs: {count}"),
    ):
        if kinds[kind]:
            steps.append(what.format(count=kinds[kind]))
    if advice and not kinds["collapse"]:
        steps.insert(2, advice[0].lower() + advice[1:].rstrip("."))
    pairs = [row for row in classes if row["count_1"] and int(row["count_1"]) >= NOTABLE_PAIR]
    if pairs:
        worst = max(pairs, key=lambda row: int(row["count_1"]))
        steps.append(f"tell {worst['label']} from {worst['confused_1']}: confused {worst['count_1']} times")
    if kinds["unreadable"]:
        steps.append(f"replace what could not be read; files: {kinds['unreadable']}")
    return [
        f"{'do next' if not place else '':10} {place + 1}. {step}" for place, step in enumerate(steps[:3])
    ]


def _without_labels(facts: dict[str, Any], calibration: dict[str, Any]) -> list[str]:
    """What can be said of images without labels."""
    groups = f"{facts['clusters']:,} of look-alikes hold {_percent(facts['clustered'])} of the images"
    told = f"{groups}; the largest has {facts['largest']:,}" if facts["clusters"] else "none were found"
    return [
        f"images     {facts['images']:,} without labels: nothing was measured that needs them",
        f"groups     {told}",
        *_familiar_lines(calibration),
    ]


def _familiar_lines(calibration: dict[str, Any]) -> list[str]:
    thresholds = calibration["thresholds"].items()
    return [_familiar(entry) for name, entry in thresholds if name.startswith("familiar_")]


def _familiar(entry: dict[str, Any]) -> str:
    if entry["distance"] is None:
        return f"familiar   no threshold; {entry['reason']}"
    share = entry["on_test"]["accepted"]
    told = "there are no test images to verify it on"
    if share is not None:
        told = f"{_percent(share)} of the test images have a training image as near"
    return f"familiar   distance ≤ {entry['distance']:.3f}; {told}"


def _percent(share: float) -> str:
    return f"{figure(share)}%"


def _estimate(estimate: dict[str, Any]) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _gain(gain: dict[str, Any], trained: bool) -> str:
    name = "training" if trained else "encoder"
    value, low, high = (gain[name] for name in ("value", "low", "high"))
    if value is None:
        return f"{name:10} {gain['block']}: no gain could be measured"
    interval = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
    return (
        f"{name:10} {gain['metric']} {value:+.3f}{interval} over {gain['from']} "
        f"({gain['block']} labels): {judge(gain)}; {gain['fixed']} fixed, {gain['broken']} broken"
    )


def _threshold(name: str, entry: dict[str, Any]) -> str:
    if entry["distance"] is None:
        return f"threshold  {name}: none; {entry['reason'].partition(';')[0]}"
    test = entry["on_test"]
    parts = [
        f"{share} {_percent(test[key])}"
        for key, share in (
            ("accepted", "answers"),
            ("precision", "precision"),
            ("unknown_accept", "unknowns let in"),
        )
        if test[key] is not None
    ]
    told = f"on test {', '.join(parts)}" if parts else "there are no test images to verify it on"
    told += "; the target does NOT hold there" if entry["held"] is False else ""
    told += f"; {entry['caution']}" if "caution" in entry else ""
    return f"threshold  {name}: distance ≤ {entry['distance']:.3f}; {told}"


def _findings(run: RunDir, findings: list[dict[str, str]]) -> str:
    kinds = Counter(row["kind"] for row in findings)
    if not kinds:
        return "findings   none"
    told = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in kinds.most_common())
    return f"findings   {told}: {run.stage('evaluate') / 'findings.csv'}"
