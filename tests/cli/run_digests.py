"""What has to be equal in two runs of the same images."""

import hashlib
import re
from pathlib import Path

from simpipe.stages import PIPELINE

VARYING = re.compile(
    r'<title>[^<]*</title>\n<link|<header>.*?</header>|<aside [^>]*id="measured".*?</aside>', re.DOTALL
)
"""The parts of the page that hold the run's name, times, speeds, versions and the machine."""


def digest(path: Path) -> str:
    """The SHA-256 of what has to be equal in two runs: all of a file, or of the page what does not vary."""
    raw = path.read_bytes()
    if path.name == "report.html":
        text, cut = VARYING.subn("", raw.decode())
        assert cut == 3, "the page has lost the marks of its varying parts"
        raw = text.encode()
    return hashlib.sha256(raw).hexdigest()


def digests(run: Path) -> dict[str, str]:
    """All outputs of a run but index.bin: nmslib's graph differs at every build, so no stage reads it."""
    names = [f"{stage.name}/{name}" for stage in PIPELINE for name in stage.outputs]
    return {name: digest(run / name) for name in names if name != "index/index.bin"}
