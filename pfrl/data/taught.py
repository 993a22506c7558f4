"""Images without labels, with a teacher's answers in place of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from pfrl.data.base import Dataset, Split
from pfrl.tasks import Task
from pfrl.tasks.agreement import Agreement, Likeness

AT_ONCE = 64
"""Images that the teacher answers for at once."""


@dataclass(frozen=True, eq=False)
class Answers:
    """A teacher's outputs ``[N, ...]`` for training images, computed by ``np.asarray``, and once.

    Most commands look at a few of the training images only.

    Attributes:
      dataset: of images without labels.
      answer: see ``taught``.
      outputs: of all training images, as far as they are known.
      known: bool, of which.
      index: of the training images that are meant.
    """

    dataset: Dataset
    answer: Callable[[np.ndarray], np.ndarray]
    outputs: np.ndarray
    known: np.ndarray
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.index), *self.outputs.shape[1:]

    @property
    def ndim(self) -> int:
        return self.outputs.ndim

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Any) -> "Answers":
        return replace(self, index=self.index[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        unknown = np.unique(self.index[~self.known[self.index]])
        size = min(AT_ONCE, len(self.known))
        for start in range(0, len(unknown), size):
            part = unknown[start : start + size]
            filled = np.resize(part, size)  # always one shape, so that nothing compiles again
            images = self.dataset.normalize(self.dataset.train.images[filled])
            self.outputs[part] = np.asarray(self.answer(images))[: len(part)]
            self.known[part] = True
        found = self.outputs[self.index]
        return found if dtype is None else found.astype(dtype)


def taught(
    dataset: Dataset,
    answer: Callable[[np.ndarray], np.ndarray],
    several: Sequence[tuple[int, ...]] = (),
    probabilities: bool = False,
) -> Dataset:
    """The data set with the teacher's outputs as its targets.

    Where it answers with class scores ``[N, K]`` a network is to name the same class; else it is
    to give outputs like the teacher's.

    Args:
      dataset: of images without labels.
      answer: from normalised images ``[N, H, W, C]`` to outputs ``[N, ...]``.
      several: shapes of an example's outputs, if there are several and ``answer`` gives them in a
        row (see ``pfrl.tasks.outputs``). All of them count alike.
      probabilities: whether class scores are probabilities.
    """

    def answered(split: Split) -> Split:
        parts = [
            np.asarray(answer(images), np.float32)[: len(labels)]
            for images, labels in dataset.batches(split, min(AT_ONCE, max(len(split), 1)))
        ]
        return Split(split.images, np.concatenate(parts))

    search, opened = answered(dataset.search), dataset.open_test
    outputs, count = search.labels.shape[1:], len(dataset.train)
    memory = np.zeros((count, *outputs), np.float32), np.zeros(count, bool)
    later = Answers(dataset, answer, *memory, np.arange(count))
    train = Split(dataset.train.images, later)
    rank, width = search.labels.ndim, search.labels.shape[-1]
    scores = rank == 2 and width > 1
    task: Task = Agreement(probabilities=probabilities) if scores else Likeness(dense=rank == 4)
    if several:
        task = Likeness(any(len(each) > 1 for each in several), tuple(map(prod, several)))
    moved, names = task.invariant, () if several else tuple(map(str, range(width)))
    return replace(
        dataset,
        train=train,
        search=search,
        open_test=lambda: answered(opened()),
        classes=dataset.classes or names,
        crop=dataset.crop if moved else 0,
        flip=dataset.flip and moved,
        wide=dataset.wide if moved else None,
        task=task,
    )
