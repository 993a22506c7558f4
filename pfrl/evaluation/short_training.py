"""The training of one evaluation: from a policy to its masked network, compiled once for all."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pfrl.compression.calibration import CalibrationStatistics
from pfrl.compression.masked import Knobs, MaskedNetwork
from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Prepared, Preparer
from pfrl.compression.sliced import Compressed
from pfrl.cpu.backend import compiled, placed
from pfrl.cpu.precision import at_precision, fastest
from pfrl.data import Dataset
from pfrl.evaluation.base import Tuning
from pfrl.evaluation.config import EpisodeConfig
from pfrl.graph import Variables
from pfrl.methods.repair.batch_norm import BaseStatistics, find_momentum, reestimate
from pfrl.tasks.outputs import as_one
from pfrl.training.checkpoint import Checkpoint
from pfrl.training.fit import Diverged
from pfrl.training.identity import named
from pfrl.training.optimizers import sgd
from pfrl.training.step import Apply, TrainState, TrainStep, make_train_step, stepping
from pfrl.user_cache import digest

Batches = Iterable[tuple[Any, Any]]
Tuner = tuple[Callable[..., Any], Callable[..., Any]]
"""A compiled train step, and what begins its optimizer."""

log = logging.getLogger(__name__)
NOTICE = logging.INFO + 5
"""Level of what a user should know and is no warning; Python shows no such word by itself."""
UNFAMILIAR = (
    "with normalisation statistics of these images the network answers otherwise, as it does if"
    " they are unlike those of its training, or if it was not trained: in the search its statistics"
    " are left as they are"
)

TELL_EVERY = 20
"""Steps of a longer fine-tuning between two words of how far it is."""


class Begun(NamedTuple):
    """Where a policy's network begins, as it is prepared: on the host.

    Attributes:
      prepared: what was chosen and repaired, at full size.
      knobs: the policy as traced values.
      variables: that training starts from, with the statistics of the base network.
    """

    prepared: Prepared
    knobs: Knobs
    variables: dict[str, Any]


class Functions(NamedTuple):
    """What an evaluation computes, not compiled, at the precision of the episode.

    Attributes:
      statistics: ``(variables, x, knobs) -> statistics`` after a batch in training mode.
      step: a train step, whose extras are the knobs.
      predict: ``(variables, x, knobs) -> outputs``.
    """

    statistics: Callable[..., Any]
    step: TrainStep
    predict: Callable[..., Any]


class Masked(NamedTuple):
    """A policy's masked network in training.

    Attributes:
      prepared: what was chosen and repaired, at full size.
      knobs: the policy as traced values.
      state: of the training.
      variables: its parameters and statistics.
    """

    prepared: Prepared
    knobs: Knobs
    state: TrainState
    variables: dict[str, Any]


class ShortTraining:
    """Masks, re-estimates statistics and fine-tunes; masks and bit widths are traced values.

    Args:
      network: takes any policy as traced values.
      statistics: what the recipe needs to know of the base network.
      dataset: whose task gives the loss.
      config: how policies are trained.
      batches: images and targets of the fine-tuning; every policy sees the same ones.
      estimating: images that statistics are re-estimated from.
      judged: images ``[N, ...]`` by whose answers it is found whether they may be.

    Attributes:
      functions: see ``Functions``.
      optimizer: of the fine-tuning.
      predict: compiled ``(variables, x, knobs) -> outputs``.
      momentum: of every statistic; see ``pfrl.methods.repair.batch_norm``.
      base: statistics of the base network, by which those of all others are told.
    """

    def __init__(
        self,
        network: MaskedNetwork,
        statistics: CalibrationStatistics,
        dataset: Dataset,
        config: EpisodeConfig,
        batches: Batches,
        estimating: Sequence[Any],
        judged: Any,
    ):
        graph = network.graph
        self.network, self.batches, self.estimating = network, placed(batches), placed(estimating)
        self._calibrated, self._prepare = statistics, Preparer(statistics)
        self._dataset, self._config = dataset, config
        self.optimizer = sgd(config.learning_rate, config.weight_decay)
        self._start_optimizer = jax.jit(self.optimizer.init)
        self.functions = self._functions()
        self._step = stepping(self.functions.step)
        self.predict = compiled(self.functions.predict, threads=1)
        self._statistics = compiled(self.functions.statistics, threads=1)
        self._tuners: dict[tuple[int, float], Tuner] = {}
        whole = self.masked(Policy.uniform(graph))
        names = set(graph.source.variables) - graph.source.trainable
        self.momentum = find_momentum(
            self._statistics, whole.variables, names, self.estimating[0], whole.knobs
        )
        seen = self._reestimated(whole)
        # A shared network has been trained as many networks: its own statistics are of none.
        own = seen if config.fidelity == "supernet" else whole.variables

        def answer(statistics: Variables) -> Any:
            return self.predict({**whole.variables, **statistics}, judged, whole.knobs)

        self.base = BaseStatistics.of(own, seen, answer)
        if not self.base.familiar:
            log.log(NOTICE, UNFAMILIAR)

    def _functions(self) -> Functions:
        config, apply, loss = self._config, self.network.apply, self._dataset.task.loss
        ghosts = config.ghost_batches
        assert ghosts is not None, "of a suited configuration"
        step = make_train_step(apply, self.optimizer, loss=loss, ghosts=ghosts)

        def predict(variables: Variables, x: Any, knobs: Knobs) -> Any:
            return as_one(apply(variables, x, False, knobs)[0])

        exact = "float32" if config.precision == "auto" else config.precision
        training = self._fastest() or exact
        return Functions(
            at_precision(lambda v, x, knobs: apply(v, x, True, knobs)[1], training),
            replace(step, gradient=at_precision(step.gradient, training)),
            at_precision(predict, exact),
        )

    def _fastest(self) -> str | None:
        """The precision that this machine trains fastest with, if that is to be chosen.

        Not of integers: what is rounded twice would not be what the file computes.
        """
        chosen = self._config.precision == "auto" and not self.network.quantized
        return fastest() if chosen else None

    def begun(self, policy: Policy) -> Begun:
        """A policy's network as it is prepared."""
        prepared = self._prepare(policy)
        ranges = self._calibrated.ranges(policy) if self._calibrated.sites else {}
        knobs = self.network.knobs(policy, prepared, ranges)
        return Begun(prepared, knobs, dict(self.network.start(prepared, knobs)))

    def masked(self, policy: Policy) -> Masked:
        """A policy's network before any training, with the statistics of the base network."""
        begun = self.begun(policy)
        # All at once: one by one each array would take as long as they all do.
        prepared, knobs = begun.prepared, placed(begun.knobs)
        variables, trainable = jax.device_put(begun.variables), self.network.trainable
        parameters = {k: v for k, v in variables.items() if k in trainable}
        statistics = {k: v for k, v in variables.items() if k not in trainable}
        state = TrainState(parameters, statistics, self._start_optimizer(parameters))
        return Masked(prepared, knobs, state, {**parameters, **statistics})

    def started(self, policy: Policy) -> Masked:
        """A policy's network where its fine-tuning starts.

        It has statistics of its own, if the images are like those that the base network was
        trained on.
        """
        begun = self.masked(policy)
        if not self.base.familiar:
            return begun
        found = self._reestimated(begun, self.base)
        state = begun.state._replace(statistics={**begun.state.statistics, **found})
        return begun._replace(state=state, variables={**begun.variables, **found})

    def _reestimated(self, masked: Masked, base: BaseStatistics | None = None) -> Variables:
        known = self._statistics, masked.variables, self.momentum, self.estimating, masked.knobs
        return reestimate(*known, base=base)

    def tuned(self, policy: Policy, batches: Batches | None = None) -> tuple[Masked, bool]:
        """A policy's network after its fine-tuning, and whether the loss is a number.

        Args:
          policy: whose network.
          batches: instead of those of an evaluation.
        """
        begun = self.started(policy)
        state, loss = begun.state, jnp.zeros(())
        for count, (x, targets) in enumerate(self.batches if batches is None else batches):
            log.info("fine-tuning: step %d", count + 1)
            state, loss = self._step(state, x, targets, None, begun.knobs)
        variables = {**state.parameters, **state.statistics}
        return begun._replace(state=state, variables=variables), bool(np.isfinite(loss))

    def tuned_for_long(self, policy: Policy, tuning: Tuning) -> Masked:
        """A policy's network after a longer fine-tuning; another policy compiles nothing.

        Raises:
          Diverged: if the loss is no number.
        """
        key = self.steps_of(tuning), tuning.learning_rate
        if key not in self._tuners:
            self._tuners[key] = self._tuner(self.network.apply, tuning)
        begun = self.started(policy)
        state = self._driven(self._tuners[key], begun.state, tuning, begun.knobs)
        return begun._replace(state=state, variables={**state.parameters, **state.statistics})

    def tuned_apart(self, small: Compressed, tuning: Tuning) -> Compressed:
        """A sliced network after a fine-tuning that is compiled for it alone.

        Raises:
          Diverged: if the loss is no number.
        """
        variables, trainable = jax.device_put(dict(small.variables)), small.trainable
        state = TrainState(
            {k: v for k, v in variables.items() if k in trainable},
            {k: v for k, v in variables.items() if k not in trainable},
            None,
        )
        state = self._driven(self._tuner(small.apply, tuning), state, tuning)
        return replace(small, variables={**state.parameters, **state.statistics})

    def steps_of(self, tuning: Tuning) -> int:
        """Steps of a fine-tuning."""
        return max(tuning.images // self._config.batch, 1)

    def _tuner(self, apply: Apply, tuning: Tuning) -> Tuner:
        falling = optax.cosine_decay_schedule(tuning.learning_rate, self.steps_of(tuning))
        optimizer = sgd(falling, self._config.weight_decay)
        step = make_train_step(apply, optimizer, loss=self._dataset.task.loss)
        if (precision := self._fastest()) is not None:
            step = replace(step, gradient=at_precision(step.gradient, precision))
        return compiled(step), jax.jit(optimizer.init)

    def _driven(self, tuner: Tuner, state: TrainState, tuning: Tuning, *extras: Any) -> TrainState:
        step, init = tuner
        state, loss = state._replace(optimizer=init(state.parameters)), jnp.zeros(())
        rng, steps = np.random.default_rng([tuning.seed, 4]), self.steps_of(tuning)
        place, identity = tuning.checkpoint, {}
        if place is not None:
            facts = [steps, self._config.batch, tuning.learning_rate, tuning.seed]
            identity = {"begins": digest(facts, named([state.parameters, state.statistics]))}
        checkpoint = Checkpoint(place, identity)
        state, before = checkpoint.load(state)
        batches = self._dataset.training_batches(self._config.batch, rng, steps, before)
        for done, (x, targets) in enumerate(batches, before + 1):
            state, loss = step(state, x, targets, None, *extras)
            if done % TELL_EVERY == 0:
                tuning.progress(done, steps)
            if done < steps:
                checkpoint.offer(state, done)
        checkpoint.remove()
        if not np.isfinite(loss):
            raise Diverged(f"the loss is {loss} after {steps} steps")
        return state
