"""Policy to accuracy and cost: the only door to a reward.

One evaluation: choose channels, repair, mask and fake-quantize, re-estimate the
statistics, fine-tune for a few steps, measure the accuracy on the search split.
Masks and bit widths are traced values of fixed shape, so that all evaluations
of a search run the same three compiled functions.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.compress import Compressed, assemble
from pfrl.cost import CostModel
from pfrl.data import Dataset, Split
from pfrl.graph import Graph
from pfrl.masked import Knobs, MaskedNetwork
from pfrl.methods.masks import slice_variables
from pfrl.methods.statistics import find_momentum, reestimate
from pfrl.policy import Policy
from pfrl.prepare import Preparer
from pfrl.recipe import PLAIN, Recipe
from pfrl.survey import Survey, survey
from pfrl.training.backend import compiled
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step


@dataclass(frozen=True)
class EpisodeConfig:
    """What one evaluation does."""

    steps: int = 16
    """Fine-tuning steps."""
    batch: int = 64
    """Images a fine-tuning step."""
    learning_rate: float = 0.02
    """Constant learning rate of the fine-tuning (Nesterov SGD, momentum 0.9)."""
    weight_decay: float = 5e-4
    """On kernels only."""
    statistics_images: int = 256
    """Training images that batch-normalisation statistics are re-estimated from."""
    search_images: int = 2_000
    """Images of the search split that the reward uses; the others are kept for re-scoring."""


class Evaluation(NamedTuple):
    """What a policy yielded.

    Attributes:
      accuracy: share of right answers on the search images, 0 if it diverged.
      costs: by metric.
      seconds: wall clock.
      diverged: whether a loss or a logit was no number.
    """

    accuracy: float
    costs: dict[str, float]
    seconds: float
    diverged: bool


class ReplayError(ValueError):
    """Recorded evaluations that another search made."""


class Evaluator:
    """Evaluates policies on one network and one data set.

    Args:
      graph: of the base network, whose variables it holds.
      dataset: the test split is never opened here.
      costs: cost model on the same graph.
      config: see ``EpisodeConfig``.
      seed: of the training batches; every evaluation sees the same ones.
      quantized: whether bit widths are honoured; without, their code is left out.
      recipe: by which methods policies are carried out.
      sparse: whether policies may have sparse layers.
    """

    def __init__(
        self,
        graph: Graph,
        dataset: Dataset,
        costs: CostModel,
        config: EpisodeConfig,
        seed: int,
        quantized: bool,
        recipe: Recipe = PLAIN,
        sparse: bool = False,
    ):
        self.graph, self.dataset, self.costs, self.config = graph, dataset, costs, config
        self.seconds = {"training": 0.0, "validation": 0.0}
        self._recorded: deque[tuple[Any, Evaluation]] = deque()
        self._seed = seed
        self.survey = survey_network(graph, recipe, dataset, seed, quantized)
        self._prepare = Preparer(graph, self.survey)
        self._network = MaskedNetwork(graph, recipe, quantized, sparse)
        rng = np.random.default_rng([seed, 1])
        self._tuning = list(dataset.training_batches(config.batch, rng, config.steps))
        count = max(config.statistics_images // config.batch, 1)
        self._estimating = [x for x, _ in dataset.training_batches(config.batch, rng, count)]
        reward, fresh = split_search(dataset.search, config.search_images)
        self.images = {"reward": _batches(dataset, reward), "fresh": _batches(dataset, fresh)}
        self._optimizer = sgd(config.learning_rate, config.weight_decay)
        apply = self._network.apply
        step = make_train_step(apply, self._optimizer, loss=dataset.task.loss)
        self._step = compiled(step)
        self._start_optimizer = jax.jit(self._optimizer.init)
        self._predict = compiled(lambda v, x, knobs: apply(v, x, False, knobs)[0])
        self._statistics = compiled(lambda v, x, knobs: apply(v, x, True, knobs)[1])
        whole = Policy.uniform(graph)
        state, knobs = self._start(whole)
        self._momentum = find_momentum(
            self._statistics,
            {**state.parameters, **state.statistics},
            set(graph.source.variables) - graph.source.trainable,
            self._estimating[0],
            knobs,
        )

    def replay(self, recorded: Iterable[tuple[Any, Evaluation]]) -> None:
        """Answer the next evaluations from records ``(policy as JSON, evaluation)``, in order."""
        self._recorded.extend(recorded)

    def __call__(self, policy: Policy) -> Evaluation:
        """Evaluate a policy; equal policies give equal accuracies.

        Raises:
          ReplayError: if recorded evaluations are left and the next is of another policy.
        """
        if self._recorded:
            expected, evaluation = self._recorded.popleft()
            if expected != policy.to_json():
                raise ReplayError(
                    "the recorded search made other decisions than this one; resume with the"
                    " same options and versions, or start in a new folder"
                )
            return evaluation
        start = time.perf_counter()
        accuracy, finite = self.score(policy, "reward")
        costs = self.costs.of(policy)
        return Evaluation(accuracy, costs, time.perf_counter() - start, not finite)

    def score(self, policy: Policy, images: str, steps: int | None = None) -> tuple[float, bool]:
        """Accuracy on the 'reward' or the 'fresh' search images; whether all stayed finite.

        With ``steps``, so many fine-tuning steps on batches of their own, the same for
        every policy, instead of the episode's.
        """
        with self._clock("training"):
            state, knobs = self._start(policy)
            state = self._reestimated(state, knobs)
            batches: Iterable[tuple[np.ndarray, np.ndarray]] = self._tuning
            if steps is not None:
                rng = np.random.default_rng([self._seed, 3])
                batches = self.dataset.training_batches(self.config.batch, rng, steps)
            loss = jnp.zeros(())
            for x, targets in batches:
                state, loss = self._step(state, x, targets, None, knobs)
            finite = bool(np.isfinite(loss))
        with self._clock("validation"):
            variables = {**state.parameters, **state.statistics}
            quality, total = 0.0, 0
            for x, targets in self.images[images]:
                outputs = np.asarray(self._predict(variables, x, knobs))[: len(targets)]
                finite = finite and bool(np.isfinite(outputs).all())
                quality += float(self.dataset.task.quality(outputs, targets).sum())
                total += len(targets)
        return (quality / max(total, 1) if finite else 0.0), finite

    def compressed(self, policy: Policy) -> Compressed:
        """The sliced network of a policy with its own statistics: where its training starts."""
        prepared = self._prepare(policy)
        ranges = self.survey.ranges(policy)
        small = assemble(self.graph, policy, prepared, self.survey.recipe, ranges)
        state, knobs = self._start(policy)
        masked = self._reestimated(state, knobs).statistics
        whole = {**prepared.variables, **{name: masked[name] for name in self._momentum}}
        sliced = slice_variables(self.graph, whole, small.kept)
        new = {name: sliced[name] for name in self._momentum}
        return replace(small, variables={**small.variables, **new})

    def _start(self, policy: Policy) -> tuple[TrainState, Knobs]:
        """Where the training of a policy's network starts, and the policy as traced values."""
        prepared = self._prepare(policy)
        knobs = self._network.knobs(policy, prepared, self.survey.ranges(policy))
        variables = self._network.start(prepared, knobs)
        trainable = self._network.trainable
        parameters = {k: jnp.asarray(v) for k, v in variables.items() if k in trainable}
        statistics = {k: jnp.asarray(v) for k, v in variables.items() if k not in trainable}
        return TrainState(parameters, statistics, self._start_optimizer(parameters)), knobs

    def _reestimated(self, state: TrainState, knobs: Knobs) -> TrainState:
        """The state with the masked network's own statistics."""
        variables = {**state.parameters, **state.statistics}
        found = reestimate(self._statistics, variables, self._momentum, self._estimating, knobs)
        return state._replace(statistics={**state.statistics, **found})

    @contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start


def split_search(search: Split, count: int) -> tuple[Split, Split]:
    """The search images that rewards use, and the others; at most four fifths are used.

    Both are evenly spaced, so that sorted classes are shared out.
    """
    count = min(count, len(search) * 4 // 5)
    used = np.zeros(len(search), bool)
    used[np.linspace(0, len(search) - 1, count).round().astype(int)] = True
    return search.take(used), search.take(~used)


def _batches(dataset: Dataset, split: Split, batch: int = 250) -> list[tuple[Any, np.ndarray]]:
    """Normalised images in batches of one size (the last one padded) and their labels."""
    batches = []
    for start in range(0, len(split), batch):
        part = split.take(slice(start, start + batch))
        missing = batch - len(part)
        images = np.pad(dataset.normalize(part.images), ((0, missing), (0, 0), (0, 0), (0, 0)))
        batches.append((images, part.labels))
    return batches


def survey_network(
    graph: Graph, recipe: Recipe, dataset: Dataset, seed: int, quantized: bool
) -> Survey:
    """What a recipe needs to know, from training images in batches of 64, augmented."""
    rng = np.random.default_rng([seed, 2])
    batches = dataset.training_batches(64, rng, max(recipe.images // 64, 1))
    return survey(graph, recipe, batches, loss=dataset.task.loss, seed=seed, quantized=quantized)
