"""A data set as a network sees it that was trained elsewhere: its scaling, its order of classes."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pfrl.data.base import DataError, Dataset, Split


def seen(
    dataset: Dataset,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    classes: tuple[str, ...] | None = None,
) -> Dataset:
    """The same images with another scaling, or another order of classes.

    Args:
      dataset: as it was loaded.
      mean, std: of every channel, for pixels in [0, 1]; None leaves them as they are.
      classes: the names of all classes, in the order of a network's outputs.

    Raises:
      DataError: if the data set has other classes.
    """
    if not dataset.scaled and (mean or std):
        dataset = replace(dataset, mean=mean or dataset.mean, std=std or dataset.std, scaled=True)
    if classes is None or classes == dataset.classes:
        return dataset
    if not dataset.classes:  # images without labels
        return replace(dataset, classes=classes)
    if sorted(classes) != sorted(dataset.classes):
        raise DataError(
            f"the network's classes are {', '.join(classes)}; the data set '{dataset.name}' has"
            f" {', '.join(dataset.classes)}; give the same names"
        )
    places = np.asarray([classes.index(name) for name in dataset.classes], np.int32)

    def renumbered(split: Split) -> Split:
        return Split(split.images, places[split.labels])

    opened: Callable[[], Split] = dataset.open_test
    return replace(
        dataset,
        train=renumbered(dataset.train),
        search=renumbered(dataset.search),
        open_test=lambda: renumbered(opened()),
        classes=classes,
    )


def scaling(name: str) -> tuple[str, tuple[float, ...] | None, tuple[float, ...] | None]:
    """A data set's name without ``?mean=...&std=...`` behind it, and the two.

    Raises:
      DataError: if there is one without the other, or they are no numbers.
    """
    place, mark, text = name.rpartition("?")
    if not mark:
        return name, None, None
    parts: dict[str, str] = {}
    for part in text.split("&"):
        key, _, value = part.partition("=")
        parts[key] = value
    mean, std = parts.pop("mean", None), parts.pop("std", None)
    if mean is None and std is None:
        return name, None, None
    if mean is None or std is None:
        raise DataError("--mean and --std go together; give both, or neither")
    try:
        numbers = [tuple(map(float, written.split(","))) for written in (mean, std)]
    except ValueError:
        raise DataError(f"--mean {mean} and --std {std} are no numbers, one a channel") from None
    rest = "&".join("=".join(part) for part in parts.items())
    return f"{place}?{rest}" if rest else place, numbers[0], numbers[1]


def scaled(dataset: Dataset, mean: tuple[float, ...], std: tuple[float, ...] | None) -> Dataset:
    """The same images, scaled by the user's numbers.

    Args:
      dataset: as it was loaded.
      mean, std: of every channel, or one number for all, for pixels in [0, 1].

    Raises:
      DataError: if they are not one a channel, or a deviation is not above 0.
    """
    channels = dataset.image_shape[-1]
    both = [numbers * channels if len(numbers) == 1 else numbers for numbers in (mean, std or ())]
    finite = all(math.isfinite(number) for numbers in both for number in numbers)
    if any(len(numbers) != channels for numbers in both) or not finite or min(both[1]) <= 0:
        raise DataError(
            f"--mean and --std are {channels} numbers each, for the channels of"
            f" '{dataset.name}', deviations above 0; got {mean} and {std}"
        )
    return replace(dataset, mean=both[0], std=both[1], scaled=True)
