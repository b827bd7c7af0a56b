"""Ask a finished run: which images are like this one, and what would it be called?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simpipe.engine.rundir import RunDir, damage, read_receipt
from simpipe.errors import DamagedError, DataError, UpstreamError, UsageError
from simpipe.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simpipe.config import Config
    from simpipe.data.manifest import Samples
    from simpipe.learning.encoder import Encoder
    from simpipe.learning.features import Extractor
    from simpipe.search import VectorIndex

NOTHING = {"bytes": -1, "sha256": ""}

FARTHEST = 2
"""The largest cosine distance."""

NEEDED = ("ingest", "sampler", "train", "index", "calibrate")


@dataclass(frozen=True)
class Neighbour:
    """A similar image: its path below the data's root, its label, its cosine distance in [0, 2], its split.

    The label is None where the run's images have none. Only images of split "train" are asked for a match.
    """

    path: str
    label: str | None
    distance: float
    split: str


@dataclass(frozen=True)
class Match:
    """What an image is called: the label of its match in the train gallery, or None for unknown.

    `distance` is the match's; `threshold` the calibrated distance up to which it counts, None where
    calibration found none and every match counts. `probability` is how likely `nearest_label` is right, for
    images of which `calibrate.unknown_share` have an unknown label; None where calibration could not tell.
    In a run without labels both labels are None, and an image is like the run's where its distance is within
    the threshold: see `familiar`.
    """

    label: str | None
    nearest_label: str | None
    distance: float
    threshold: float | None
    probability: float | None = None

    @property
    def familiar(self) -> bool:
        """Whether the match counts."""
        return self.threshold is None or self.distance <= self.threshold


@dataclass(frozen=True)
class QueryResult:
    """One queried image."""

    query: str
    match: Match
    neighbours: list[Neighbour] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def open_run(path: str | Path) -> "Run":
    """Open a finished run for queries.

    Args:
        path: the run directory, such as `runs/baseline`.

    Raises:
        UsageError: there is no run.
        UpstreamError: a stage that queries need is missing.
        DamagedError: an artifact is not what its receipt says.
    """
    folder = Path(path)
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} is not a run", hint="make one: simpipe run DATA")
    run = RunDir(folder.absolute())
    hint = run.command(Path(run.describe()["source"]))
    written: dict[str, str] = {}
    keys: dict[str, str] = {}
    for name in NEEDED:
        place = run.standing(name)
        receipt = read_receipt(place)
        if receipt is None:
            raise UpstreamError(f"{folder} has no finished {name} stage", hint=hint)
        for problem in damage(place, receipt["outputs"]):
            raise DamagedError(problem, hint=f"rebuild it: {hint}")
        for artifact, digest in receipt["key_doc"]["inputs"].items():
            if written.get(artifact, digest) != digest:
                raise UpstreamError(f"{folder}: {name} was made from another {artifact}", hint=hint)
        keys[name] = receipt["key"]
        written |= {f"{name}/{file}": f"sha256:{each['sha256']}" for file, each in receipt["outputs"].items()}
    return Run(run, keys)


@dataclass(frozen=True)
class Run:
    """A finished run. Neighbours come from all its images; labels and thresholds from the train gallery.

    `keys` are those of its stages when it was opened.
    """

    directory: RunDir
    keys: Mapping[str, str]

    def query(
        self, images: Sequence[str | Path], k: int = 5, threshold: str | float | None = None
    ) -> list[QueryResult]:
        """The `k` most similar images of each image, and its calibrated label.

        Args:
            images: paths of image files.
            k: how many neighbours.
            threshold: the name of a threshold in calibration.json, such as "optimal" or "precision_0.95"; or
                a cosine distance in [0, 2], also as text. None: the one that the report works with, the first
                for a precision that can be met, or else the best F1; in a run without labels "familiar_0.95".

        Raises:
            UsageError: the threshold is neither known nor such a distance, or a file is not there.
            DataError: a file is no image.
            DamagedError: the run was brought up to date since it was opened.
        """
        import numpy as np

        from simpipe.learning.features import BATCH

        limit = self._threshold(threshold)
        if not images:
            return []
        pixels = [self._pixels(Path(image)) for image in images]
        extract = self._extractor
        features = np.concatenate(
            [extract(np.stack(pixels[start : start + BATCH]))[0] for start in range(0, len(pixels), BATCH)]
        )
        queries = np.empty((len(pixels), self._encoder.dim), np.float32)
        self._encoder.embed(features, queries)
        results = [
            QueryResult(str(image), matched, near)
            for image, matched, near in zip(
                images, self._match(queries, limit), self._neighbours(queries, k), strict=True
            )
        ]
        self._require_unchanged()
        return results

    def _require_unchanged(self) -> None:
        """Refuse an answer that was put together from two generations of the run."""
        for name, key in self.keys.items():
            receipt = read_receipt(self.directory.standing(name))
            if receipt is None or receipt["key"] != key:
                raise DamagedError(
                    f"{self.directory.path}: {name} was made anew since the run was opened",
                    hint="open it again, or ask again",
                )

    def _neighbours(self, queries: "npt.NDArray[np.float32]", k: int) -> list[list[Neighbour]]:
        found = self._index.search(queries, k)
        samples, names = self._samples, self._labels
        return [
            [
                Neighbour(
                    self._paths[samples.sample_id[row]],
                    names[samples.label_id[row]] if names else None,
                    round(float(distance), 6),
                    str(samples.split[row]),
                )
                for row, distance in zip(ids, distances, strict=True)
                if row >= 0
            ]
            for ids, distances in zip(found.ids, found.distances, strict=True)
        ]

    def _match(self, queries: "npt.NDArray[np.float32]", limit: float | None) -> list[Match]:
        from simpipe.search.matching import find_matches
        from simpipe.similarity import nearest

        rows = self._samples.rows("train")
        gallery, labels, calibration = self._embeddings[rows], self._samples.label_id[rows], self._calibration
        if not self._labels:
            distances = nearest(queries, gallery, 1).distances[:, 0]
            return [Match(None, None, round(float(distance), 6), limit) for distance in distances]
        matched, margins = find_matches(queries, gallery, labels, calibration["match"], calibration["k"])
        return [
            Match(
                self._labels[label] if limit is None or distance <= limit else None,
                self._labels[label],
                round(float(distance), 6),
                limit,
                probability,
            )
            for label, distance, probability in zip(
                *matched, self._probabilities(matched.distances, margins), strict=True
            )
        ]

    def _probabilities(
        self, distances: "npt.NDArray[np.float32]", margins: "npt.NDArray[np.float32]"
    ) -> list[float | None]:
        import numpy as np

        from simpipe.metrics.probability import Calibrated

        stored = self._calibration.get("probability") or {}
        if not stored.get("knots"):
            return [None] * len(distances)
        knots = (np.array(stored["knots"][name]) for name in ("score", "probability"))
        fitted = Calibrated(stored["margin_weight"], *knots)
        return [round(each, 6) for each in fitted.of(distances, margins).tolist()]

    def _threshold(self, wanted: str | float | None) -> float | None:
        from simpipe.metrics.calibration import working_threshold

        thresholds = self._calibration["thresholds"]
        name = working_threshold(thresholds) if wanted is None else wanted
        if name is None:
            return None
        if name not in thresholds:
            return _distance(name, known=thresholds)
        distance = thresholds[name]["distance"]
        if distance is None:
            raise UsageError(f"the threshold {name} could not be chosen: {thresholds[name]['reason']}")
        return float(distance)

    def _pixels(self, path: Path) -> "npt.NDArray[np.uint8]":
        from simpipe.data.decode import BadImage
        from simpipe.data.preparation import Preparation, pixels

        backbone = self._encoder.record["backbone"]
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        try:
            preparation = Preparation.of(backbone["preparation"])
            return pixels(raw, backbone["input_size"], preparation, self._config.ingest.max_pixels)
        except BadImage as error:
            raise DataError(f"{path} is no image that can be read: {error}") from error

    @cached_property
    def _config(self) -> "Config":
        from simpipe.config import read_resolved

        return read_resolved(self.directory.config, self.directory.describe()["config"]["sha256"])

    @cached_property
    def _samples(self) -> "Samples":
        from simpipe.data.manifest import read_samples

        return read_samples(self.directory.standing("ingest") / "samples.parquet")

    @cached_property
    def _paths(self) -> dict[str, str]:
        from simpipe.data.manifest import read_manifest

        return read_manifest(self.directory.standing("ingest") / "manifest.parquet").paths_by_sample

    @cached_property
    def _labels(self) -> list[str]:
        document = read_json(self.directory.standing("ingest") / "labels.json")
        return [label["name"] for label in document["labels"]]

    @cached_property
    def _calibration(self) -> dict[str, Any]:
        document: dict[str, Any] = read_json(self.directory.standing("calibrate") / "calibration.json")
        return document

    @cached_property
    def _embeddings(self) -> "npt.NDArray[np.float32]":
        import numpy as np

        embeddings: npt.NDArray[np.float32] = np.load(
            self.directory.standing("index") / "embeddings.npy", mmap_mode="r", allow_pickle=False
        )
        return embeddings

    @cached_property
    def _index(self) -> "VectorIndex":
        from simpipe import search

        folder = self.directory.standing("index")
        described = read_json(folder / "index.json")
        receipt = read_receipt(folder) or {"outputs": {}}
        # again, right before: native code trusts what it reads, and the run may be open for long
        for problem in damage(folder, {"index.bin": receipt["outputs"].get("index.bin", NOTHING)}):
            raise DamagedError(problem, hint=f"rebuild it: simpipe index --run {self.directory.path}")
        return search.load(
            described["backend"], folder / "index.bin", self._embeddings, described["parameters"]
        )

    @cached_property
    def _encoder(self) -> "Encoder":
        from simpipe.learning import load_framework
        from simpipe.learning.encoder import Encoder

        load_framework()
        return Encoder.open(self.directory.standing("train"))

    @cached_property
    def _extractor(self) -> "Extractor":
        return self._encoder.extractor()


def _distance(wanted: str | float, known: Iterable[str]) -> float:
    """The cosine distance that a user gave in the place of one of the `known` thresholds."""
    try:
        distance = float(wanted)
    except ValueError:
        distance = math.nan
    if 0 <= distance <= FARTHEST:
        return distance
    raise UsageError(
        f"no threshold is called {wanted!r}, and it is no distance from 0 to {FARTHEST}",
        hint=f"this run has {', '.join(known)}; a distance is a number such as 0.3",
    )
