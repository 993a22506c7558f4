"""Reading a pickle that may hold numpy arrays and plain values, and nothing that runs code."""

import pickle
from collections.abc import Callable
from typing import IO, Any, cast

import numpy as np


def load_arrays(stream: IO[bytes]) -> Any:
    """What a pickle of plain values and numpy arrays holds.

    Strings of Python 2, which CIFAR-10's archive was written by, are read as
    latin-1.

    Raises:
      ValueError: if the pickle names anything but the parts of an array, or is
        damaged.
    """
    try:
        return _ArrayUnpickler(stream, encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"no pickle of plain arrays: {error}") from error


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 moved its core; both places mean the same function.
        place = module.replace("numpy._core", "numpy.core")
        if (place, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")
        return _ADMITTED[place, name]


def _dtype(code: str, align: int = 0, copy: int = 0) -> np.dtype:
    """``numpy.dtype`` as old pickles call it: numpy wants booleans where they hold 0 and 1."""
    return np.dtype(code, align=bool(align), copy=bool(copy))


def _bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in an old protocol: as text to be encoded again."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}, expected latin1")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    # An array names its own constructor, so that numpy's private module need not be imported.
    ("numpy.core.multiarray", "_reconstruct"): cast(Callable, np.empty(0).__reduce__()[0]),
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _bytes,
}
