"""The user's own data: a function in a Python file returns them, written ``FILE.py:FUNCTION``."""

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pfrl.data.arrays import of_arrays
from pfrl.data.base import DataError, Dataset
from pfrl.user_code import as_main_folder, raises, run_file

EXPECTED = (
    "a pfrl.Dataset, a pair (images, targets), a dictionary of arrays as npz: takes them, or a"
    " sequence of pairs (image, target)"
)


def read_function(name: str) -> Dataset:
    """The data that a function in a user's file returns.

    It takes nothing and returns a ``Dataset``; ``(images, targets)`` or a dictionary of arrays,
    see ``pfrl.data.arrays.read_arrays``; or what has a length and gives ``(image, target)``, or a
    dictionary with ``image`` and ``label``, for every index (a source of ``grain``, a list, a
    data set of PyTorch), images uint8 ``[H, W]`` or ``[H, W, C]`` of one size.

    Raises:
      DataError: if there is no such function, or it returns something else.
      UserCodeError: if there is no such file, or it fails.
    """
    place, _, function = name.rpartition(":")
    path = Path(place).expanduser()
    module = run_file(path)
    make = getattr(module, function, None)
    if not callable(make):
        raise DataError(f"{path} has no function '{function}'; it is to return {EXPECTED}")
    with as_main_folder(path), contextlib.redirect_stdout(sys.stderr):
        try:
            result = make()
            if isinstance(result, Dataset):
                return replace(result, name=name)
            arrays = _arrays(name, result)
        except (Exception, SystemExit) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"the function {name} {raises(path, error)}") from error
    return of_arrays(name, name, arrays)


def _arrays(name: str, result: Any) -> dict[str, np.ndarray]:
    if isinstance(result, Mapping):
        return _complete(name, {key: np.asarray(value) for key, value in result.items()})
    if isinstance(result, tuple | list) and len(result) == 2 and _rank(result[0]) >= 3:
        return {"images": np.asarray(result[0]), "targets": np.asarray(result[1])}
    if not (hasattr(result, "__len__") and hasattr(result, "__getitem__")) or len(result) == 0:
        raise DataError(f"{name} returns a {type(result).__name__}; expected {EXPECTED}")
    examples = [_example(name, result[index]) for index in range(len(result))]
    shapes = {np.shape(image) for image, _ in examples}
    if len(shapes) > 1:
        first, second, *_ = sorted(shapes)
        raise DataError(
            f"{name} returns images of different shapes, {list(first)} and {list(second)}; resize"
            " them to one size"
        )
    images, targets = (np.stack(part) for part in zip(*examples, strict=True))
    return {"images": images, "targets": targets}


def _rank(value: Any) -> int:
    return len(value.shape) if hasattr(value, "shape") else 0


def _complete(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if missing := [key for key in ("images", "targets") if key not in arrays]:
        raise DataError(f"{name} returns no '{missing[0]}'; expected {EXPECTED}")
    return arrays


def _example(name: str, example: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(example, Mapping) and {"image", "label"} <= example.keys():
        example = example["image"], example["label"]
    if not isinstance(example, tuple | list) or len(example) != 2:
        raise DataError(
            f"{name} returns examples of type {type(example).__name__}; expected {EXPECTED}"
        )
    return np.asarray(example[0]), np.asarray(example[1])
