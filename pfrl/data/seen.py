"""A data set as a network sees it that was trained elsewhere: its scaling, its order of classes."""

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
    dataset = replace(dataset, mean=mean or dataset.mean, std=std or dataset.std)
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
