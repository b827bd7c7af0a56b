"""Results on stdout: the plan, the headline numbers, the matches of a query."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from simpipe.cli.headline import headline, threshold_lines
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
    elif not quiet and "calibrate" in stages:
        for line in threshold_lines(run):
            print(line)
    elif not quiet and "ingest" in stages:
        for line in intake_lines(run):
            print(line)
    report = run.path / "report.html"
    if "report" in stages and report.is_file():
        print(report if quiet else f"report  {report}")


def print_matches(results: "Sequence[QueryResult]") -> None:
    """Each queried image with its label and its neighbours."""
    for result in results:
        match = result.match
        called = match.label or f"unknown (nearest is {match.nearest_label})"
        if match.nearest_label is None:
            called = "like these images" if match.familiar else "unlike these images"
            called = "the most similar images" if match.threshold is None else called
        limit = "no threshold" if match.threshold is None else f"threshold {match.threshold:.3f}"
        sure = "" if match.probability is None else f", right with P {match.probability:.2f}"
        print(f"{result.query}: {called}   distance {match.distance:.3f}, {limit}{sure}")
        for neighbour in result.neighbours:
            label = "" if neighbour.label is None else f"{neighbour.label:20} "
            mute = "" if neighbour.split == "train" else f"   ({neighbour.split}: does not count)"
            print(f"  {neighbour.distance:.3f}  {label}{neighbour.path}{mute}")
