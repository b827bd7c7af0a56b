"""The parameters of a sampler."""

from dataclasses import asdict, dataclass
from typing import Any

from simpipe.errors import UsageError

_CHOICES = {
    "mode": ("multi_shot", "single_shot", "coverage"),
    "balance": ("none", "sqrt", "class", "effective"),
    "single_image": ("augment", "keep"),
}


@dataclass(frozen=True)
class BatchPlan:
    """The resolved parameters of a sampler; see the configuration's section `sampler`.

    Attributes:
        classes_per_batch: P, most classes in a batch, from 2; if there are fewer, each batch has all of them.
        examples_per_class_per_batch: K, from 1; a class with fewer images gives all it has.
        balance: how the mass of a class grows with its number of images n: n (`none`), √n (`sqrt`), 1
            (`class`), or n / E_n with E_n = (1 − βⁿ) / (1 − β), its effective number (`effective`; Cui et
            al., arXiv:1901.05555, eq. 2). `coverage` takes n.
        coverage: draws in an epoch as a multiple of the number of training images, above 0.
        min_batches: batches in an epoch, at least, as far as `max_repeat` allows.
        max_repeat: most draws of one image in an epoch, from 1.
        seed: of all orders.
        mode: P classes of K images (`multi_shot`); the same, with every image at least once in an epoch
            (`coverage`); or each image its own class, P·K/2 of them and each twice (`single_shot`), where of
            the other parameters only the seed counts.
        effective_beta: β in [0, 1); None is 1 − 1 / median(n).
        hard_share: share of the batches, 0 to 1, in which confused classes meet.
        warmup_epochs: first epochs in which only the images themselves are drawn, none augmented; pairs of
            `single_shot` are two views nevertheless.
        single_image: a class of one image gives it twice, in two views, so that it has a positive
            (`augment`), or once (`keep`).

    Raises:
        UsageError: a value that is no choice, or out of range.
    """

    classes_per_batch: int
    examples_per_class_per_batch: int
    balance: str
    coverage: float
    min_batches: int
    max_repeat: float
    seed: int
    mode: str = "multi_shot"
    effective_beta: float | None = None
    hard_share: float = 0.0
    warmup_epochs: int = 0
    single_image: str = "keep"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise UsageError(
                    f"{name} of a batch plan is {value!r}", hint=f"It is {' or '.join(choices)}."
                )
        ranges = {
            "classes_per_batch": (self.classes_per_batch >= 2, "at least 2"),
            "examples_per_class_per_batch": (self.examples_per_class_per_batch >= 1, "at least 1"),
            "coverage": (self.coverage > 0, "above 0"),
            "max_repeat": (self.max_repeat >= 1, "at least 1"),
            "effective_beta": (self.effective_beta is None or 0 <= self.effective_beta < 1, "0 to below 1"),
            "hard_share": (0 <= self.hard_share <= 1, "0 to 1"),
        }
        for name, (right, allowed) in ranges.items():
            if not right:
                raise UsageError(f"{name} of a batch plan is {getattr(self, name)}", hint=f"It is {allowed}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
