"""Checkpoints of a training: numbered files that prove themselves, the two newest of them kept."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.files import atomic_write, disk_error

KEPT = 2
DIGITS = 6

Array = npt.NDArray[Any]
Content = tuple[list[Array], dict[str, Any]]


def save(folder: Path, arrays: Sequence[Array], facts: dict[str, Any]) -> None:
    """Add a checkpoint to `folder`, which is made if need be, and tidy up what is not needed any more.

    The file's name holds a rising number and the hash of its content, `000012-<hash>.npz`, so that one
    file is whole or is noticed. What a killed writer left is a hidden file, and goes with the next save.
    The folder must belong to one process.

    Args:
        folder: holds checkpoints and nothing else.
        arrays: of numbers; they come back with the same bits.
        facts: a JSON document without NaN.

    Raises:
        DiskError: it cannot be written.
    """
    content = io.BytesIO()
    text = json.dumps(facts, allow_nan=False).encode()
    numbered = {f"array{number}": array for number, array in enumerate(arrays)}
    np.savez(content, allow_pickle=False, facts=np.frombuffer(text, np.uint8), **numbered)
    raw = content.getvalue()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        older = _newest_first(folder)
        number = int(older[0].name[:DIGITS]) + 1 if older else 1
        atomic_write(folder / f"{number:0{DIGITS}d}-{_hash(raw)}.npz", raw)
        for path in (*older[KEPT - 1 :], *folder.glob(".*")):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, "the checkpoints of the training", folder) from error


def load(folder: Path) -> Content | None:
    """The arrays and the facts of the newest whole checkpoint in `folder`; None if there is none.

    A file that is damaged or cannot be read is passed over, and removed if possible.
    """
    for path in _newest_first(folder):
        try:
            raw = path.read_bytes()
            if path.stem[DIGITS + 1 :] == _hash(raw):
                return _unpack(raw)
            path.unlink()
        except OSError:
            continue
    return None


def _unpack(raw: bytes) -> Content:
    with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
        arrays = [stored[f"array{number}"] for number in range(len(stored) - 1)]
        return arrays, json.loads(stored["facts"].tobytes())


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]" * DIGITS + "-*.npz"), reverse=True)


def _hash(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]
