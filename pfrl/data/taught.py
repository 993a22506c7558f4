"""Images without labels, with a teacher's answers in place of them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pfrl.data.base import Dataset, Split
from pfrl.tasks.agreement import Agreement, Likeness

AT_ONCE = 250
"""Images that the teacher answers for at once."""


def taught(dataset: Dataset, answer: Callable[[np.ndarray], np.ndarray]) -> Dataset:
    """The data set with the teacher's outputs as its targets.

    Where it answers with class scores ``[N, K]`` a network is to name the same class; else it is
    to give outputs like the teacher's.

    Args:
      dataset: of images without labels.
      answer: from normalised images ``[N, H, W, C]`` to outputs ``[N, ...]``.
    """

    def answered(split: Split) -> Split:
        parts = [
            np.asarray(answer(images), np.float32)[: len(labels)]
            for images, labels in dataset.batches(split, min(AT_ONCE, max(len(split), 1)))
        ]
        return Split(split.images, np.concatenate(parts))

    train, search, opened = answered(dataset.train), answered(dataset.search), dataset.open_test
    rank, width = train.labels.ndim, train.labels.shape[-1]
    task = Agreement() if rank == 2 and width > 1 else Likeness(dense=rank == 4)
    moved = task.invariant
    return replace(
        dataset,
        train=train,
        search=search,
        open_test=lambda: answered(opened()),
        classes=dataset.classes or tuple(map(str, range(width))),
        crop=dataset.crop if moved else 0,
        flip=dataset.flip and moved,
        wide=dataset.wide if moved else None,
        task=task,
    )
