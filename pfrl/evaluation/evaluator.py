"""Policy to accuracy and cost: the only door to a reward.

One evaluation: choose channels, repair, mask and fake-quantize, re-estimate the
statistics, fine-tune for a few steps (or none), measure the accuracy on the search split.
Masks and bit widths are traced values of fixed shape, so that all evaluations
of a search run the same three compiled functions.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pfrl.compression.calibration import survey_network
from pfrl.compression.masked import Knobs, MaskedNetwork
from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Prepared, Preparer
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.compression.rounding import slice_quantizers
from pfrl.compression.sliced import Compressed, assemble
from pfrl.cost import CostModel
from pfrl.data import Dataset
from pfrl.deploy.runtimes.base import REFERENCE, RUNTIMES, Judge
from pfrl.evaluation.batched import Together
from pfrl.evaluation.cache import EvaluationCache, Known, digest, facts_of, policy_key
from pfrl.evaluation.config import EpisodeConfig, Evaluation
from pfrl.evaluation.replay import Replay, ReplayError
from pfrl.evaluation.supernet import train_supernet
from pfrl.evaluation.validation import (
    Choice,
    Hopeless,
    Judged,
    batched,
    choose_backend,
    split_search,
    validate,
)
from pfrl.files import load_arrays, save_arrays
from pfrl.graph import Graph, Variables
from pfrl.graph.masks import slice_variables
from pfrl.methods.repair.batch_norm import find_momentum, reestimate
from pfrl.training.backend import compiled, stepping
from pfrl.training.fit import Diverged
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step

__all__ = ["EpisodeConfig", "Evaluation", "Evaluator", "ReplayError"]

MEDIUM = 0.7
"""Share of the channels at which backends are compared: half of the MACs, more or less."""


class Start(NamedTuple):
    """Where the training of a policy's network starts, and the policy as traced values."""

    prepared: Prepared
    knobs: Knobs
    state: TrainState


