"""Which memos in the shared cache a run uses. Their names are made of what they remember."""

from pathlib import Path

from simpipe.engine.rundir import RunDir
from simpipe.errors import DamagedError
from simpipe.files import digest, read_json


def feature_folders(run: RunDir) -> set[Path]:
    """The folders of the feature cache that the run's encoder uses: see `learning.features.FeatureCache`.

    Raises:
        FileNotFoundError: the run has no encoder yet.
        DamagedError: its encoder.json cannot be read.
    """
    from simpipe.learning.encoder import cached_recipes

    path = run.standing("train") / "encoder.json"
    record = read_json(path)
    try:
        recipes = cached_recipes(record)
    except (LookupError, TypeError) as error:
        raise DamagedError(f"{path}: names no backbone") from error
    return {run.cache / "features" / digest(recipe)[:32] for recipe in recipes}


def stat_memo(run: RunDir, source: Path) -> Path:
    """The file with the hashes of the images below `source`: see `stages.ingest.fingerprint_of`."""
    return run.cache / "stat" / f"{digest(str(source))[:16]}.json"


def picture_folder(run: RunDir) -> Path:
    """The folder of what ingest remembers of images: see `data.pictures.PictureStore`."""
    from simpipe.data.examine import Options
    from simpipe.data.pictures import store_folder

    values = run.describe()["config"]["values"]
    return store_folder(run.cache / "pictures", Options.of(values).recipe)


def copy_names(run: RunDir) -> set[str]:
    """How the copies of the run's images are called, but for their suffixes: see `data.copies`.

    Raises:
        DamagedError: its manifest cannot be read.
    """
    from simpipe.data.examine import Options
    from simpipe.data.manifest import read_manifest
    from simpipe.data.preparation import recipe

    path = run.standing("ingest") / "manifest.parquet"
    if not path.is_file():
        return set()
    made = recipe(Options.of(run.describe()["config"]["values"]).preparation)
    table = read_manifest(path).table.select(["sha256", "copy"]).to_pydict()
    return {f"{sha256}-{made}" for sha256, copy in zip(table["sha256"], table["copy"], strict=True) if copy}
