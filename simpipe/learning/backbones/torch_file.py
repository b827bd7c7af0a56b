"""Read tensors from a legacy PyTorch file without PyTorch and without running anything in it.

A `.pth` file is a pickle, and a pickle is a program. This reader resolves four harmless names and
refuses every other one, and its callers check the file's SHA-256 first.
"""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.errors import DamagedError
from simpipe.files import sha256_file

_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor:
    """A view that is filled once the storages, which lie behind the pickle, are read."""

    def __init__(
        self,
        storage: tuple[str, np.dtype[Any], int],
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


def _rebuild_tensor(
    storage: tuple[str, np.dtype[Any], int],
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: object,
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch", "FloatStorage"): _DTYPES["FloatStorage"],
            ("torch", "LongStorage"): _DTYPES["LongStorage"],
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a weights file")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype[Any], int]:
        _, dtype, key, _, count = pid[:5]
        return key, dtype, count


def read_torch_file(path: Path, sha256: str) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a legacy `.pth` file by name.

    Args:
        path: the file.
        sha256: the hash it must have; nothing in the file is looked at before it is checked.

    Raises:
        DamagedError: the file is another one.
    """
    if sha256_file(path) != sha256:
        raise DamagedError(
            f"{path}: not the weights that simpipe was tested with",
            hint="reinstall the package that holds it",
        )
    with path.open("rb") as stream:
        for _ in range(3):  # magic number, protocol version, byte order
            _Reader(stream).load()
        tensors = _Reader(stream).load()
        keys = _Reader(stream).load()
        content = io.BytesIO(stream.read())
    dtypes = {tensor.storage[0]: tensor.storage[1] for tensor in tensors.values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(content.read(8), "little")
        storages[key] = np.frombuffer(content.read(count * dtypes[key].itemsize), dtypes[key])
    return {name: _view(storages[tensor.storage[0]], tensor) for name, tensor in tensors.items()}


def _view(storage: npt.NDArray[Any], tensor: _Tensor) -> npt.NDArray[Any]:
    return np.ndarray(
        tensor.shape,
        storage.dtype,
        storage,
        tensor.offset * storage.itemsize,
        tuple(stride * storage.itemsize for stride in tensor.strides),
    )
