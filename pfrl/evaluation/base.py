"""What evaluates policies: the only door to a reward, and what may be laid around it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import Compressed
from pfrl.deploy.runtimes.base import REFERENCE
from pfrl.evaluation.config import Evaluation
from pfrl.graph import Graph
from pfrl.tasks.judging import Judged


class Choice(NamedTuple):
    """Which runtime judges, and the measurements that it was chosen by.

    Attributes:
      runtime: its name.
      seconds: by runtime, of one batch, with its share of what making the judge takes.
      difference: its mean quality less that of XLA, on the same network and all images; None
        if it was not measured.
      agreement: of a file of integers, the share of all images that it answers as XLA does.
    """

    runtime: str
    seconds: dict[str, float]
    difference: float | None = None
    agreement: float | None = None


class Tuning(NamedTuple):
    """A fine-tuning that is longer than an evaluation's.

    Attributes:
      images: training images, in whole batches.
      learning_rate: of the first step; it falls as a cosine.
      seed: of the training images.
      progress: told ``(steps done, steps in all)`` now and then.
      checkpoint: a file that the state is written to now and then; a fine-tuning of the same
        network goes on from it, and ends as it would have.
    """

    images: int
    learning_rate: float
    seed: int
    progress: Callable[[int, int], object] = lambda done, steps: None
    checkpoint: Path | None = None


class Evaluator(ABC):
    """A policy to its quality and its costs, on one network and one data set.

    Attributes:
      graph: of the base network.
      dataset: ``pfrl.data.Dataset`` whose images are used, but for the test split; an invented
        evaluator has none.
      choice: which runtime judges.
      seconds: wall clock so far, by part of an evaluation.
      images_each: that a whole evaluation looks at; 0 where nobody counts.
    """

    graph: Graph
    images_each = 0
    dataset: Any = None
    choice = Choice(REFERENCE, {})

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @property
    def hits(self) -> int:
        """Evaluations that came from a cache."""
        return 0

    @abstractmethod
    def evaluate(self, policy: Policy) -> Evaluation:
        """Evaluate a policy; equal policies give equal accuracies.

        Args:
          policy: of ``graph``.
        """

    def evaluate_batch(self, policies: Sequence[Policy]) -> list[Evaluation]:
        """Evaluate policies in one go where that is possible; here one after the other.

        Args:
          policies: of ``graph``; equal ones may be among them.

        Returns:
          their evaluations, in order.
        """
        return [self.evaluate(policy) for policy in policies]

    @abstractmethod
    def score(self, policy: Policy, images: str, steps: int | None = None) -> Judged:
        """How good a policy's network is on all of some images.

        Args:
          policy: of ``graph``.
          images: 'reward', those of evaluations, or 'held_out', which no reward has used.
          steps: of fine-tuning on batches of their own, the same for every policy, instead of
            those of an evaluation.
        """

    @abstractmethod
    def network(self, policy: Policy, tuning: Tuning | None = None) -> Compressed:
        """The sliced network of a policy.

        Args:
          policy: of ``graph``.
          tuning: how it is fine-tuned; without, it is where the training of an evaluation starts.

        Raises:
          Diverged: if a loss of the fine-tuning was no number.
        """

    def observe(self, policy: Policy, evaluation: Evaluation) -> None:  # noqa: B027  (most need not know)
        """Take notice of an evaluation of this search that was not made here."""


class Wrapper(Evaluator):
    """An evaluator around another one, that answers as the other does."""

    def __init__(self, inner: Evaluator):
        self.inner = inner
        self.graph, self.dataset = inner.graph, inner.dataset
        self.choice, self.seconds = inner.choice, inner.seconds
        self.images_each = inner.images_each

    @property
    def hits(self) -> int:
        return self.inner.hits

    def evaluate(self, policy: Policy) -> Evaluation:
        return self.inner.evaluate(policy)

    def evaluate_batch(self, policies: Sequence[Policy]) -> list[Evaluation]:
        return self.inner.evaluate_batch(policies)

    def score(self, policy: Policy, images: str, steps: int | None = None) -> Judged:
        return self.inner.score(policy, images, steps)

    def network(self, policy: Policy, tuning: Tuning | None = None) -> Compressed:
        return self.inner.network(policy, tuning)

    def observe(self, policy: Policy, evaluation: Evaluation) -> None:
        self.inner.observe(policy, evaluation)
