"""Folders as people have them, and the stage ingest brought up to date on them, in this process."""

import csv
import io
import json
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from simpipe.cli.rundirs import make_folders, request_of, require_lasting_exclusion, save_request
from simpipe.config import Config, override
from simpipe.data.manifest import ManifestRow, Samples, read_manifest, read_samples
from simpipe.engine.execute import execute
from simpipe.engine.lock import run_lock
from simpipe.engine.plan import look
from simpipe.engine.rundir import RunDir
from simpipe.engine.stage import Context, DeclaredConfig, Stage
from simpipe.stages import PIPELINE

OUTPUTS = (*PIPELINE[0].outputs, "ignored.csv")


class Recorder:
    """A listener that remembers what it hears; `at_begin` and `at_advance` may disturb the work."""

    stopping = False

    def __init__(
        self,
        at_begin: Callable[[str], object] = lambda label: None,
        at_advance: Callable[[int], object] = lambda done: None,
    ) -> None:
        self.totals: dict[str, int | None] = {}
        self.notes: list[str] = []
        self._at_begin, self._at_advance = at_begin, at_advance
        self._label, self._done = "", 0

    def begin(self, label: str, total: int | None = None, unit: str = "") -> None:
        self.totals[label] = total
        self._label, self._done = label, 0
        self._at_begin(label)

    def advance(self, count: int = 1, detail: str = "") -> None:
        self._done += count
        if self._label == "reading":
            self._at_advance(self._done)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stage_starts(self, assessment: Any) -> None:
        pass

    def stage_ends(self, outcome: Any) -> None:
        pass


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32."""
    found: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return found


def run_alone(stage: Stage, run: RunDir, source: Path, config: Config) -> Path:
    """Run a stage as the engine does: into its folder, which is returned, with only what it declares."""
    folder = run.stage(stage.name)
    folder.mkdir()
    rest = (run.path / "checkpoints", run.path / "last", source, run.cache)
    stage.run(Context(stage, run.path, folder, *rest, DeclaredConfig(config, stage.config), Recorder()))
    return folder


def as_if_trained(run: RunDir) -> None:
    """What sampler and train leave for later stages, and an empty folder for the embeddings."""
    record = {"backbone": {"pretrained": True}, "mode": "labelled", "shipped": "trained"}
    for stage, name, content in (
        ("train", "encoder.json", record),
        ("sampler", "sampler.json", {"training": True}),
    ):
        run.stage(stage).mkdir()
        (run.stage(stage) / name).write_text(json.dumps(content))
    run.stage("index").mkdir()


def ingest(
    run: RunDir,
    source: Path,
    settings: dict[str, Any] | None = None,
    *,
    listener: Recorder | None = None,
    selected: Sequence[str] = ("ingest",),
) -> list[str]:
    """Bring a run up to date as the command line does; returns what became of each stage: ran or fresh.

    Raises:
        SimpipeError: as the command line does.
    """
    listener = listener or Recorder()
    config = override(Config(), [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()])
    require_lasting_exclusion(run, config)
    make_folders(run.cache)
    request = replace(request_of(source, config, list(selected)), progress=listener)
    if not run.path.exists():
        look(run, PIPELINE, request)
        make_folders(run.path)
    with run_lock(run.path):
        looked = look(run, PIPELINE, request)
        save_request(run, request)
        return [outcome.action for outcome in execute(run, PIPELINE, looked, listener)]


def manifest(run: RunDir) -> dict[bytes, ManifestRow]:
    """The rows of manifest.parquet by the bytes of their paths."""
    rows = read_manifest(run.stage("ingest") / "manifest.parquet").rows
    by_path = {row["path_bytes"]: row for row in rows}
    assert len(by_path) == len(rows)
    assert list(by_path) == sorted(by_path)
    return by_path


def samples(run: RunDir) -> Samples:
    return read_samples(run.stage("ingest") / "samples.parquet")


def document(run: RunDir) -> Any:
    """ingest.json."""
    return json.loads((run.stage("ingest") / "ingest.json").read_bytes())


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def outputs(run: RunDir) -> dict[str, bytes]:
    """Every file that ingest wrote but its receipt, by name."""
    return {name: (run.stage("ingest") / name).read_bytes() for name in OUTPUTS}


def seen(root: Path, passed_over: Collection[str]) -> Counter[str]:
    """The names below `root` by a walk that knows nothing of images; a folder passed over is one name."""
    names: Counter[str] = Counter()
    for folder, folders, files in os.walk(root):
        prefix = "" if Path(folder) == root else f"{os.path.relpath(folder, root)}/"
        names.update(guarded(prefix + name) for name in files)
        for name in list(folders):
            told = guarded(f"{prefix}{name}/")
            if told in passed_over:
                names[told] += 1
                folders.remove(name)
    return names


def guarded(path: str) -> str:
    """A path as a CSV for people shows it: valid text, and no formula."""
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    return f"'{shown}" if shown[:1] in tuple("=+-@\t\r") else shown


def untouched(root: Path) -> dict[str, tuple[Any, ...]]:
    """What an observer sees of a folder: to be compared before and after."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        raw = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino, raw)
    return found


