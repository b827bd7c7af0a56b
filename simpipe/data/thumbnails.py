"""`thumbnails.parquet`: one small JPEG per sample, in the samples' row order, read by row group."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simpipe.data.decode import resize
from simpipe.data.threads import map_ahead
from simpipe.errors import DamagedError

if TYPE_CHECKING:
    from PIL.Image import Image

ROW_GROUP = 1_024
JPEG_QUALITY = 88


def encode_jpeg(thumbnail: Image) -> bytes:
    """A thumbnail as it is kept."""
    sink = io.BytesIO()
    thumbnail.save(sink, "JPEG", quality=JPEG_QUALITY)
    return sink.getvalue()


def shrink(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture, uint8 (h, w, 3), as uint8 (side, side, 3)."""
    from PIL import Image

    return resize(Image.fromarray(pixels), side, "squash")


def encode_webp(pixels: NDArray[np.uint8]) -> bytes:
    """A picture, uint8 (h, w, 3), for the page."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "WEBP", quality=80)
    return sink.getvalue()


def write_thumbnails(path: Path, thumbnails: Iterable[bytes]) -> None:
    """Write `thumbnails` in their order. Streamed: not atomic by itself, the commit of the stage is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("jpeg", pa.binary())])
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    rest = iter(thumbnails)
    with pq.ParquetWriter(path, schema, store_schema=False, write_page_checksum=True, **options) as writer:
        while group := list(islice(rest, ROW_GROUP)):
            writer.write_table(
                pa.table([pa.array(group, pa.binary())], schema=schema), row_group_size=ROW_GROUP
            )


def read_thumbnails(path: Path, rows: Sequence[int] | NDArray[np.int64]) -> list[bytes]:
    """The JPEGs of `rows`, in the order asked for; only the row groups that hold them are read.

    Raises:
        DamagedError: the file is missing, damaged or shorter than `rows` asks for.
    """
    wanted = np.asarray(rows, np.int64)
    found: dict[int, bytes] = {}
    with _opened(path) as file:
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < file.metadata.num_rows:
            raise DamagedError(f"{path} has {file.metadata.num_rows} rows, row {wanted.max()} is asked for")
        for group in np.unique(wanted // ROW_GROUP).tolist():
            column = file.read_row_group(group).column("jpeg")
            inside = np.unique(wanted[wanted // ROW_GROUP == group])
            picked = column.take(inside - group * ROW_GROUP).to_pylist()
            found |= zip(inside.tolist(), picked, strict=True)
    return [found[row] for row in wanted.tolist()]


def decode_thumbnails(path: Path, size: int) -> Iterator[NDArray[np.uint8]]:
    """The thumbnails as uint8 of shape (m, size, size, 3), one row group (m up to 1,024) at a time.

    Raises:
        DamagedError: the file is missing or damaged.
    """
    from PIL import Image

    def small(jpeg: bytes) -> NDArray[np.uint8]:
        image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
        image.draft("RGB", (size, size))
        return resize(image, size, "squash")

    with _opened(path) as file:
        for group in range(file.num_row_groups):
            jpegs = file.read_row_group(group).column("jpeg").to_pylist()
            yield np.stack(list(map_ahead(small, jpegs)))


def has_thumbnails(path: Path) -> bool:
    """Whether thumbnails were made: without, `path` has an empty value for each sample.

    Raises:
        DamagedError: the file is missing or damaged.
    """
    return read_thumbnails(path, [0]) != [b""]


def pixel_features(path: Path, size: int = 16) -> NDArray[np.float32]:
    """The thumbnails as plain pixels, the rung of the ladder that has learned nothing.

    Returns:
        float32 of shape (n, size * size * 3), in [0, 1], not normalised.

    Raises:
        DamagedError: the file is missing or damaged.
    """
    width = size * size * 3
    with _opened(path) as file:
        features = np.empty((file.metadata.num_rows, width), np.float32)
    start = 0
    for block in decode_thumbnails(path, size):
        np.divide(block.reshape(-1, width), 255, out=features[start : start + len(block)], dtype=np.float32)
        start += len(block)
    return features


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open Parquet file; its faults, and those of the pictures in it, are named after `path`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    hint = "Run `simpipe ingest` again."
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing", hint=hint) from error
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DamagedError(f"{path}: not readable as thumbnails ({error})", hint=hint) from error
