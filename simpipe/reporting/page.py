"""The whole page: one HTML file that needs nothing else, fetches nothing, and runs no script but its own."""

import base64
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from markupsafe import Markup

from simpipe.reporting import (
    charts,
    confusions,
    findings,
    numbers,
    thresholds,
    training,
    unlabelled,
    verdict,
)
from simpipe.reporting.content import Content
from simpipe.reporting.map import bokeh_js, figure, figure_json
from simpipe.reporting.matrix import matrix
from simpipe.reporting.next_steps import next_steps
from simpipe.reporting.payload import label_colours, mistakes, payload, script_json
from simpipe.reporting.sheets import Sheets, choose, make
from simpipe.reporting.text import (
    clean,
    count,
    interval,
    number,
    percent,
    quoted,
    rows_of,
    short,
    without_folders,
)

SCRIPTS = ("data.js", "thumbs.js", "map.js", "panel.js", "mistakes.js", "tables.js", "start.js")
LADDER_TABLE = ("accuracy@1", "macro_accuracy@1", "recall@1", "recall@5", "map@r")
TEMPLATE_BYTES = 150_000


def render(content: Content, max_mb: float = 15.0) -> str:
    """The page as one HTML document, UTF-8, byte for byte the same for the same content.

    Args:
        content: what to show.
        max_mb: the size that the page keeps to, in millions of bytes. Thumbnails give way, first in
            size, then in number; everything else is always whole.
    """
    found = findings.groups(content)
    colours = label_colours(content)
    plot = figure_json(figure(content.xy, colours[content.label_id]))
    library = bokeh_js()
    first = mistakes(content).tolist() if content.labelled else unlabelled.rows_shown(content)
    rows = choose(len(content.label_id), content.label_id, [*first, *findings.rows_shown(found)])
    trained = training.section(content.history, content.views)
    fixed = len(library) + len(plot) + data_bytes(content, colours) + training.size(trained) + TEMPLATE_BYTES
    sheets = make(content.thumbnails, rows, len(content.label_id), max_mb * 1e6 - fixed)
    environment = templates()
    script = script_text(environment)
    page: str = environment.get_template("page.html").render(
        policy=policy([library, script]),
        style=Markup(source(environment, "style.css")),  # noqa: S704 - ours
        library=Markup(library),  # noqa: S704 - BokehJS
        script=Markup(script),  # noqa: S704 - ours
        plot=Markup(plot.replace("<", "\\u003c")),  # noqa: S704 - numbers only, and escaped
        data=Markup(script_json(payload(content, colours, sheets.tile, sheets.side))),  # noqa: S704 - escaped
        sheets=sheets.sheets,
        pictures=pictures_note(content, sheets),
        findings=found,
        labelled=content.labelled,
        colours=colours.tolist(),
        **heading(content),
        **(verdict_and_evidence(content) if content.labelled else unlabelled.screen(content)),
        **data_and_run(content),
        **trained,
    )
    return page


def data_bytes(content: Content, colours: np.ndarray) -> int:
    """How much of the page the data take, without thumbnails."""
    none = np.zeros(len(content.label_id), np.int32)
    return len(script_json(payload(content, colours, none, 0)).encode())


def heading(content: Content) -> dict[str, Any]:
    """Titles, and what the map is."""
    return {
        "title": short(clean(content.title)),
        "run_name": clean(content.run_name),
        "preserved": content.projection.get("preserved"),
        "projection": content.projection,
    }


