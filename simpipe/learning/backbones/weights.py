"""Where weights come from: a user's file, or random numbers from a seed."""

from pathlib import Path
from typing import Any

import numpy as np

from simpipe.errors import UsageError
from simpipe.files import sha256_file


def require_weights_file(path: str) -> Path:
    """The `.weights.h5` file at `path`.

    Only weight files are read: a file that holds a whole model could run code.

    Raises:
        UsageError: it is missing, or of another kind.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(
            f"train.weights: no such file: {path}",
            hint="use imagenet, none, or the path of a .weights.h5 file",
        )
    if not file.name.endswith(".weights.h5"):
        raise UsageError(
            f"train.weights: {path} is not a .weights.h5 file", hint="save one with model.save_weights()"
        )
    return file


def load_weights_file(model: Any, path: str) -> str:
    """Load a `.weights.h5` file into `model` and return the file's id.

    Raises:
        UsageError: the file is missing, of another kind, or does not fit the network.
    """
    file = require_weights_file(path)
    try:
        model.load_weights(file)
    except Exception as error:
        raise UsageError(f"train.weights: {path} does not fit {model.name}: {error}") from error
    return f"sha256:{sha256_file(file)}"


def randomise(model: Any, seed: int) -> str:
    """Draw every kernel of `model` from He's normal distribution (arXiv:1502.01852) and return the id.

    Keras would draw them from a global generator.
    """
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            fan_in = int(np.prod(shape[:2] if "depthwise" in variable.path else shape[:-1]))
            variable.assign(generator.normal(0, np.sqrt(2 / fan_in), shape).astype("float32"))
    return f"random:{seed}"
