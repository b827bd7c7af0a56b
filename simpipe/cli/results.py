"""Results on stdout: the plan, the headline numbers, the matches of a query."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from simpipe.cli.intake import intake_lines
from simpipe.engine.rundir import RunDir

if TYPE_CHECKING:
    from simpipe.engine.plan import Assessment
    from simpipe.runs import QueryResult


def print_json(document: dict[str, Any]) -> None:
    """Print the one document that `--json` promises, in characters that every terminal has."""
    print(json.dumps(document, indent=1))


def print_plan(
    run: RunDir,
    assessments: "Iterable[Assessment]",
    selected: Sequence[str],
    as_json: bool,
    notes: Sequence[str] = (),
    next_command: str | None = None,
) -> None:
    """The state of each selected stage, and why it would run; what else is to be known; what to do next."""
    chosen = [assessment for assessment in assessments if assessment.stage.name in selected]
    if as_json:
        document = {
            "schema": "simpipe.plan/1",
            "run": str(run.path),
            "stages": [assessment.to_json() for assessment in chosen],
            "notes": list(notes),
            "next": next_command,
        }
        print_json(document)
        return
    print(run.path)
    for assessment in chosen:
        reasons = _told(assessment)
        print(f"  {assessment.stage.name:10} {assessment.state:11} {reasons}".rstrip())
    for note in notes:
        print(f"  note: {note}")
    if next_command:
        print(f"  → {next_command}")


def _told(assessment: "Assessment") -> str:
    if assessment.state == "pending":
        return f"if {' or '.join(reason.key for reason in assessment.reasons)} gives something new"
    return "; ".join(map(str, assessment.reasons))


def print_results(run: RunDir, stages: Sequence[str], quiet: bool) -> None:
    """The headline numbers if they were measured, or else what ingest found; and where the report is."""
    if not quiet and "evaluate" in stages:
        for line in headline(run):
            print(line)
    elif not quiet and "ingest" in stages:
        for line in intake_lines(run):
            print(line)
    report = run.path / "report.html"
    if "report" in stages and report.is_file():
        print(report if quiet else f"report  {report}")


def headline(run: RunDir) -> list[str]:
    """How good, how sure, worth training or not, what to mend first."""
    metrics = json.loads((run.stage("evaluate") / "metrics.json").read_bytes())
    calibration = json.loads((run.stage("calibrate") / "calibration.json").read_bytes())
    if "unlabelled" in metrics:
        return ["", *_without_labels(metrics["unlabelled"], calibration), _findings(run), ""]
    lines = [""]
    seen = metrics["blocks"]["seen"]
    if "reason" in seen:
        lines.append(f"accuracy   not measured: {seen['reason']}")
    else:
        counts, values = seen["counts"], seen["metrics"]
        lines.append(
            f"accuracy@1 {_estimate(values['accuracy@1'])}   "
            f"{counts['queries']:,} test images of {counts['classes']} labels against {counts['gallery']:,}"
        )
        lines.append(f"map@r      {_estimate(values['map@r'])}")
    lines += [_gain(gain) for gain in metrics["gain"]]
    open_set = metrics["blocks"]["open_set"]
    if "reason" not in open_set:
        counts = open_set["counts"]
        lines.append(
            f"unknowns   AUROC {_estimate(open_set['metrics']['auroc'])}   "
            f"{counts['unknown']:,} images of {counts['unknown_classes']} held-out labels"
        )
    lines += [_threshold(name, entry) for name, entry in calibration["thresholds"].items()]
    lines.append(_findings(run))
    return [*lines, ""]


def _without_labels(facts: dict[str, Any], calibration: dict[str, Any]) -> list[str]:
    """What can be said of images without labels."""
    groups = f"{facts['clusters']:,} of look-alikes hold {facts['clustered']:.1%} of the images"
    told = f"{groups}; the largest has {facts['largest']:,}" if facts["clusters"] else "none were found"
    thresholds = calibration["thresholds"].items()
    return [
        f"images     {facts['images']:,} without labels: nothing was measured that needs them",
        f"groups     {told}",
        *(_familiar(entry) for name, entry in thresholds if name.startswith("familiar_")),
    ]


def _familiar(entry: dict[str, Any]) -> str:
    if entry["distance"] is None:
        return f"familiar   no threshold; {entry['reason']}"
    share = entry["on_test"]["accepted"]
    told = "there are no test images to verify it on"
    if share is not None:
        told = f"{share:.1%} of the test images have a training image as near"
    return f"familiar   distance ≤ {entry['distance']:.3f}; {told}"


def _estimate(estimate: dict[str, Any]) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _gain(gain: dict[str, Any]) -> str:
    value, low, high = (gain[name] for name in ("value", "low", "high"))
    if value is None:
        return f"training   {gain['block']}: no gain could be measured"
    if low is None:
        verdict, interval = "no interval", ""
    else:
        verdict = "better" if low > 0 else "worse" if high < 0 else "no measurable difference"
        interval = f" [{low:+.3f}, {high:+.3f}]"
    return (
        f"training   {gain['metric']} {value:+.3f}{interval} over {gain['from']} "
        f"({gain['block']} labels): {verdict}; {gain['fixed']} fixed, {gain['broken']} broken"
    )


def _threshold(name: str, entry: dict[str, Any]) -> str:
    if entry["distance"] is None:
        return f"threshold  {name}: none; {entry['reason']}"
    test = entry["on_test"]
    parts = [
        f"{share} {test[key]:.1%}"
        for key, share in (
            ("accepted", "answers"),
            ("precision", "precision"),
            ("unknown_accept", "unknowns let in"),
        )
        if test[key] is not None
    ]
    told = f"on test {', '.join(parts)}" if parts else "there are no test images to verify it on"
    return f"threshold  {name}: distance ≤ {entry['distance']:.3f}; {told}"


def _findings(run: RunDir) -> str:
    path = run.stage("evaluate") / "findings.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        kinds = Counter(row["kind"] for row in csv.DictReader(stream))
    if not kinds:
        return "findings   none"
    told = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in kinds.most_common())
    return f"findings   {told}: {path}"


def print_matches(results: "Sequence[QueryResult]") -> None:
    """Each queried image with its label and its neighbours."""
    for result in results:
        match = result.match
        called = match.label or f"unknown (nearest is {match.nearest_label})"
        if match.nearest_label is None:
            called = "like these images" if match.familiar else "unlike these images"
            called = "the most similar images" if match.threshold is None else called
        limit = "no threshold" if match.threshold is None else f"threshold {match.threshold:.3f}"
        print(f"{result.query}: {called}   distance {match.distance:.3f}, {limit}")
        for neighbour in result.neighbours:
            label = "" if neighbour.label is None else f"{neighbour.label:20} "
            print(f"  {neighbour.distance:.3f}  {label}{neighbour.path}")
