"""The interface of a task, and how people are told of its results."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from pfrl.registry import Registry

ANY = 0
"""Width of outputs that the network decides about."""


class TargetError(ValueError):
    """Targets that do not suit a task; the message says what they have and what is expected."""


class Wording(NamedTuple):
    """How a report speaks of a task: plain data.

    Attributes:
      metric: what the number is called that is reported, such as 'accuracy'.
      error: whether that number is one minus the quality, so that lower is better.
      definition: what the number is, as a sentence; empty where everybody knows.
      agreement: what two runtimes do whose outputs ``agree``, as in 'They <...> 99 % of the
        images'.
      outputs: what the outputs are called in a program.
      reading: lines of Python that show what the outputs say.
      names: what the data set's names are names of.
    """

    metric: str
    error: bool
    definition: str
    agreement: str
    outputs: str
    reading: str
    names: str

    def value(self, quality: Any) -> Any:
        """The number that is reported of a quality, or of many; both are shares."""
        return 1 - quality if self.error else quality

    def change(self, difference: float) -> float:
        """How much higher that number is where the quality is higher by ``difference``."""
        # Without the addition, no difference would be a negative zero.
        return 0.0 - difference if self.error else difference


class Task(Protocol):
    """A loss to train with and a quality to judge by. Plain and picklable."""

    @property
    def wording(self) -> Wording:
        """What the metric is called, and what else a report says."""
        ...

    @property
    def dense(self) -> bool:
        """Whether the network answers with maps ``[N, H', W', K]``, not with ``[N, K]``."""
        ...

    @property
    def invariant(self) -> bool:
        """Whether targets stay true when an image is cropped or mirrored."""
        ...

    def outputs(self, classes: int) -> int:
        """Width of the last axis of the network's output, for so many classes or key points.

        ``ANY`` if the network decides.
        """
        ...

    def check(self, targets: np.ndarray, names: int) -> None:
        """Look at the targets ``[N, ...]`` of a user's file, which has ``names`` names.

        Raises:
          TargetError: if they do not suit the task.
        """
        ...

    def loss(self, outputs: jax.Array, targets: Any) -> jax.Array:
        """Scalar, mean over the examples; differentiable."""
        ...

    def divergence(self, outputs: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
        """How far outputs are from a teacher's: scalar, mean over the examples.

        A temperature is for logits; others leave it aside.
        """
        ...

    def quality(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Of every example ``[N]``, in [0, 1]; higher is better. Its mean is what rewards see."""
        ...

    def agree(self, outputs: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Which examples two networks answer alike, boolean ``[N]``."""
        ...


TASKS: Registry[Callable[..., Task]] = Registry("task", ("pfrl.tasks",))
"""Tasks by name, each a function of its options: what the string ``task`` of a ``.npz`` says."""
