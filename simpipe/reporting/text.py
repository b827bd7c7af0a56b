"""Text and numbers as the page writes them. Labels and file names pass through `clean` first."""

import math
import re
from typing import Any, TypeGuard

from simpipe.wording import figure

SHORT = 60
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
ROOT = r"(?<![\w.:/~<…-])(?:file:/*)?(?:[A-Za-z]:[\\/]|[\\/~])"
PART = r"[^\\/\s\"']"
ABSOLUTE = re.compile(rf"{ROOT}(?:{PART}*(?: {PART}+)?[\\/])*(?={PART})")
WHOLE = re.compile(rf"^{ROOT}.*[\\/](?=[^\\/])")
QUOTED = re.compile(rf"(?<=[\"']){ROOT}[^\"']*[\\/](?=[^\\/\"'])")


def clean(text: object) -> str:
    """`text` without characters that hide or reorder others: controls, bidi marks, lone surrogates.

    They become U+FFFD, so that two labels that differ in one still differ from a plain one.
    """
    return UNSEEN.sub("\ufffd", str(text)) or "(empty)"


def short(text: str, limit: int = SHORT) -> str:
    """At most `limit` characters of `text`, with an ellipsis for the rest."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quoted(text: object) -> str:
    """A name inside a sentence: cleaned, short, in quotes, its direction kept from the text around it."""
    return f"“\u2068{short(clean(text), 40)}\u2069”"


def without_folders(text: object) -> str:
    """`text` with every absolute path cut to its last part: a page is shared, a home folder is not.

    A folder's name may hold one space; more where the text is one path, or the path is in quotes.
    """
    shown = clean(text)
    if len(ABSOLUTE.findall(shown)) == 1:
        shown = WHOLE.sub("…/", shown)
    return ABSOLUTE.sub("…/", QUOTED.sub("…/", shown))


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` is a finite number (and no boolean)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(metric: Any) -> float | None:
    """The value of a metric that is a number or `{"value": number, …}`; None where there is none."""
    value = metric.get("value") if isinstance(metric, dict) else metric
    return float(value) if is_number(value) else None


def percent(value: float | None) -> str:
    """A share in [0, 1] as a percentage with one decimal."""
    return "–" if value is None else f"{figure(value)} %"


def interval(metric: Any, signed: bool = False) -> str:
    """The interval of a metric in percent, `[90.4, 93.0]`, or nothing where it has none.

    `signed` is for a difference of two shares.
    """
    if not isinstance(metric, dict) or not (is_number(metric.get("low")) and is_number(metric.get("high"))):
        return ""
    low, high = (f"{100 * metric[end]:+.1f}" if signed else figure(metric[end]) for end in ("low", "high"))
    return f"[{low}, {high}]"


def points(value: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return f"{100 * value:+.1f} points"


def rows_of(document: dict[str, Any], limit: int = 40) -> list[tuple[str, str]]:
    """A nested document as rows of dotted name and value, at most `limit`."""
    rows = list(leaves(document, ""))
    hidden = len(rows) - limit
    return rows if hidden <= 0 else [*rows[:limit], ("…", f"{hidden} more")]


def leaves(document: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    """The values of a nested document, in order."""
    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        name = f"{prefix}{clean(key)}"
        if isinstance(value, dict):
            rows += leaves(value, f"{name}.")
        else:
            rows.append((short(name), value_text(value)))
    return rows


def value_text(value: Any) -> str:
    """One value for a table cell."""
    if isinstance(value, list | tuple):
        return "–" if not value else short(", ".join(value_text(item) for item in value[:20]), 200)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "–" if value is None else short(without_folders(value), 200)
