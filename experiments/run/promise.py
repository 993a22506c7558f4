"""What held-out images promise of a network, beside the base."""

from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from experiments.report.differences import paired_differences
from experiments.report.intervals import Difference
from pfrl.cpu.backend import compiled
from pfrl.data import Dataset, Split
from pfrl.evaluation.validation import batched
from pfrl.graph import Source
from pfrl.tasks.judging import validate
from pfrl.tasks.outputs import as_one
from pfrl.training.step import Apply

CHANCES = 2
"""What the confidence is shared out over. Limits that go down until one is not kept need no share
each (a fixed sequence of tests, as in Learn then Test, arXiv 2110.01052); those that are tried
after it, between the two, are one more chance. A test simulates both."""


class Beside:
    """The base network's answers for some images, which others are compared with.

    Args:
      dataset: the images' data set.
      base: the network.
      images: of a split.
    """

    def __init__(self, dataset: Dataset, base: Source, images: Split):
        self._dataset = dataset
        self._images = batched(dataset, images)
        self._base = self._qualities(base.apply, base.variables)
        self.count = len(images)
        """Images."""

    def difference(self, apply: Apply, variables: Any, confidence: float = 0.5) -> Difference:
        """How much better a network is than the base.

        Args:
          apply, variables: of the network.
          confidence: of the lower end of the interval, and of the upper one.
        """
        quality = self._qualities(apply, variables)
        found, _ = paired_differences(quality, {"base": self._base}, 2 * confidence - 1)
        return found["base"]

    def same(self, confidence: float) -> Difference:
        """Likewise, of a network that answers as the base does."""
        found, _ = paired_differences(self._base, {"base": self._base}, 2 * confidence - 1)
        return found["base"]

    def _qualities(self, apply: Apply, variables: Any) -> np.ndarray:
        answer = compiled(lambda v, x: as_one(apply(v, x, False)[0]), threads=1)
        return validate(
            lambda x: np.asarray(answer(variables, x)), self._images, self._dataset.task
        ).each


def promised(confidence: float, ratio: float) -> float:
    """How sure held-out images have to be, so that the test images keep the promise.

    Two things are left to chance, and the margin is the root of the sum of their squares: what
    held-out images say of a network, at a share of the confidence (``CHANCES``), and what the test
    images will say of it, as a prediction interval has it. How many test images there are is not
    looked at: as many as search images are taken for granted.

    Args:
      confidence: that the settings ask for.
      ratio: held-out images over test images.
    """
    shared = ndtri(1 - (1 - confidence) / CHANCES)
    return float(ndtr(np.hypot(shared, ndtri(confidence) * ratio**0.5)))
