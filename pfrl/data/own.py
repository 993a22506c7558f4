"""The user's own data: a function in a Python file returns them, written ``FILE.py:FUNCTION``."""

import contextlib
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from pfrl.data import streams
from pfrl.data.arrays import of_arrays
from pfrl.data.base import DataError, Dataset
from pfrl.data.streams import LostPicture, Undecoded
from pfrl.user_code import UserCodeError, as_main_folder, raises, run_file

log = logging.getLogger(__name__)

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

    Images that do not fit into memory (``pfrl.data.streams.IN_MEMORY``) are asked for when they
    are looked at, in other processes too, which call the function again: those of such a sequence,
    but for a list, and arrays ``(images, targets)`` that are not in memory, as ``numpy.load`` with
    ``mmap_mode`` and h5py give them. What has ``targets`` or ``labels`` of its length is believed;
    else every example is asked for its target once.

    Raises:
      DataError: if there is no such function, or it returns something else.
      UserCodeError: if there is no such file, or it fails.
    """
    with _telling(name):
        result = _called(name)
        if isinstance(result, Dataset):
            return replace(result, name=name)
        arrays = _arrays(name, result)
    return of_arrays(name, name, arrays)


def _called(name: str) -> Any:
    path, function = file_of(name)
    make = getattr(run_file(path), function, None)
    if not callable(make):
        raise DataError(f"{path} has no function '{function}'; it is to return {EXPECTED}")
    return make()


def file_of(name: str) -> tuple[Path, str]:
    """The file and the function of ``FILE.py:FUNCTION``."""
    place, _, function = name.rpartition(":")
    return Path(place).expanduser(), function


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """What the user's code prints goes to standard error, and what it raises is a sentence."""
    path, _ = file_of(name)
    with as_main_folder(path), contextlib.redirect_stdout(sys.stderr):
        try:
            yield
        except (Exception, SystemExit) as error:
            if isinstance(error, DataError | UserCodeError):
                raise
            raise DataError(f"the function {name} {raises(path, error)}") from error


def _arrays(name: str, result: Any) -> dict[str, Any]:
    if isinstance(result, Mapping):
        return _complete(name, {key: np.asarray(value) for key, value in result.items()})
    if _is_pair(result):
        images, targets = result[0], np.asarray(result[1])
        held = isinstance(images, np.ndarray) and not isinstance(images, np.memmap)
        if held or math.prod(images.shape) <= streams.IN_MEMORY:
            return {"images": np.asarray(images), "targets": targets}
        result = _Rows(images, targets)
    if not (hasattr(result, "__len__") and hasattr(result, "__getitem__")) or len(result) == 0:
        raise DataError(f"{name} returns a {type(result).__name__}; expected {EXPECTED}")
    first, _ = _example(name, result[0])
    if not isinstance(result, list) and first.nbytes * len(result) > streams.IN_MEMORY:
        _SOURCES[name] = result
        images = Examples(name, np.arange(len(result)), _image(name, first).shape)
        return {"images": images, "targets": _targets(name, result, np.shape(first))}
    examples = [_example(name, result[index]) for index in range(len(result))]
    shapes = {np.shape(image) for image, _ in examples}
    if len(shapes) > 1:
        raise DataError(_unequal(name, *sorted(shapes)[:2]))
    images, targets = (np.stack(part) for part in zip(*examples, strict=True))
    return {"images": images, "targets": targets}


@dataclass(frozen=True, eq=False)
class Examples(Undecoded):
    """Images of a sequence, each asked for when it is looked at.

    Attributes:
      name: ``FILE.py:FUNCTION``, which is called in every process that looks at some.
      index: places in what it returns, ``[N]``.
      sides: ``(H, W, C)``.
    """

    name: str
    index: np.ndarray
    sides: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.index), *self.sides

    def __getitem__(self, index: Any) -> "Examples":
        return replace(self, index=self.index[index])

    def at(self, place: int) -> np.ndarray:
        number = int(self.index[place])
        with _ONE_AT_A_TIME, _telling(self.name):
            image = _image(self.name, _example(self.name, _source(self.name)[number])[0])
        if image.shape != self.sides:
            raise LostPicture(_unequal(self.name, self.sides, image.shape))
        return image


_SOURCES: dict[str, Any] = {}
"""What functions of users returned in this process, where it is too much for memory."""
_ONE_AT_A_TIME = RLock()
"""For what is a user's, such as an open file, need not stand several threads."""


def _source(name: str) -> Any:
    if name not in _SOURCES:
        result = _called(name)
        pair = _is_pair(result)
        _SOURCES[name] = _Rows(result[0], np.asarray(result[1])) if pair else result
    return _SOURCES[name]


class _Rows:
    """Arrays as a sequence of pairs."""

    def __init__(self, images: Any, targets: np.ndarray):
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.images[index]), self.targets[index]


def _image(name: str, image: np.ndarray) -> np.ndarray:
    """uint8 ``[H, W, C]``."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        raise DataError(
            f"{name} returns images {image.dtype} {list(image.shape)}, expected uint8 [H, W] or"
            " [H, W, C]"
        )
    return image[..., None] if image.ndim == 2 else image


def _targets(name: str, source: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Of all examples, whose images are of one shape."""
    for attribute in ("targets", "labels"):
        found = getattr(source, attribute, None)
        if found is not None and np.shape(found)[:1] == (len(source),):
            return np.asarray(found)
    targets = []
    for index in range(len(source)):
        log.info("asking examples for their targets: %d of %d", index + 1, len(source))
        image, target = _example(name, source[index])
        if image.shape != shape:
            raise DataError(_unequal(name, shape, image.shape))
        targets.append(target)
    return np.stack(targets)


def _is_pair(result: Any) -> bool:
    """Whether these are all images and all targets, and not two examples."""
    two = isinstance(result, tuple | list) and len(result) == 2
    return two and hasattr(result[0], "shape") and len(result[0].shape) >= 3


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


def _unequal(name: str, one: tuple[int, ...], other: tuple[int, ...]) -> str:
    return (
        f"{name} returns images of different shapes, {list(one)} and {list(other)}; resize them to"
        " one size"
    )