def photo(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A smooth picture with detail of its own: equal for equal seeds, unlike any other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, file_format: str = "JPEG", **options: Any) -> bytes:
    sink = io.BytesIO()
    if file_format == "JPEG":
        options = {"quality": 92, **options}
    image.save(sink, file_format, **options)
    return sink.getvalue()


def jpeg(seed: int) -> bytes:
    return encoded(photo(seed))


def write(root: Path, path: str | bytes, raw: bytes) -> Path:
    """Write a file and the folders above it."""
    target = root / os.fsdecode(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(raw)
    return target


def labelled(root: Path, first_seed: int = 0, **counts: int) -> Path:
    """A folder with `counts[label]` photos under each label: LABEL/000.jpg and so on."""
    seed = first_seed
    for label, count in counts.items():
        for number in range(count):
            write(root, f"{label}/{number:03}.jpg", jpeg(seed))
            seed += 1
    return root


class Expected(NamedTuple):
    """What is to be said of a file: `why` is the reason if it is not usable, else the format."""

    raw: bytes
    why: str
    warnings: tuple[str, ...] = ()


REASONS = ("empty", "not_an_image", "truncated", "too_large", "unsupported", "decode_error", "too_small")


def grey(low: float, high: float, dtype: Any, degrees: int = 0) -> Image.Image:
    """A wave from `low` to `high`, turned."""
    wave = np.sin(np.linspace(0, 9, 48))[:, None] * np.cos(np.linspace(0, 7, 64))[None]
    return Image.fromarray((low + (wave + 1) / 2 * (high - low)).astype(dtype)).rotate(degrees)


def transparent(seed: int) -> Image.Image:
    """A picture of which the right half is transparent, with a colour below."""
    alpha = Image.new("L", (64, 48), 255)
    alpha.paste(0, (32, 0, 64, 48))
    image = photo(seed)
    image.paste((255, 0, 0), (32, 0, 64, 48))
    image.putalpha(alpha)
    return image


def palette(seed: int) -> bytes:
    image = photo(seed).quantize(16)
    return encoded(image, "PNG", transparency=0)


def cmyk(seed: int, *, adobe: bool) -> bytes:
    """A CMYK JPEG, whose marker of Adobe's says that the colours are inverted."""
    raw = encoded(photo(seed).convert("CMYK"))
    at = raw.index(b"\xff\xee")
    length = int.from_bytes(raw[at + 2 : at + 4], "big")
    assert raw[at + 4 : at + 9] == b"Adobe"
    return raw if adobe else raw[:at] + raw[at + 2 + length :]


BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(seed: int, orientation: int, file_format: str) -> bytes:
    """The same upright picture for each orientation, stored as EXIF says."""
    image = photo(seed)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(BACK[orientation]) if orientation > 1 else image
    options: dict[str, Any] = {"subsampling": 0, "quality": 95} if file_format == "JPEG" else {}
    return encoded(stored, file_format, exif=exif.tobytes(), **options)


def zero_denominator(seed: int) -> bytes:
    """A JPEG whose XResolution is 1 / 0."""
    exif = Image.Exif()
    exif[0x011A] = 72.0
    raw = encoded(photo(seed), exif=exif.tobytes())
    value = struct.pack(">II", 72, 1)
    if raw.count(value) != 1:
        value = struct.pack("<II", 72, 1)
    assert raw.count(value) == 1
    return raw.replace(value, value[:4] + bytes(4))


def frames(seed: int, file_format: str) -> bytes:
    images = [photo(seed + number) for number in range(3)]
    return encoded(images[0], file_format, save_all=True, append_images=images[1:])


def bomb() -> bytes:
    """The beginning of a PNG of 14000 x 14000 pixels of one bit."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 14_000, 14_000, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)

GOOD = jpeg(1)
# fmt: off
DIRTY: dict[bytes, Expected] = {
    b"apples/good.jpg": Expected(GOOD, "JPEG"),
    b"apples/half.jpg": Expected(jpeg(2)[: len(jpeg(2)) // 2], "truncated"),
    b"apples/no end.jpg": Expected(jpeg(3)[:-2], "truncated"),
    b"apples/header.png": Expected(encoded(photo(4), "PNG")[:20], "truncated"),
    b"apples/empty.jpg": Expected(b"", "empty"),
    b"apples/text.jpg": Expected(b"a shopping list\n", "not_an_image"),
    b"apples/archive.jpg": Expected(b"PK\3\4" + bytes(60), "unsupported"),
    b"apples/png as.jpg": Expected(encoded(photo(5), "PNG"), "PNG", ("suffix",)),
    b"apples/gif as.jpg": Expected(encoded(photo(6), "GIF"), "GIF", ("suffix",)),
    b"apples/cmyk.jpg": Expected(cmyk(7, adobe=True), "JPEG"),
    b"apples/cmyk plain.jpg": Expected(cmyk(8, adobe=False), "JPEG"),
    b"apples/16 bit.png": Expected(encoded(grey(0, 65_535, np.uint16), "PNG"), "PNG", ("stretched",)),
    b"apples/12 bit.png": Expected(encoded(grey(0, 4095, np.uint16, 90), "PNG"), "PNG", ("stretched",)),
    b"apples/float.tiff": Expected(encoded(grey(-1, 9, np.float32, 180), "TIFF"), "TIFF", ("stretched",)),
    b"apples/palette.png": Expected(palette(9), "PNG", ("alpha",)),
    b"apples/hidden.png": Expected(encoded(transparent(10), "PNG"), "PNG", ("alpha",)),
    b"apples/la.png": Expected(encoded(transparent(11).convert("LA"), "PNG"), "PNG", ("alpha",)),
    b"apples/1 bit.png": Expected(encoded(photo(12).convert("1"), "PNG"), "PNG"),
    b"apples/zero.jpg": Expected(zero_denominator(13), "JPEG"),
    b"apples/3.gif": Expected(frames(20, "GIF"), "GIF", ("animated",)),
    b"apples/3.webp": Expected(frames(30, "WEBP"), "WEBP", ("animated",)),
    b"apples/3.tiff": Expected(frames(40, "TIFF"), "TIFF", ("animated",)),
    b"apples/3.png": Expected(frames(50, "PNG"), "PNG", ("animated",)),
    b"apples/heic.heic": Expected(HEIC, "decode_error" if find_spec("pillow_heif") else "unsupported"),
    b"apples/bomb.png": Expected(bomb(), "too_large"),
    b"apples/tiny.png": Expected(encoded(photo(14, 3, 2), "PNG"), "PNG", ("tiny",)),
    b"apples/flat.png": Expected(encoded(Image.new("RGB", (64, 48), "teal"), "PNG"), "PNG", ("flat",)),
    b"apples/long.png": Expected(encoded(photo(15, 400, 33), "PNG"), "PNG", ("long",)),
    b"apples/no iend.png": Expected(encoded(photo(16), "PNG")[:-12], "PNG", ("incomplete",)),
    b"bears/deep/er/x.JPG": Expected(jpeg(60), "JPEG"),
    b"bears/new\nline.jpg": Expected(jpeg(61), "JPEG"),
    "bears/\N{BEAR FACE}.jpg".encode(): Expected(jpeg(62), "JPEG"),
    b"bears/<script>alert(1).jpg": Expected(jpeg(63), "JPEG"),
    b"bears/=cmd|calc!A0.jpg": Expected(jpeg(64)[:100], "truncated"),
    b"bears/\xff\xfe.jpg": Expected(jpeg(65), "JPEG"),
    b"bears/\xff\xfe.gif": Expected(b"no", "not_an_image"),
    b"bears/-rf.jpg": Expected(jpeg(66), "JPEG"),
    b"bears/good.jpg": Expected(GOOD, "JPEG"),
    b"=only/one.jpg": Expected(jpeg(67), "JPEG"),
}
DIRTY |= {f"apples/exif {k}.png".encode(): Expected(turned(70, k, "PNG"), "PNG") for k in range(1, 9)}
DIRTY |= {f"bears/exif {k}.jpg".encode(): Expected(turned(71, k, "JPEG"), "JPEG") for k in range(1, 9)}
if features.check("avif"):
    DIRTY[b"apples/avif.avif"] = Expected(encoded(photo(17), "AVIF"), "AVIF")
# fmt: on

PASSED_OVER = {
    "apples/._x.jpg": "hidden",
    "apples/.DS_Store": "hidden",
    ".git/": "hidden",
    "apples/Thumbs.db": "system",
    "__MACOSX/": "system",
    "apples/notes.txt": "not_an_image_name",
    "readme": "not_an_image_name",
    "bears/pipe.jpg": "not_a_file",
    "bears/broken.jpg": "not_a_file",
    "bears/itself.jpg": "not_a_file",
    "bears/loop/": "linked_folder",
    "bears/\\xff.txt": "not_an_image_name",
}


def write_dirty(place: Path) -> Path:
    """A folder with all that is in `DIRTY` and `PASSED_OVER`, an empty label, and a link that leads out."""
    data = place / "data"
    for path, expected in DIRTY.items():
        write(data, path, expected.raw)
    for name in ("apples/._x.jpg", "apples/.DS_Store", ".git/x.jpg", "apples/Thumbs.db", "__MACOSX/y.jpg"):
        write(data, name, GOOD)
    for path in (b"apples/notes.txt", b"readme", b"bears/\xff.txt"):
        write(data, path, b"see there")
    (data / "void").mkdir()
    os.mkfifo(data / "bears/pipe.jpg")
    write(place, "elsewhere.jpg", jpeg(68))
    for name, target in (
        ("bears/linked.jpg", "../../elsewhere.jpg"),
        ("bears/broken.jpg", "nowhere"),
        ("bears/itself.jpg", "itself.jpg"),
        ("bears/loop", ".."),
    ):
        (data / name).symlink_to(target)
    return data
