"""One Chromium for all tests of the page, and one page whose every name is hostile."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import ARGUMENTS, CHROMIUM, opened
from report_fixture import HOSTILE, content

from simpipe.reporting import render
from simpipe.reporting.content import Content


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Playwright's way to launch one."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with api.sync_playwright() as playwright:
        yield playwright.chromium


@pytest.fixture(scope="session")
def browser(chromium: Any) -> Iterator[Any]:
    launched = chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
    yield launched
    launched.close()


@pytest.fixture(scope="session")
def run() -> Content:
    """300 images on a grid. Only the points of 200, 201 and 202 lie on or almost on one another."""
    grid = np.column_stack([np.arange(300) % 20, np.arange(300) // 20]).astype(np.float32)
    grid[201] = grid[200]
    grid[202] = grid[200] + (0.25, 0)
    made = content()
    facts = {f"{number} {name}": name for number, name in enumerate(HOSTILE)}
    return replace(
        made,
        xy=grid,
        title=HOSTILE[0] + HOSTILE[2],
        run_name=HOSTILE[1],
        path=[f"{path[:-4]} {HOSTILE[row % len(HOSTILE)]}.jpg" for row, path in enumerate(made.path)],
        encoder={**made.encoder, **facts, "weights": "/home/someone/models/own.h5"},
        ingest={**made.ingest, "held_out_labels": HOSTILE},
        environment=[*made.environment, *facts.items()],
        findings=[*made.findings, *({**made.findings[0], "detail": name} for name in HOSTILE)],
    )


@pytest.fixture(scope="session")
def file(run: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(run), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(browser: Any, file: Path) -> Iterator[Any]:
    """The page of `run`, open. The tests of a file share it: each leaves it as it found it."""
    shown = opened(browser, file)
    yield shown
    shown.context.close()
