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
    mistakes,
    numbers,
    threshold_picker,
    training,
    unlabelled,
    verdict,
)
from simpipe.reporting.atlas import make_atlas, pictures, wanted
from simpipe.reporting.content import Content
from simpipe.reporting.drawn import left_out
from simpipe.reporting.files import files
from simpipe.reporting.map import bokeh_js
from simpipe.reporting.matrix import matrix
from simpipe.reporting.next_steps import next_steps
from simpipe.reporting.origin import note, origin
from simpipe.reporting.payload import compressed, label_colours, size, tiles
from simpipe.reporting.private import without_home
from simpipe.reporting.sheets import Encoded, fit
from simpipe.reporting.text import (
    clean,
    interval,
    number,
    percent,
    quoted,
    rows_of,
    short,
)
from simpipe.wording import count, figure

SCRIPTS = (
    "data.js", "thumbs.js", "colourings.js", "map.js", "names.js", "legend.js", "layouts.js", "raster.js",
    "keys.js", "panel.js", "mistakes.js", "matrix.js", "explorer.js", "tables.js", "thresholds.js", "nav.js",
    "start.js",
)  # fmt: skip
LADDER_TABLE = ("accuracy@1", "macro_accuracy@1", "recall@1", "recall@5", "map@r")
SLACK = 10_000
"""Bytes for what is known only with the thumbnails: the tags around them, and what was left out."""
MOST_REJECTED = 1_000


def thumbnails(content: Content) -> Encoded:
    """The thumbnails of the page of `content`, for `render`; what its maps are does not matter."""
    return pictures(content, rows_talked_of(content, findings.groups(content), mistakes.kinds(content)))


def render(content: Content, max_mb: float = 15.0, encoded: Encoded | None = None) -> str:
    """The page as one HTML document, UTF-8, byte for byte the same for the same content.

    Args:
        content: what to show.
        max_mb: the size that the page keeps to, in millions of bytes. Thumbnails give way, first in
            size, then in number; everything else is always whole.
        encoded: `thumbnails(content)`, if they have been made already.
    """
    content = without_home(content)
    found = findings.groups(content)
    colours = label_colours(content)
    kinds = mistakes.kinds(content)
    first = rows_talked_of(content, found, kinds)
    atlas = make_atlas(content, first, colours)
    data = atlas.data | {"evidence": mistakes.script_data(content, kinds, found, atlas.place)}
    library = bokeh_js(len(atlas.shown.label_id))
    environment = templates()
    environment.filters["drawn"] = lambda row: int(atlas.place[row])
    script = script_text(environment)
    shown = {
        "policy": policy([library, script]),
        "style": Markup(source(environment, "style.css")),  # noqa: S704 - ours
        "library": Markup(library),  # noqa: S704 - BokehJS
        "script": Markup(script),  # noqa: S704 - ours
        "plot": Markup(atlas.plot.replace("<", "\\u003c")),  # noqa: S704 - numbers only, and escaped
        "findings": findings.sections(found),
        "labelled": content.labelled,
        "colours": colours.tolist(),
        **heading(content),
        **(verdict_and_evidence(content, kinds) if content.labelled else unlabelled.screen(content)),
        **data_and_run(content),
        **training.section(content.history, content.views),
    }
    draw = environment.get_template("page.html").render
    bare = draw(shown, data="", sheets=[], pictures="")
    room = max_mb * 1e6 - len(bare.encode(errors="replace")) - size(data, atlas.pictured) - SLACK
    sheets = fit(encoded or pictures(content, first), len(atlas.shown.label_id), room)
    page: str = draw(
        shown,
        data=compressed(data | tiles(sheets.tile, sheets.side)),
        sheets=sheets.sheets,
        pictures=left_out(content, atlas.shown, sheets),
    )
    return page


def rows_talked_of(content: Content, found: list[findings.Group], kinds: dict[str, np.ndarray]) -> list[int]:
    """The rows that the page shows beside the map, the most important first."""
    also = [*confusions.rows_shown(content), *kinds["rejected"][:MOST_REJECTED].tolist()]
    return wanted(content, found, also)


def heading(content: Content) -> dict[str, Any]:
    """Titles, and what the map is."""
    return {
        "title": short(clean(content.title)),
        "run_name": clean(content.run_name),
        "projection": content.projection,
        "before": content.before,
        "origin_note": note(content),
    }


def verdict_and_evidence(content: Content, kinds: dict[str, np.ndarray]) -> dict[str, Any]:
    """Verdict, tiles, what to do next; the ladder, the label relations, the mistakes, the thresholds."""
    shown = confusions.matrix_labels(content)
    return {
        "verdict": verdict.verdict(content),
        "tiles": verdict.tiles(content),
        "held_out": verdict.held_out(content),
        "steps": next_steps(content),
        "seen_reason": verdict.reason_of(content.metrics, "seen"),
        "ladders": ladders(content),
        "ladder_names": LADDER_TABLE,
        "linear_map_note": verdict.linear_map_note(content),
        "trained_here": origin(content) == "trained",
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
        "chips": mistakes.chips(content, kinds),
        "turned_away": len(kinds["rejected"]),
        "has_probability": bool(np.isfinite(mistakes.chance(content)).any()),
        "voters": min(content.voters, content.test_ids.shape[1]),
        **threshold_picker.section(content),
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
        "files": files(content),
        "facts": {name: rows_of(document) for name, document in documents.items()},
        # times, speeds, versions and the machine: a second run that differs, differs here only
        "measured": {
            "Index": rows_of(content.index_quality),
            "Environment": [(clean(name), clean(value)) for name, value in content.environment],
        },
    }


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
        "clean": clean, "short": short, "quoted": quoted, "percent": percent, "figure": figure,
        "interval": interval, "number": number, "count": count, "drawn": int,
    }  # fmt: skip
    return environment


def source(environment: Any, name: str) -> str:
    """A file of the templates as it is."""
    text: str = environment.loader.get_source(environment, name)[0]
    return text


def script_text(environment: Any) -> str:
    """The page's script: its files in one strict function, which waits for the data to be unpacked."""
    parts = "\n".join(source(environment, name) for name in SCRIPTS)
    return f'"use strict";\n(async () => {{\n{parts}\n}})();\n'


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
