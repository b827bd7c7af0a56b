"""Which file of the run holds what the page shows, for programs that go on from it."""

from simpipe.reporting.content import Content

LABELLED = (
    ("evaluate/metrics.json", "The numbers of the verdict and of the ladder, with intervals."),
    ("evaluate/relations.json", "Confused pairs of labels, and how similar every two labels are."),
    ("evaluate/confusion.csv", "The whole confusion matrix."),
    ("evaluate/classes.csv", "Recall, precision and F1 of each label, with intervals."),
    (
        "report/mistakes.csv",
        "Each mistake, and each right answer that the threshold turns away (wrong = no), with its kinds, its "
        "probability, and the images that voted with their similarity.",
    ),
    ("evaluate/findings.csv", "Likely label errors, duplicates, conflicts, leaks and all other findings."),
    ("calibrate/calibration.json", "The thresholds with what they do, and the probability of an answer."),
    ("report/threshold_curve.csv", "What every threshold does to the test images."),
    ("evaluate/per_query.parquet", "For each test image its answer and the distance of its match."),
)
UNLABELLED = (
    ("evaluate/metrics.json", "The numbers of the verdict."),
    ("evaluate/clusters.parquet", "The group of each image, and whether it is typical of it."),
    ("evaluate/findings.csv", "Copies, outliers and all other findings."),
    ("calibrate/calibration.json", "The distance from which on an image is not familiar."),
)
ALWAYS = (
    ("report/map.csv", "Each image with its place on the map, and what it was taken for."),
    ("evaluate/neighbours.npz", "The nearest of every image by row, own copies left out, as distances."),
    ("ingest/samples.parquet", "Each image with its label, split and group, in the order of all arrays."),
    ("ingest/manifest.parquet", "Each file that was seen: its path, and why it was left out."),
    ("train/history.csv", "Training by epoch; empty where nothing was trained."),
    ("train/encoder.json", "What the encoder is made of."),
    ("config.yaml", "The configuration of the run."),
)


def files(content: Content) -> list[tuple[str, str]]:
    """The files by their path inside the run's folder, and what each holds."""
    return [*(LABELLED if content.labelled else UNLABELLED), *ALWAYS]
