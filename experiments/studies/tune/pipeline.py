"""A whole compression under given hyper-parameters: prune, repair, round, fine-tune, judge."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.methods.comparison import with_statistics
from experiments.studies.tune.space import DEFAULTS, NONE, recipe_of
from pfrl.compression.calibration import gather_from
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import Compressed, compress
from pfrl.cpu.backend import compiled, steps_per_call
from pfrl.data import Dataset, Split
from pfrl.graph import Graph, Variables
from pfrl.methods.sparsity.sparsify import magnitude_mask, zhu_gupta
from pfrl.tasks.outputs import as_one
from pfrl.training.config import FitConfig
from pfrl.training.fit import Diverged, qualities
from pfrl.training.optimizers import make_optimizer
from pfrl.training.step import Distillation, TrainState, drive, make_train_step

LOOKS = 4
"""How often a fine-tuning is judged on the search split, the last time at its end."""

Numbers = dict[str, Any]
"""Hyper-parameters that are traced, so that another value compiles nothing."""


class Start(NamedTuple):
    """Where the fine-tuning of a recipe's network starts, and its compiled functions."""

    small: Compressed
    run: Callable[..., tuple[TrainState, Any]]
    predict: Callable[..., Any]


class Pipeline:
    """Carries out one policy under any hyper-parameters; equal ones give equal networks.

    Args:
      graph: of the base network, which is the teacher.
      dataset: trained on its training split, judged on its search split.
      policy: what is done to the network.
      steps, batch: of the fine-tuning, and images a step.
      seed: of what is looked at and of the training batches, the same for all.
      fixed: hyper-parameters that differ from the defaults and are not searched.
    """

    def __init__(
        self,
        graph: Graph,
        dataset: Dataset,
        policy: Policy,
        steps: int,
        batch: int,
        seed: int,
        fixed: Mapping[str, Any] = NONE,
    ):
        self.graph, self.dataset, self.policy = graph, dataset, policy
        self.steps, self._batch, self._seed = steps, batch, seed
        self._defaults = DEFAULTS | dict(fixed)
        source = graph.source
        teacher = compiled(lambda v, x: as_one(source.apply(v, x, False)[0]))
        self._teach = lambda x: teacher(source.variables, x)
        # One per recipe: what does not change its methods compiles nothing and looks at no data.
        self._start = lru_cache(maxsize=8)(self._make_start)

    def train(
        self,
        values: Mapping[str, Any],
        look: Callable[[int, float], None] = lambda steps, quality: None,
        progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    ) -> tuple[Variables, float]:
        """The variables after fine-tuning and the mean quality on the search split.

        Args:
          values: hyper-parameters; those that are missing have their defaults.
          look: told ``(steps done, quality on the search split)`` ``LOOKS`` times; what it
            raises ends the training.
          progress: told ``(steps done, steps in all, loss)`` as often.

        Raises:
          Diverged: if a loss was no number.
        """
        values = self._defaults | dict(values)
        start = self._start(recipe_of(values))
        numbers = {k: np.float32(v) for k, v in values.items() if not isinstance(v, str)}
        state = self._state(start.small)
        rng = np.random.default_rng([self._seed, 6])
        batches = (
            (x, targets, self._teach(x))
            for x, targets in self.dataset.training_batches(self._batch, rng, self.steps)
        )
        done, quality = 0, 0.0
        for number in range(1, LOOKS + 1):
            stop = number * self.steps // LOOKS
            if stop == done:
                continue
            state, loss = start.run(state, islice(batches, stop - done), numbers)
            done = stop
            if not np.isfinite(loss):
                raise Diverged(f"the loss was {loss} after {done} of {self.steps} steps")
            progress(done, self.steps, float(loss))
            variables = {**state.parameters, **state.statistics}
            quality = float(self.qualities(values, variables, self.dataset.search).mean())
            look(done, quality)
        return {**state.parameters, **state.statistics}, quality

    def qualities(
        self, values: Mapping[str, Any], variables: Variables, split: Split
    ) -> np.ndarray:
        """Of the trained network's answer to every image of a split, ``[N]`` in [0, 1]."""
        predict = self._start(recipe_of(self._defaults | dict(values))).predict
        answers = qualities(lambda x: predict(variables, x), self.dataset, split)
        return np.concatenate([*answers])

    def _make_start(self, recipe: Recipe) -> Start:
        rounded = any(bits <= 8 for bits in self.policy.act_bits.values())
        statistics = gather_from(self.graph, recipe, self.dataset, self._seed, rounded)
        # Zeros come during the training, by the schedule.
        dense = replace(self.policy, sparsity={})
        small = compress(self.graph.source, dense, graph=self.graph, statistics=statistics)
        small = with_statistics(small, self.dataset, self._seed)
        run = drive(self._make_step(small), steps_per_call(jax.default_backend()), donate=True)
        return Start(small, run, compiled(lambda v, x: as_one(small.apply(v, x, False)[0])))

    def _make_step(self, small: Compressed) -> Callable[..., tuple[TrainState, Any]]:
        task, steps = self.dataset.task, self.steps

        def step(state: TrainState, x: Any, targets: Any, teacher: Any, numbers: Numbers) -> Any:
            soft = Distillation(
                numbers["distillation_weight"], numbers["temperature"], divergence=task.divergence
            )
            one = make_train_step(
                small.apply,
                _optimizer(numbers, steps),
                soft,
                loss=task.loss,
                project=lambda parameters, done: self._sparser(parameters, done, numbers),
            )
            return one(state, x, targets, teacher)

        return step

    def _sparser(self, parameters: Variables, done: Any, numbers: Numbers) -> Variables:
        """Ever more zeros in the kernels, in the end as many as the policy says."""
        masked = {}
        share = done / (numbers["sparsity_end"] * self.steps)
        for layer in self.graph.layers:
            final = self.policy.sparsity.get(layer.name, 0.0)
            if final > 0:
                zeros = zhu_gupta(share, 0, 1, numbers["sparsity_start"] * final, final)
                kernel = parameters[layer.kernel]
                masked[layer.kernel] = kernel * magnitude_mask(kernel, zeros)
        return {**parameters, **masked}

    def _state(self, small: Compressed) -> TrainState:
        # Copies: the first step consumes its state, and the start is used again.
        copied = {name: jnp.array(value, copy=True) for name, value in small.variables.items()}
        trainable = small.trainable
        parameters = {k: v for k, v in copied.items() if k in trainable}
        statistics = {k: v for k, v in copied.items() if k not in trainable}
        optimizer = _optimizer(DEFAULTS, self.steps).init(parameters)
        return TrainState(parameters, statistics, optimizer, jnp.int32(0))


def _optimizer(numbers: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
    """That of a training in full."""
    names = ("learning_rate", "weight_decay", "quantizer_rate")
    return make_optimizer(FitConfig(**{name: numbers[name] for name in names}), steps)