class Evaluator:
    """Evaluates policies on one network and one data set.

    Args:
      graph: of the base network, whose variables it holds.
      dataset: the test split is never opened here.
      costs: cost model on the same graph.
      config: see ``EpisodeConfig``.
      seed: of the training batches; every evaluation sees the same ones.
      quantized: whether bit widths are honoured; without, their code is left out.
      recipe: by which methods policies are carried out. Without a repair, the fidelity
        reconstruct takes least squares; the fidelity supernet does without any.
      sparse: whether policies may have sparse layers.
      cache: file of exact evaluations that searches share; None keeps none.

    Attributes:
      choice: which backend judges, and why.
      hits: evaluations that came from the cache.
      seconds: wall clock by part.
      spent_before: seconds of training that this evaluator profits from and an earlier one spent.
    """

    def __init__(
        self,
        graph: Graph,
        dataset: Dataset,
        costs: CostModel,
        config: EpisodeConfig,
        seed: int,
        quantized: bool,
        recipe: Recipe = REPAIRED,
        sparse: bool = False,
        cache: Path | None = None,
    ):
        recipe = config.carried_out(recipe)
        self.graph, self.dataset, self.costs, self.config = graph, dataset, costs, config
        self.seconds = {"training": 0.0, "validation": 0.0}
        self.hits, self.spent_before = 0, 0.0
        self._replay = Replay()
        self._seed = seed
        self._network = MaskedNetwork(graph, recipe, quantized, sparse)
        self.survey = survey_network(graph, recipe, dataset, seed, quantized)
        self._prepare = Preparer(graph, self.survey)
        rng = np.random.default_rng([seed, 1])
        self._tuning = list(dataset.training_batches(config.batch, rng, config.tuning_steps))
        count = max(config.statistics_images // config.batch, 1)
        self._estimating = [x for x, _ in dataset.training_batches(config.batch, rng, count)]
        reward, fresh = split_search(dataset.search, config.search_images)
        self.images = {"reward": batched(dataset, reward), "fresh": batched(dataset, fresh)}
        if config.fidelity == "supernet":
            shared = self._shared(quantized, sparse, cache)
            self.survey = self.survey._replace(variables=shared)
            self._prepare = Preparer(graph, self.survey)
        self._optimizer = sgd(config.learning_rate, config.weight_decay)
        apply = self._network.apply
        step = make_train_step(
            apply, self._optimizer, loss=dataset.task.loss, ghosts=config.ghost_batches
        )
        self._step = stepping(step)
        self._start_optimizer = jax.jit(self._optimizer.init)
        self._predict = compiled(lambda v, x, knobs: apply(v, x, False, knobs)[0])
        self._statistics = compiled(lambda v, x, knobs: apply(v, x, True, knobs)[1])
        whole = Policy.uniform(graph)
        start = self._start(whole)
        self._momentum = find_momentum(
            self._statistics,
            _variables(start.state),
            set(graph.source.variables) - graph.source.trainable,
            self._estimating[0],
            start.knobs,
        )
        self.choice = self._choose(quantized)
        self._tuners: dict[tuple[int, float], Any] = {}
        self._hopeless = Hopeless() if config.early_stop else None
        self._together: Together | None = None
        self._cache = self._batch_cache = None
        if cache is not None:
            alone, batch = (
                self._digest(quantized, sparse, backend)
                for backend in (self.choice.backend, "xla, vmapped")
            )
            self._cache = EvaluationCache(cache, alone)
            self._batch_cache = EvaluationCache(cache, batch)

    def replay(self, recorded: Iterable[tuple[Any, Evaluation]]) -> None:
        """Answer the next evaluations from records ``(policy as JSON, evaluation)``, in order."""
        self._replay.extend(recorded)

    def recorded(self, policy: Policy) -> Evaluation | None:
        """What the records that are left say of the next evaluation, which is of this policy.

        Raises:
          ReplayError: if it is of another one.
        """
        return self._replay.next(policy)

    def __call__(self, policy: Policy) -> Evaluation:
        """Evaluate a policy; equal policies give equal accuracies, from the cache or not.

        Raises:
          ReplayError: if recorded evaluations are left and the next is of another policy.
        """
        found = self.recorded(policy)
        if found is None:
            found = self._evaluated(policy)
        if self._hopeless is not None and found.exact:
            self._hopeless.best = max(self._hopeless.best, found.accuracy)
        return found

    def _evaluated(self, policy: Policy) -> Evaluation:
        start = time.perf_counter()
        costs, key = self.costs.of(policy), policy_key(policy, self.graph)
        known = self._cache.get(key) if self._cache is not None else None
        if known is not None:
            self.hits += 1
            return Evaluation(known.accuracy, costs, known.seconds, known.diverged)
        judged = self._judged(policy, "reward", None)
        seconds = time.perf_counter() - start
        found = Evaluation(judged.accuracy, costs, seconds, not judged.finite, judged.exact)
        if self._cache is not None and found.exact:
            self._cache.put(key, Known(found.accuracy, found.diverged, seconds))
        return found

    def together(self, policies: Sequence[Policy]) -> list[Evaluation]:
        """Evaluate policies in one batch, for GPUs and TPUs: see ``pfrl.evaluation.batched``.

        The accuracies are those of evaluations one by one but for rounding, which may decide
        about an image. All images are judged; every policy tells its share of the seconds.
        """
        start = time.perf_counter()
        found = {n: self.recorded(policy) for n, policy in enumerate(policies)}
        keys = [policy_key(policy, self.graph) for policy in policies]
        costs = [self.costs.of(policy) for policy in policies]
        for n in [n for n, evaluation in found.items() if evaluation is None]:
            known = self._batch_cache.get(keys[n]) if self._batch_cache is not None else None
            if known is not None:
                self.hits += 1
                found[n] = Evaluation(known.accuracy, costs[n], known.seconds, known.diverged)
        new = {keys[n]: n for n, evaluation in found.items() if evaluation is None}
        if new:
            # Always as many as were asked for, so that a hit does not compile for another number.
            filled = [*new.values(), *[next(iter(new.values()))] * (len(policies) - len(new))]
            judged = self._judged_together([policies[n] for n in filled])
            seconds = (time.perf_counter() - start) / len(new)
            for (key, n), each in zip(new.items(), judged, strict=False):
                found[n] = Evaluation(each.accuracy, costs[n], seconds, not each.finite)
                if self._batch_cache is not None:
                    self._batch_cache.put(key, Known(each.accuracy, not each.finite, seconds))
        # A policy that came twice was judged once.
        answers = [found[n] or found[new[key]] for n, key in enumerate(keys)]
        return [answer for answer in answers if answer is not None]

    def _judged_together(self, policies: Sequence[Policy]) -> list[Judged]:
        if self._together is None:
            self._together = Together(
                self._network.apply,
                self._step,
                self._momentum,
                self._estimating,
                self._tuning,
                self.dataset,
            )
        starts = [self._start(policy) for policy in policies]
        states, knobs = [start.state for start in starts], [start.knobs for start in starts]
        return self._together(states, knobs, self.images["reward"])

    def score(self, policy: Policy, images: str, steps: int | None = None) -> Judged:
        """How good a policy's network is on the 'reward' or the 'fresh' search images.

        With ``steps``, so many fine-tuning steps on batches of their own, the same for
        every policy, instead of the episode's. All images are judged.
        """
        return self._judged(policy, images, steps, whole=True)

    def compressed(self, policy: Policy) -> Compressed:
        """The sliced network of a policy with its own statistics: where its training starts."""
        return self._sliced(policy, self._reestimated(self._start(policy)))

    def tuned(self, policy: Policy, images: int, learning_rate: float, seed: int) -> Compressed:
        """The sliced network of a policy after fine-tuning, with a learning rate that falls as a
        cosine. It is trained as the masked one, so that nothing compiles for another policy.

        Args:
          policy: whose network.
          images: training images, in whole batches.
          learning_rate: of the first step.
          seed: of the training images.

        Raises:
          Diverged: if a loss was no number.
        """
        steps = max(images // self.config.batch, 1)
        if (steps, learning_rate) not in self._tuners:
            falling = sgd(
                optax.cosine_decay_schedule(learning_rate, steps), self.config.weight_decay
            )
            step = make_train_step(self._network.apply, falling, loss=self.dataset.task.loss)
            self._tuners[steps, learning_rate] = compiled(step), jax.jit(falling.init)
        step, init = self._tuners[steps, learning_rate]
        start = self._reestimated(self._start(policy))
        state, loss = start.state._replace(optimizer=init(start.state.parameters)), jnp.zeros(())
        rng = np.random.default_rng([seed, 4])
        for x, targets in self.dataset.training_batches(self.config.batch, rng, steps):
            state, loss = step(state, x, targets, None, start.knobs)
        if not np.isfinite(loss):
            raise Diverged(f"the loss is {loss} after {steps} steps")
        return self._sliced(policy, start._replace(state=state))

    def _judged(
        self, policy: Policy, images: str, steps: int | None, whole: bool = False
    ) -> Judged:
        with self._clock("training"):
            start = self._reestimated(self._start(policy))
            batches: Iterable[tuple[np.ndarray, np.ndarray]] = self._tuning
            if steps is not None:
                rng = np.random.default_rng([self._seed, 3])
                batches = self.dataset.training_batches(self.config.batch, rng, steps)
            state, loss = start.state, jnp.zeros(())
            for x, targets in batches:
                state, loss = self._step(state, x, targets, None, start.knobs)
            finite = bool(np.isfinite(loss))
        with self._clock("validation"):
            # Without a name the judge is freed in here, which takes milliseconds.
            judged = validate(
                self._judge(policy, start._replace(state=state), self.choice.backend),
                self.images[images],
                self.dataset,
                None if whole else self._hopeless,
            )
        return judged._replace(finite=judged.finite and finite)

    def _judge(self, policy: Policy, start: Start, backend: str) -> Judge:
        runtime, variables = RUNTIMES[backend], _variables(start.state)
        small = None if runtime.masked else self._sliced(policy, start)
        answer = small or (lambda x: self._predict(variables, x, start.knobs))
        return runtime.judge(answer, self.graph.input_shape)

    def _sliced(self, policy: Policy, start: Start) -> Compressed:
        """The part of the masked network that stays, with the numbers that it has now."""
        small = assemble(
            self.graph, policy, start.prepared, self.survey.recipe, self.survey.ranges(policy)
        )
        now = slice_variables(self.graph, _variables(start.state), small.kept)
        now |= slice_quantizers(self.graph, now, small.kept)
        return replace(small, variables={name: now[name] for name in small.variables})

    def _choose(self, quantized: bool) -> Choice:
        """The backend of the configuration, or the faster one for a network of medium size.

        Rounded numbers are judged by XLA: the graph that goes to other runtimes is of float32.
        """
        asked = REFERENCE if quantized else self.config.validation
        if asked != "auto":
            return Choice(asked, {})
        policy = Policy.uniform(self.graph, MEDIUM)
        start = self._start(policy)
        judges: dict[str, Callable[[], Judge]] = {
            backend: lambda backend=backend: self._judge(policy, start, backend)
            for backend in sorted(RUNTIMES, key=lambda name: name != REFERENCE)
            if RUNTIMES[backend].suits(self.dataset.task)
        }
        return choose_backend(judges, self.images["reward"], self.dataset)

    def _start(self, policy: Policy) -> Start:
        prepared = self._prepare(policy)
        knobs = self._network.knobs(policy, prepared, self.survey.ranges(policy))
        variables = self._network.start(prepared, knobs)
        trainable = self._network.trainable
        parameters = {k: jnp.asarray(v) for k, v in variables.items() if k in trainable}
        statistics = {k: jnp.asarray(v) for k, v in variables.items() if k not in trainable}
        state = TrainState(parameters, statistics, self._start_optimizer(parameters))
        return Start(prepared, knobs, state)

    def _reestimated(self, start: Start) -> Start:
        """The same with the masked network's own statistics."""
        variables = _variables(start.state)
        found = reestimate(
            self._statistics, variables, self._momentum, self._estimating, start.knobs
        )
        state = start.state._replace(statistics={**start.state.statistics, **found})
        return start._replace(state=state)

    def _digest(self, quantized: bool, sparse: bool, backend: str = "") -> str:
        """Of all that decides about an evaluation, but the policy."""
        facts = {
            **facts_of(self.graph, self.config, self.survey.recipe),
            "seed": self._seed,
            "quantized": quantized,
            "sparse": sparse,
            "backend": backend,
        }
        looked_at = {
            "reward": self.images["reward"],
            "tuning": self._tuning,
            "survey": self.survey.batches,
            "statistics": self._estimating,
        }
        return digest(facts, [self.graph.source.variables, looked_at])

    def _shared(self, quantized: bool, sparse: bool, cache: Path | None) -> Variables:
        """The shared network, read back if it is beside the cache."""
        name = self._digest(quantized, sparse)[:16]
        path = None if cache is None else cache.with_name(f"supernet-{name}.npz")
        if path is not None and path.exists():
            arrays, facts = load_arrays(path)
            self.spent_before = float(facts.get("seconds", 0))
            return arrays
        with self._clock("training"):
            trained = train_supernet(
                self._network,
                self._prepare,
                self.survey.ranges,
                self.dataset,
                self.config,
                self._seed,
                quantized=quantized,
                sparse=sparse,
            )
        if path is not None:
            seconds = self.seconds["training"]
            save_arrays(path, trained, {"network": "supernet", "seconds": seconds})
        return trained

    @contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start


def _variables(state: TrainState) -> dict[str, Any]:
    return {**state.parameters, **state.statistics}
