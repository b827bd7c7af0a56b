"""`log.jsonl`: what happened to a run, one JSON document a line, for whoever looks into a failure later."""

import json
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO


def record(run_folder: Path, event: str, **details: Any) -> None:
    """Append an event. A log that cannot be written is no reason to stop: the run tells it otherwise."""
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "pid": os.getpid(), "event": event, **details}, default=str)
    with suppress(OSError), (run_folder / "log.jsonl").open("a+b") as stream:
        if stream.tell() and not _ends_a_line(stream):
            line = "\n" + line  # a killed process had not written all of the last one
        stream.write(line.encode() + b"\n")


def _ends_a_line(stream: BinaryIO) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"
