"""The user's own images and targets in one ``.npz`` file, for every task."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pfrl.data.base import IMAGENET_MEAN, IMAGENET_STD, DataError, Dataset, Split, hold_out
from pfrl.data.sources import SPLIT_SEED
from pfrl.files import FileError, load_arrays
from pfrl.tasks import Classification, Landmarks, Pose, Task
from pfrl.tasks.points import box_sides, distance_between

HELD_SHARE = 0.1
SPLITS = ("train", "search", "test")
REQUIRED = ("images", "targets")
OPTIONAL = ("task", "names", "split", "between", "alpha", "sigma")


class Kind(NamedTuple):
    """A task by name: how it is made, which options it has, and how its targets are checked.

    Attributes:
      make: the task of some options.
      options: arrays of the file that are fields of the task.
      check: raises a ``DataError`` unless the targets and the number of names fit.
    """

    make: Callable[..., Task]
    options: tuple[str, ...]
    check: Callable[[Path, np.ndarray, int], None]


def read_arrays(path: str) -> Dataset:
    """The images and targets of an ``.npz`` file of plain arrays (``numpy.savez_compressed``).

    ``images`` is uint8 ``[N, H, W]`` or ``[N, H, W, C]``. ``targets`` decides about the task:

    * integers ``[N]`` from 0: classes;
    * floats ``[N, K, 2]``: landmarks, or key points if ``task`` is the string "pose";
    * floats ``[N, K, 3]``: key points and whether they are visible (1) or not (0).

    Points are ``(row, column)`` as shares of the image's height and width, see
    ``pfrl.tasks.points``. What else there may be: ``names``, strings ``[K]``, of the classes or
    points; ``split``, strings ``[N]`` of "train", "search" and "test" (without it a tenth each is
    held out for the latter two, always the same images); ``between``, the numbers of two points
    whose distance errors are divided by; ``alpha`` and ``sigma``, fields of ``Pose``. Images are
    used as they are, neither cropped nor mirrored.

    Raises:
      DataError: if the file is missing or damaged, or its arrays are not as above.
    """
    file = Path(path).expanduser()
    arrays = _load(file)
    images, targets = _images(file, arrays["images"]), arrays["targets"]
    if targets.shape[:1] != images.shape[:1]:
        raise DataError(
            f"{file} has {len(images)} images and targets {list(targets.shape)}; expected a target"
            " for every image"
        )
    name, kind = _kind(file, arrays)
    names = _names(arrays, targets)
    kind.check(file, targets, len(names))
    targets = targets.astype(np.int32 if targets.ndim == 1 else np.float32)
    everything = Split(images, targets)
    train, search, test = _splits(file, arrays.get("split"), targets)
    colour = images.shape[-1] == 3
    return Dataset(
        f"npz:{path}",
        everything.take(train),
        everything.take(search),
        partial(everything.take, test),
        names,
        IMAGENET_MEAN if colour else (0.5,) * images.shape[-1],
        IMAGENET_STD if colour else (0.5,) * images.shape[-1],
        crop=0,
        flip=False,
        task=_task(file, name, kind, arrays, images.shape[2] / images.shape[1]),
    )


def _load(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise DataError(f"no file {file}; expected an .npz with {' and '.join(REQUIRED)}")
    try:
        arrays, _ = load_arrays(file)
    except FileError as error:
        raise DataError(str(error)) from error
    missing = [name for name in REQUIRED if name not in arrays]
    strange = [name for name in arrays if name not in REQUIRED + OPTIONAL]
    if missing or strange:
        what = f"has no array '{missing[0]}'" if missing else f"has an array '{strange[0]}'"
        raise DataError(
            f"{file} {what}; expected {', '.join(REQUIRED)} and perhaps {', '.join(OPTIONAL)}"
        )
    return arrays


def _images(file: Path, images: np.ndarray) -> np.ndarray:
    if images.ndim not in (3, 4) or images.dtype != np.uint8 or 0 in images.shape:
        raise DataError(
            f"{file} has images {images.dtype} {list(images.shape)}, expected uint8 [N, H, W] or"
            " [N, H, W, C]"
        )
    return images[..., None] if images.ndim == 3 else images


def _kind(file: Path, arrays: Mapping[str, np.ndarray]) -> tuple[str, Kind]:
    """The task's name, given or told by the shape of the targets."""
    targets = arrays["targets"]
    by_shape = "classification" if targets.ndim == 1 else "landmarks"
    if targets.ndim == 3 and targets.shape[-1] == 3:
        by_shape = "pose"
    name = str(arrays["task"]) if "task" in arrays else by_shape
    if name not in KINDS:
        raise DataError(f"{file} has the task '{name}', expected one of {', '.join(KINDS)}")
    return name, KINDS[name]


