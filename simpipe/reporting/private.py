"""What the page must not tell: where its author keeps files. A page is passed on, a home folder is not."""

from dataclasses import replace
from typing import Any

from simpipe.reporting.content import Content
from simpipe.reporting.text import without_folders


def without_home(content: Content) -> Content:
    """The content with every absolute path in its documents and sentences cut to the last part.

    Labels and the images' own paths, which are relative, stay as they are.
    """
    documents = ("metrics", "calibration", "ingest", "sampler", "encoder", "index_quality", "projection")
    before = content.before
    return replace(
        content,
        **{name: stripped(getattr(content, name)) for name in documents},
        title=without_folders(content.title),
        environment=[(without_folders(name), without_folders(value)) for name, value in content.environment],
        findings=[
            {**each, "detail": without_folders(each["detail"])} if each.get("detail") else each
            for each in content.findings
        ],
        before=before and replace(before, projection=stripped(before.projection)),
    )


def stripped(value: Any) -> Any:
    """A document with every text in it, also the names of its entries, without folders."""
    if isinstance(value, dict):
        return {stripped(name): stripped(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [stripped(entry) for entry in value]
    return without_folders(value) if isinstance(value, str) and value else value