def verdict_and_evidence(content: Content) -> dict[str, Any]:
    """Verdict, tiles, what to do next; the ladder, the label relations, the mistakes, the thresholds."""
    shown = confusions.matrix_labels(content)
    curve = thresholds.curve(content)
    table = thresholds.table(content.calibration)
    marks = [(entry.name, entry.distance) for entry in table if entry.distance is not None]
    return {
        "verdict": verdict.verdict(content),
        "tiles": verdict.tiles(content),
        "held_out": verdict.held_out(content),
        "steps": next_steps(content),
        "seen_reason": verdict.reason_of(content.metrics, "seen"),
        "ladders": ladders(content),
        "ladder_names": LADDER_TABLE,
        "further": numbers.rows(content.metrics),
        "probability": numbers.probability(content.calibration),
        "reliability": numbers.reliability(content.calibration),
        "pairs": confusions.pairs(content),
        "matrix": matrix(content.confusion, content.labels, shown),
        "matrix_shown": len(shown),
        "matrix_part": confusions.is_part(content),
        "label_rows": confusions.label_rows(content),
        "mistakes": int((content.correct == 0).sum()),
        "queries": int((content.correct >= 0).sum()),
        "thresholds": table,
        "threshold_columns": list(thresholds.COLUMNS.values()),
        "threshold_curve": None if curve is None else charts.threshold_curve(curve, marks),
        "calibration": content.calibration,
    }


def ladders(content: Content) -> list[tuple[str, str, Markup, list[dict[str, Any]]]]:
    """For each block with a ladder: the block, the metric that is drawn, the chart, the rungs."""
    found = []
    rungs = content.metrics.get("ladder") or []
    for block, name in verdict.HEADLINES:
        chart = charts.ladder(rungs, block, name)
        if chart is not None:
            found.append((block, name, chart, [rung for rung in rungs if rung["block"] == block]))
    return found


def data_and_run(content: Content) -> dict[str, Any]:
    """Counts and the tables of the run."""
    splits = np.asarray(content.split, dtype=object)
    counts = {
        split: np.bincount(content.label_id[np.array(splits == split, bool)], minlength=len(content.labels))
        for split in dict.fromkeys(content.split)
    }
    documents = {
        "Files": content.ingest,
        "Sampler": content.sampler,
        "Encoder": content.encoder,
        "Map": content.projection,
    }
    return {
        "images": len(content.label_id),
        "labels": content.labels,
        "splits": {split: (int(sizes.sum()), int((sizes > 0).sum())) for split, sizes in counts.items()},
        "label_sizes": charts.label_sizes(content.labels, counts),
        "facts": {name: rows_of(document) for name, document in documents.items()},
        # times, speeds, versions and the machine: a second run that differs, differs here only
        "measured": {
            "Index": rows_of(content.index_quality),
            "Environment": [(clean(name), without_folders(value)) for name, value in content.environment],
        },
    }


def pictures_note(content: Content, sheets: Sheets) -> str:
    """What the page leaves out, in one sentence."""
    n, drawn = len(content.label_id), int((sheets.tile >= 0).sum())
    if not drawn:
        return f"{count(n, 'image')}; no pictures."
    if drawn == n:
        return f"{count(n, 'image')}, each with a picture of {sheets.side} pixels."
    if not content.labelled:
        return f"{count(n, 'image')}, {drawn:,} with a picture of {sheets.side} pixels."
    wrong = content.correct == 0
    kept = "all mistakes included" if (sheets.tile[wrong] >= 0).all() else "not even all mistakes fit"
    return f"{count(n, 'image')}, {drawn:,} with a picture of {sheets.side} pixels, {kept}."


def templates() -> Any:
    """The templates' environment: everything is escaped unless it is Markup."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("simpipe.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clean": clean, "short": short, "quoted": quoted, "percent": percent, "interval": interval,
        "number": number, "count": count,
    }  # fmt: skip
    return environment


def source(environment: Any, name: str) -> str:
    """A file of the templates as it is."""
    text: str = environment.loader.get_source(environment, name)[0]
    return text


def script_text(environment: Any) -> str:
    """The page's script: its files in one strict function."""
    parts = "\n".join(source(environment, name) for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


def policy(scripts: Iterable[str]) -> str:
    """The Content-Security-Policy: no network at all, and no script but these, by their hash.

    `unsafe-eval` is for BokehJS's WebGL, which compiles its draw calls; inline handlers stay forbidden.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )
