"""Policy to accuracy and cost: the only door to a reward.

One evaluation: choose channels, mask and fake-quantize, re-estimate the
statistics, fine-tune for a few steps, measure the accuracy on the search split.
Masks and bit widths are traced values of fixed shape, so that all evaluations
of a search run the same three compiled functions.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.compress import Compressed, Ranges, run_graph
from pfrl.cost import CostModel
from pfrl.data import Dataset, Split
from pfrl.graph import Graph, Variables, split_variables
from pfrl.graph.source import Source
from pfrl.methods.channels import choose, l1_scores
from pfrl.methods.masks import Masks, slice_variables
from pfrl.methods.quantize import fake_quantize_activations, fake_quantize_weights
from pfrl.policy import Policy
from pfrl.training.step import TrainState, make_train_step, sgd


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
    calibration_images: int = 512
    """Training images that activation ranges are taken from."""


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


class Knobs(NamedTuple):
    """A policy as traced values: mask ``[1 + channels]``, bits ``[L]`` for both kinds."""

    mask: Any
    weight_bits: Any
    act_bits: Any


class Evaluator:
    """Evaluates policies on one network and one data set.

    Args:
      graph: of the base network, whose variables it holds.
      dataset: the test split is never opened here.
      costs: cost model on the same graph.
      config: see ``EpisodeConfig``.
      seed: of the training batches; every evaluation sees the same ones.
      quantized: whether bit widths are honoured; without, their code is left out.
    """

    def __init__(
        self,
        graph: Graph,
        dataset: Dataset,
        costs: CostModel,
        config: EpisodeConfig,
        seed: int,
        quantized: bool,
    ):
        self.graph, self.dataset, self.costs, self.config = graph, dataset, costs, config
        self.seconds = {"training": 0.0, "validation": 0.0}
        self._recorded: deque[tuple[Any, Evaluation]] = deque()
        self._quantized = quantized
        self._masks = Masks(graph)
        self._scores = l1_scores(graph, graph.source.variables)
        parameters, statistics = (
            {k: jnp.asarray(v) for k, v in part.items()} for part in split_variables(graph.source)
        )
        optimizer = sgd(config.learning_rate, config.weight_decay)
        self._base = TrainState(parameters, statistics, optimizer.init(parameters))
        rng = np.random.default_rng([seed, 1])
        self._seed = seed
        self._tuning = list(dataset.training_batches(config.batch, rng, config.steps))
        count = max(config.statistics_images // config.batch, 1)
        self._estimating = [x for x, _ in dataset.training_batches(config.batch, rng, count)]
        reward, fresh = split_search(dataset.search, config.search_images)
        self.images = {"reward": _batches(dataset, reward), "fresh": _batches(dataset, fresh)}
        self.ranges: Ranges = {}
        if quantized:
            self.ranges = calibrate(graph.source, graph, dataset, config.calibration_images, seed)
        self._ranges = {name: tuple(map(jnp.asarray, r)) for name, r in self.ranges.items()}
        self._index = {layer.name: i for i, layer in enumerate(graph.layers)}
        self._step = jax.jit(make_train_step(self._apply, optimizer))
        self._predict = jax.jit(lambda v, x, knobs: self._apply(v, x, False, knobs)[0])
        self._statistics = jax.jit(lambda v, x, knobs: self._apply(v, x, True, knobs)[1])
        self._momentum = self._find_momentum()

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
        knobs = self._knobs(policy)
        batches: Iterable[tuple[np.ndarray, np.ndarray]] = self._tuning
        if steps is not None:
            rng = np.random.default_rng([self._seed, 3])
            batches = self.dataset.training_batches(self.config.batch, rng, steps)
        with self._clock("training"):
            state = self._base._replace(statistics=self._reestimate(self._base, knobs))
            loss = jnp.zeros(())
            for x, labels in batches:
                state, loss = self._step(state, x, labels, None, knobs)
            finite = bool(np.isfinite(loss))
        with self._clock("validation"):
            variables = {**state.parameters, **state.statistics}
            correct = total = 0
            for x, labels in self.images[images]:
                logits = np.asarray(self._predict(variables, x, knobs))[: len(labels)]
                finite = finite and bool(np.isfinite(logits).all())
                correct += int((logits.argmax(-1) == labels).sum())
                total += len(labels)
        return (correct / max(total, 1) if finite else 0.0), finite

    def reestimated(self, policy: Policy, small: Compressed) -> Variables:
        """A compressed network's variables with its own statistics: where its training starts."""
        masked = self._reestimate(self._base, self._knobs(policy))
        sliced = slice_variables(self.graph, {**self._base.parameters, **masked}, small.kept)
        return {**small.variables, **{name: sliced[name] for name in masked}}

    def _apply(
        self, variables: Variables, x: jax.Array, train: bool, knobs: Knobs
    ) -> tuple[jax.Array, Variables]:
        def quantize(name: str, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            at = self._index[name]
            kernel = fake_quantize_weights(kernel, knobs.weight_bits[at])
            x = fake_quantize_activations(x, knobs.act_bits[at], *self._ranges[name])
            return x, kernel

        masked = self._masks.apply(variables, knobs.mask)
        return run_graph(self.graph, masked, x, train, hook=quantize if self._quantized else None)

    def _knobs(self, policy: Policy) -> Knobs:
        kept = choose(self._scores, policy.counts(self.graph))
        names = [layer.name for layer in self.graph.layers]
        return Knobs(
            self._masks.vector(kept),
            np.asarray([policy.weight_bits[name] for name in names], np.int32),
            np.asarray([policy.act_bits[name] for name in names], np.int32),
        )

    def _find_momentum(self) -> dict[str, np.ndarray]:
        """How much of its old value a statistic keeps in a training step, by variable.

        Running statistics are ``m · old + (1 - m) · batch``; two steps from 0
        and from 1 tell ``m`` for any network, without knowing its layers.
        """
        knobs = self._knobs(Policy.uniform(self.graph))
        found = []
        for value in (0.0, 1.0):
            start = {k: jnp.full_like(v, value) for k, v in self._base.statistics.items()}
            after = self._statistics({**self._base.parameters, **start}, self._estimating[0], knobs)
            found.append(jax.tree.map(np.asarray, after))
        return {name: (found[1][name] - found[0][name]).mean() for name in found[0]}

    def _reestimate(self, state: TrainState, knobs: Knobs) -> Variables:
        """Statistics as the mean over batches of the masked network's own."""
        zeros = {name: np.zeros_like(value) for name, value in state.statistics.items()}
        sums = {name: np.zeros_like(value) for name, value in state.statistics.items()}
        for x in self._estimating:
            batch = self._statistics({**state.parameters, **zeros}, x, knobs)
            for name, value in batch.items():
                sums[name] += np.asarray(value)
        result = {}
        for name, before in state.statistics.items():
            follows = 1 - self._momentum[name]
            mean = sums[name] / (len(self._estimating) * follows) if follows > 1e-6 else before
            result[name] = jnp.asarray(mean, before.dtype)
        return result

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


def calibrate(
    source: Source, graph: Graph, dataset: Dataset, images: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Range of every layer's input over training images of the unquantized network.

    Minima and maxima of batches of 64, averaged over the batches, which a
    single outlier moves less than the extremes over all images.
    """

    def observe(variables: Variables, x: jax.Array) -> dict[str, jax.Array]:
        seen = {}

        def hook(name: str, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            seen[name] = jnp.stack([x.min(), x.max()])
            return x, kernel

        run_graph(graph, variables, x, False, hook=hook)
        return seen

    observe_jit = jax.jit(observe)
    rng = np.random.default_rng([seed, 2])
    found = [
        jax.tree.map(np.asarray, observe_jit(source.variables, x))
        for x, _ in dataset.training_batches(64, rng, max(images // 64, 1))
    ]
    means = {name: np.mean([f[name] for f in found], axis=0) for name in found[0]}
    return {name: (float(low), float(high)) for name, (low, high) in means.items()}
