"""The user's own images and targets in one ``.npz`` file, for every task."""

import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pfrl.data.base import IMAGENET_MEAN, IMAGENET_STD, DataError, Dataset, Split, hold_out
from pfrl.data.sources import SPLIT_SEED
from pfrl.files import FileError, load_arrays
from pfrl.registry import RegistryError, register
from pfrl.tasks import TASKS, TargetError, Task

HELD_SHARE = 0.1
SPLITS = ("train", "search", "test")
REQUIRED = ("images", "targets")
OPTIONAL = ("task", "names", "split")


@register("dataset", "npz:")
def read_arrays(path: str) -> Dataset:
    """The images and targets of an ``.npz`` file of plain arrays (``numpy.savez_compressed``).

    ``images`` is uint8 ``[N, H, W]`` or ``[N, H, W, C]``. ``targets`` decides about the task:

    * integers ``[N]`` from 0: classes;
    * floats ``[N, K, 2]``: landmarks, or key points if ``task`` is the string "pose";
    * floats ``[N, K, 3]``: key points and whether they are visible (1) or not (0).

    Points are ``(row, column)`` as shares of the image's height and width, see
    ``pfrl.tasks.points``. What else there may be: ``task``, a registered task by name; ``names``,
    strings ``[K]``, of the classes or points; ``split``, strings ``[N]`` of "train", "search" and
    "test" (without it a tenth each is held out for the latter two, always the same images); and
    the fields of the task, such as ``between``, the numbers of two points whose distance errors
    are divided by, or ``alpha`` and ``sigma`` of ``Pose``. Images are used as they are, neither
    cropped nor mirrored.

    Raises:
      DataError: if the file is missing or damaged, or its arrays are not as above.
    """
    file = Path(path).expanduser()
    return of_arrays(f"npz:{path}", file, _load(file))


def of_arrays(name: str, file: Path | str, arrays: Mapping[str, Any]) -> Dataset:
    """See ``read_arrays``.

    Args:
      name: of the data set.
      file: what messages call the arrays' place.
      arrays: by name; images may be ``Undecoded``.

    Raises:
      DataError: if they are not as said there.
    """
    images, targets = _images(file, arrays["images"]), arrays["targets"]
    if targets.shape[:1] != images.shape[:1]:
        raise DataError(
            f"{file} has {len(images)} images and targets {list(targets.shape)}; expected a target"
            " for every image"
        )
    names = _names(arrays, targets)
    task = _task(file, arrays, images.shape[2] / images.shape[1])
    try:
        task.check(targets, len(names))
    except TargetError as error:
        raise DataError(f"{file} has {error}") from error
    targets = targets.astype(np.int32 if targets.ndim == 1 else np.float32)
    everything = Split(images, targets)
    train, search, test = _splits(file, arrays.get("split"), targets)
    colour = images.shape[-1] == 3
    return Dataset(
        name,
        everything.take(train),
        everything.take(search),
        partial(everything.take, test),
        names,
        IMAGENET_MEAN if colour else (0.5,) * images.shape[-1],
        IMAGENET_STD if colour else (0.5,) * images.shape[-1],
        crop=0,
        flip=False,
        task=task,
    )


def _load(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise DataError(f"no file {file}; expected an .npz with {' and '.join(REQUIRED)}")
    try:
        arrays, _ = load_arrays(file)
    except FileError as error:
        raise DataError(str(error)) from error
    if missing := [name for name in REQUIRED if name not in arrays]:
        raise DataError(f"{file} has no array '{missing[0]}'; expected {' and '.join(REQUIRED)}")
    return arrays


def _images(file: Path | str, images: Any) -> Any:
    if images.ndim not in (3, 4) or images.dtype != np.uint8 or 0 in images.shape:
        raise DataError(
            f"{file} has images {images.dtype} {list(images.shape)}, expected uint8 [N, H, W] or"
            " [N, H, W, C]"
        )
    return images[..., None] if images.ndim == 3 else images


def _task(file: Path | str, arrays: Mapping[str, np.ndarray], aspect: float) -> Task:
    """The task that is named, or told by the shape of the targets, with its options.

    Args:
      aspect: width of the images over their height, for tasks that have such a field.
    """
    targets = arrays["targets"]
    by_shape = "classification" if targets.ndim == 1 else "landmarks"
    if targets.ndim == 3 and targets.shape[-1] == 3:
        by_shape = "pose"
    name = str(arrays["task"]) if "task" in arrays else by_shape
    try:
        make = TASKS[name]
    except RegistryError as error:
        raise DataError(f"{file} has an {error}") from error
    parameters = inspect.signature(make).parameters
    defaults = {option: parameter.default for option, parameter in parameters.items()}
    options: dict[str, Any] = {}
    if "aspect" in defaults:
        del defaults["aspect"]
        options["aspect"] = aspect
    for option in (name for name in arrays if name not in REQUIRED + OPTIONAL):
        if option not in defaults:
            known = ", ".join((*REQUIRED, *OPTIONAL, *defaults))
            raise DataError(
                f"{file} has an array '{option}'; for the task '{name}' expected some of {known}"
            )
        options[option] = _option(file, option, arrays[option], defaults[option])
    return make(**options)


def _option(file: Path | str, name: str, value: np.ndarray, default: Any) -> Any:
    """A number where the default is one, else a tuple."""
    if not isinstance(default, int | float):
        return tuple(value.ravel().tolist())
    if value.ndim or value.dtype.kind not in "iuf" or not 0 < value < np.inf:
        raise DataError(f"{file} has {name} {value}, expected one number above 0")
    return float(value)


def _names(arrays: Mapping[str, np.ndarray], targets: np.ndarray) -> tuple[str, ...]:
    if "names" in arrays:
        return tuple(map(str, arrays["names"].ravel()))
    if targets.ndim > 1:
        return tuple(map(str, range(targets.shape[1])))
    whole = np.issubdtype(targets.dtype, np.integer)
    return tuple(map(str, range(int(targets.max()) + 1 if whole else 0)))


def _splits(
    file: Path | str, split: np.ndarray | None, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the training, search and test images."""
    count = len(targets)
    if split is not None:
        known = split.shape == (count,) and set(map(str, split)) == set(SPLITS)
        if not known:
            raise DataError(
                f"{file} has a split {split.dtype} {list(split.shape)}, expected for each of"
                f" {count} images one of {', '.join(SPLITS)}, and every one of them somewhere"
            )
        train, search, test = (np.flatnonzero(split.astype(str) == name) for name in SPLITS)
        return train, search, test
    held = max(round(HELD_SHARE * count), 1)
    if count < 3 * held:
        raise DataError(f"{file} has {count} images, too few to hold some out; expected 3 or more")
    # Without classes all images are of one.
    groups = targets if targets.ndim == 1 else np.zeros(count, np.int32)
    rng = np.random.default_rng(SPLIT_SEED)
    rest, test = hold_out(groups, held, rng)
    train, search = hold_out(groups[rest], held, rng)
    return rest[train], rest[search], test