def _names(arrays: Mapping[str, np.ndarray], targets: np.ndarray) -> tuple[str, ...]:
    if "names" in arrays:
        return tuple(map(str, arrays["names"].ravel()))
    if targets.ndim > 1:
        return tuple(map(str, range(targets.shape[1])))
    whole = np.issubdtype(targets.dtype, np.integer)
    return tuple(map(str, range(int(targets.max()) + 1 if whole else 0)))


def _check_labels(file: Path, labels: np.ndarray, classes: int) -> None:
    whole = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0 or labels.max() >= classes or classes < 2:
        raise DataError(
            f"{file} has targets {labels.dtype} {list(labels.shape)} for {classes} classes,"
            " expected whole numbers [N] from 0 up to the number of names, of two classes at least"
        )


def _check_points(file: Path, points: np.ndarray, names: int, widths: tuple[int, ...]) -> None:
    shaped = points.ndim == 3 and points.shape[2] in widths and points.shape[1] == names
    if not shaped or not np.issubdtype(points.dtype, np.floating):
        raise DataError(
            f"{file} has targets {points.dtype} {list(points.shape)}, expected floats"
            f" [N, {names}, {' or '.join(map(str, widths))}]: points of {names} names"
        )
    places = points[..., :2]
    visible = points[..., 2] > 0 if points.shape[2] == 3 else np.ones(points.shape[:2], bool)
    if not np.isfinite(points).all() or not ((places >= 0) & (places <= 1))[visible].all():
        raise DataError(
            f"{file} has points outside of the image or that are no numbers, expected (row, column)"
            " from 0 to 1, shares of the image's height and width"
        )
    marked = box_sides(places, visible=visible).max(-1) > 0
    if not marked.all():
        raise DataError(
            f"image {int(marked.argmin())} of {file} has no two different visible points, and"
            " errors are judged by their distance; leave such images out"
        )


def _task(
    file: Path, name: str, kind: Kind, arrays: Mapping[str, np.ndarray], aspect: float
) -> Task:
    """The task with the options of the file."""
    given = [option for option in ("between", "alpha", "sigma") if option in arrays]
    strange = [option for option in given if option not in kind.options]
    if strange:
        raise DataError(f"{file} has '{strange[0]}', which is no option of the task '{name}'")
    options: dict[str, Any] = {}
    for option in given:
        value = arrays[option]
        if option == "between":
            options[option] = _pair(file, value, arrays["targets"])
        elif value.ndim or value.dtype.kind not in "iuf" or not 0 < value < np.inf:
            raise DataError(f"{file} has {option} {value}, expected one number above 0")
        else:
            options[option] = float(value)
    if "between" in kind.options:
        options["aspect"] = aspect
    return kind.make(**options)


def _pair(file: Path, pair: np.ndarray, points: np.ndarray) -> tuple[int, int]:
    count = points.shape[1]
    whole = pair.shape == (2,) and np.issubdtype(pair.dtype, np.integer)
    if not whole or not 0 <= pair.min() < pair.max() < count:
        raise DataError(
            f"{file} has between {pair.tolist()}, expected the numbers of two of {count} points"
        )
    first, second = int(pair[0]), int(pair[1])
    apart = distance_between(points[..., :2], (first, second)) > 0
    if points.shape[2] == 3:
        apart &= (points[:, pair, 2] > 0).all(1)
    if not apart.all():
        raise DataError(
            f"image {int(apart.argmin())} of {file} has no two different visible points {first} and"
            f" {second}, and errors are judged by their distance; leave out such images or between"
        )
    return first, second


def _splits(
    file: Path, split: np.ndarray | None, targets: np.ndarray
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


KINDS = {
    "classification": Kind(Classification, (), _check_labels),
    "landmarks": Kind(Landmarks, ("between",), partial(_check_points, widths=(2,))),
    "pose": Kind(Pose, ("between", "alpha", "sigma"), partial(_check_points, widths=(2, 3))),
}
