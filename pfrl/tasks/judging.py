"""The quality of a network on images, by what answers for it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pfrl.cpu.backend import each
from pfrl.tasks.base import Task

log = logging.getLogger(__name__)

Judge = Callable[[Any], np.ndarray]
"""``images [N, H, W, C] -> outputs`` of one policy's network, for several threads at once."""

Images = Sequence[tuple[Any, np.ndarray]]
"""Normalised images in batches of one size (the last one padded), and their labels; they may be
made when they are looked at."""


class Judged(NamedTuple):
    """How good a network is on images.

    Attributes:
      quality: mean over the images that were judged; 0 of a network that diverged.
      finite: whether all outputs, and the training, were numbers.
      exact: whether all images were judged.
      each: quality ``[N]`` of every image that was judged, in order; empty where networks are
        judged in a batch.
    """

    quality: float
    finite: bool
    exact: bool
    each: np.ndarray = np.empty(0)


def validate(
    judge: Judge,
    images: Images,
    task: Task,
    stop: Callable[[np.ndarray], bool] | None = None,
) -> Judged:
    """Judge all images, or as many as it takes.

    Args:
      judge: answers for a batch.
      images: at least one batch.
      task: tells the quality of an output.
      stop: asked after every batch whether the qualities ``[n]`` of the images so far are
        enough; None judges all images.

    Returns:
      the mean quality of the images that were judged, and what it is worth.
    """
    total, count, finite, exact, found = 0.0, 0, True, True, [np.empty(0)]
    for place, (outputs, targets) in enumerate(answers(judge, images), 1):
        outputs = outputs[: len(targets)]
        finite = finite and bool(np.isfinite(outputs).all())
        found.append(task.quality(outputs, targets))
        total += float(found[-1].sum())
        count += len(targets)
        log.info("judging images: batch %d of %d", place, len(images))
        if stop is not None and place < len(images) and stop(np.concatenate(found)):
            exact = False
            break
    quality = total / max(count, 1) if finite else 0.0
    return Judged(quality, finite, exact, np.concatenate(found))


def answers(judge: Judge, images: Images) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Outputs of every batch, padding included, and its labels."""

    def answer(place: int) -> tuple[np.ndarray, np.ndarray]:
        # Taken here, so that not all batches are there at once.
        x, targets = images[place]
        return np.asarray(judge(x)), targets

    return each(answer, range(len(images)))
