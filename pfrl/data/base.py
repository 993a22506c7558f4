"""What a data set is: three disjoint splits of images, of which the test split is opened last."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from pfrl.data.crops import random_crops
from pfrl.data.pictures import DataError
from pfrl.data.streams import Loading, Undecoded, loaded
from pfrl.registry import Registry
from pfrl.tasks import Classification, Task

# Statistics of ImageNet's pixels in [0, 1]: the usual scaling of colour images.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Split:
    """Images ``[N, H, W, C]`` uint8 and their targets: labels ``[N]`` int32 or a task's own.

    Both are arrays, or become arrays by ``np.asarray``: images that do not fit into memory (see
    ``pfrl.data.streams``), answers of a teacher (``pfrl.data.taught``).
    """

    images: Any
    labels: Any

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray | slice) -> "Split":
        return Split(self.images[index], self.labels[index])

    def in_memory(self) -> "Split":
        """The same, images as an array."""
        return replace(self, images=np.asarray(self.images))


Batch = tuple[np.ndarray, np.ndarray]
"""Normalised images float32 ``[N, H, W, C]`` and their targets."""


@dataclass(frozen=True, eq=False)
class Batches(Sequence[Batch]):
    """Batches that are looked at again and again, in a quarter of the memory of normalised images.

    Indexing normalises, and decodes what is not in memory; a slice is a list.

    Attributes:
      normalize: see ``Dataset.normalize``.
      parts: images uint8 ``[n, H, W, C]`` of every batch, and their targets.
      size: of a batch; one with fewer images is filled up with zeros, so that nothing compiles
        for it. Targets are those of its images.
    """

    normalize: Callable[[Any], np.ndarray]
    parts: Sequence[tuple[Any, Any]]
    size: int

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...

    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        images, targets = self.parts[index]
        found, missing = self.normalize(images), self.size - len(images)
        if missing:
            found = np.pad(found, ((0, missing), (0, 0), (0, 0), (0, 0)))
        return found, np.asarray(targets)


@dataclass(frozen=True)
class Dataset:
    """Train and search splits in memory, the test split behind a function.

    ``open_test`` is a function so that reading the test split is an event: only
    the final report calls it.

    Attributes:
      name: as given on the command line.
      train: what networks are fitted to.
      search: what rewards are computed on; never trained on.
      open_test: returns the test split.
      classes: names of the classes or of the points that are looked for.
      mean, std: per-channel statistics for ``normalize``, of pixels in [0, 1].
      crop: pixels of zero padding before a random crop (training only).
      flip: whether images are mirrored at random (training only).
      task: what a network is trained and judged by.
      wide: training images with a margin, uint8 ``[N, H', W', C]``, of which random resized crops
        are taken in place of ``crop``; None if there are none.
      ignored: files that were found and not used, and how to mend that; empty if there are none.
      scaled: whether the user, or else the network's file, gave mean and std.

    Raises:
      DataError: if images are cropped or mirrored whose targets are places in them.
    """

    name: str
    train: Split
    search: Split
    open_test: Callable[[], Split] = field(repr=False)
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: int = 4
    flip: bool = True
    task: Task = field(default_factory=Classification)
    ignored: str = ""
    wide: Any = field(default=None, repr=False)
    scaled: bool = False

    def __post_init__(self) -> None:
        if (self.crop or self.flip) and not self.task.invariant:
            raise DataError(
                f"the targets of '{self.name}' are places in the images, and crop={self.crop},"
                f" flip={self.flip} would move the images alone; set crop=0 and flip=False"
            )

    @property
    def summary(self) -> str:
        """``1,077 training and 360 search images, 10 classes``, and what was ignored."""
        text = f"{len(self.train):,} training and {len(self.search):,} search images"
        if self.classes:
            text += f", {len(self.classes)} {self.task.wording.names.lower()}"
        return f"{text}; ignored: {self.ignored}" if self.ignored else text

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(H, W, C)``."""
        return self.train.images.shape[1:]

    @property
    def shown(self) -> float:
        """What networks see of a picture's middle, as a share of its short side: 1 is all of it."""
        return 1.0 if self.wide is None else self.image_shape[0] / self.wide.shape[1]

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """uint8 ``[N, H, W, C]`` to float32 with about zero mean and unit variance."""
        scale = np.asarray([1 / (255 * s) for s in self.std], np.float32)
        shift = np.asarray([m / s for m, s in zip(self.mean, self.std, strict=True)], np.float32)
        found = np.asarray(images).astype(np.float32)
        found *= scale
        found -= shift
        return found

    def augment(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Random crop after zero padding and random mirroring of uint8 ``[N, H, W, C]``."""
        n, height, width, _ = images.shape
        if self.crop:
            pad = self.crop
            images = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
            top, left = rng.integers(0, 2 * pad + 1, (2, n))
            rows = top[:, None] + np.arange(height)
            columns = left[:, None] + np.arange(width)
            images = images[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self._mirrored(images, rng)

    def _augmented(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Training images, cropped and mirrored at random."""
        if self.wide is None:
            return self.augment(np.asarray(self.train.images[index]), rng)
        wide = np.asarray(self.wide[index])
        return self._mirrored(random_crops(wide, self.image_shape[0], rng), rng)

    def _mirrored(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.flip:
            return images
        mirrored = rng.random(len(images)) < 0.5
        return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)

    def batches(self, split: Split, size: int) -> Batches:
        """All of a split in order, in batches of one shape: float32 ``[size, H, W, C]``."""
        starts = range(0, len(split), size)
        cut = [split.take(slice(start, start + size)) for start in starts]
        return Batches(self.normalize, [(part.images, part.labels) for part in cut], size)

    def held_batches(self, batch: int, rng: np.random.Generator, count: int) -> Batches:
        """Such ``training_batches`` as are looked at again and again."""
        return Batches(self.normalize, list(self._augmented_batches(batch, rng, count)), batch)

    def training_batches(
        self, batch: int, rng: np.random.Generator, count: int | None = None, skipped: int = 0
    ) -> Iterator[Batch]:
        """Augmented, normalised batches of one shape: ``count`` of them, or one pass.

        Every image of a pass comes at most once; a remainder smaller than a
        batch is left out, so that nothing compiles for it. More than a pass
        reshuffles. A batch larger than the split draws with replacement. The first ``skipped``
        batches are left out; those after them are what they would have been.

        Yields:
          images float32 ``[batch, H, W, C]`` and targets ``[batch, ...]``.
        """
        for images, targets in self._augmented_batches(batch, rng, count, skipped):
            yield self.normalize(images), targets

    def _augmented_batches(
        self, batch: int, rng: np.random.Generator, count: int | None, skipped: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See ``training_batches``; images are uint8."""
        per_pass = len(self.train) // batch
        count = max(per_pass, 1) if count is None else count
        if isinstance(self.train.images, Undecoded):
            yield from self._streamed(list(self._indices(batch, rng, count)), rng, skipped)
            return
        for number, index in enumerate(self._indices(batch, rng, count)):
            images = self._augmented(index, rng)
            if number >= skipped:
                yield images, np.asarray(self.train.labels[index])

    def _indices(self, batch: int, rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
        """Of the images of every batch."""
        n, order = len(self.train), np.empty(0, np.int64)
        for _ in range(count):
            if n < batch:
                yield rng.integers(0, n, batch)
                continue
            if len(order) < batch:
                order = rng.permutation(n)
            yield order[:batch]
            order = order[batch:]

    def _streamed(
        self, batches: list[np.ndarray], rng: np.random.Generator, skipped: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See ``_augmented_batches``; pictures are read and cropped elsewhere."""
        # Only what that needs: it is sent to other processes.
        none = Split(self.train.images[:0], np.zeros(0, np.int32))
        bare = replace(self, train=replace(self.train, labels=np.zeros(len(self.train), np.int32)),
                       search=none, open_test=_closed, task=Classification())  # fmt: skip
        loading = Loading(bare._augmented, batches, int(rng.integers(2**32)))
        for number, images in enumerate(loaded(loading, skipped), skipped):
            yield images, np.asarray(self.train.labels[batches[number]])


def _closed() -> Split:
    raise DataError("the test split is not opened while a network is trained")


DATASETS: Registry[Callable[..., Dataset]] = Registry("dataset", ("pfrl.data",))
"""Functions that return a data set, by name. One whose name ends with a colon takes what a user
writes behind it, such as the path in ``imagefolder:photos``."""


def hold_out(
    labels: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Indices ``(rest, held)`` with ``count`` held, spread over the classes as the labels are.

    There is one share such that every class gives that share of its images,
    rounded up or down, so that a small search split has the same class balance
    as the training split.
    """
    order = rng.permutation(len(labels))
    # Sorting by the rank within the class, scaled by the class's size, interleaves the classes.
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    ranked = np.argsort(position, kind="stable")
    return np.sort(ranked[count:]), np.sort(ranked[:count])
