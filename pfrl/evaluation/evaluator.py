"""The plain evaluator: prepares a policy's network, trains it shortly and scores it.

One evaluation: choose channels, repair, mask and fake-quantize, re-estimate the
statistics, fine-tune for a few steps (or none), measure the accuracy on the search split.
Masks and bit widths are traced values of fixed shape, so that all evaluations
of a search run the same three compiled functions, on a GPU or TPU the same one.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np

from pfrl.compression.calibration import gather_from
from pfrl.compression.masked import MaskedNetwork
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.compression.sliced import Compressed, assemble
from pfrl.cost import CostModel
from pfrl.cpu import give_back
from pfrl.cpu.backend import at_hand, evaluates_at_once
from pfrl.data import Dataset
from pfrl.deploy.runtimes.base import REFERENCE, RUNTIMES
from pfrl.evaluation.base import Choice, Evaluator, Tuning
from pfrl.evaluation.batched import Batched
from pfrl.evaluation.cache import facts_of, policy_key
from pfrl.evaluation.config import EpisodeConfig, Evaluation
from pfrl.evaluation.early_stopping import RULES, Bound
from pfrl.evaluation.remembered import choice
from pfrl.evaluation.short_training import Masked, ShortTraining
from pfrl.evaluation.supernet import read_or_train, train_supernet
from pfrl.evaluation.validation import batched, choose_runtime, split_search
from pfrl.files import FileError
from pfrl.graph import Graph
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.tasks.judging import Judge, Judged, validate
from pfrl.training.identity import named
from pfrl.user_cache import digest

WORTH_COMPILING = 100
"""Steps of a fine-tuning from which on a train step is compiled for the sliced network."""
MEDIUM = 0.7
"""Share of the channels at which runtimes are compared: half of the MACs, more or less."""


class NetworkEvaluator(Evaluator):
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
      beside: file beside which a shared network is kept; None keeps none.

    Attributes:
      bound: by which an evaluation stops early; None judges all images.
      images: by name, 'reward' and 'held_out', batches of search images and their targets.
      spent_before: seconds of training that this evaluator profits from and an earlier one spent.

    Raises:
      RecipeError: if the recipe looks at data and there is none.
      Diverged: if the training of a shared network diverged.
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
        beside: Path | None = None,
    ):
        config = config.suited(graph.input_shape, recipe, quantized or sparse)
        recipe = config.carried_out(recipe)
        self.graph, self.dataset, self.costs = graph, dataset, costs
        self.seconds = {"training": 0.0, "validation": 0.0}
        self._config, self._seed = config, seed
        self.bound = RULES[config.early_stop]() if config.early_stop in RULES else None
        network = MaskedNetwork(graph, recipe, quantized, sparse)
        statistics = gather_from(graph, recipe, dataset, seed, quantized)
        give_back()
        rng = np.random.default_rng([seed, 1])
        tuning = dataset.held_batches(config.batch, rng, config.tuning_steps)
        count = config.statistics_batches
        estimating = [x for x, _ in dataset.training_batches(config.batch, rng, count)]
        used, held_out = split_search(dataset.search, config.search_images)
        self.images_each = config.images_each(len(dataset.search))
        self._trained_on = self.images_each - len(used)
        # Every evaluation looks at the former; the latter are for re-scoring alone.
        self.images = {
            "reward": batched(dataset, used.in_memory()),
            "held_out": batched(dataset, held_out),
        }
        # Asked for by caches alone: tracing once more takes a while.
        self._facts = cache(
            lambda: {
                **facts_of(graph, config, recipe),
                "seed": seed,
                "quantized": quantized,
                "sparse": sparse,
            }
        )
        self._looked_at = {
            "reward": self.images["reward"],
            "tuning": tuning,
            "calibration": statistics.batches,
            "statistics": estimating,
        }
        self.spent_before = 0.0
        if config.fidelity == "supernet":
            place = beside and beside.with_name(f"supernet-{self.identity()[:16]}.npz")
            shared = read_or_train(
                place,
                partial(
                    train_supernet,
                    network,
                    statistics,
                    dataset,
                    config,
                    seed,
                    quantized,
                    sparse,
                ),
            )
            statistics = replace(statistics, variables=shared.variables)
            self.seconds["training"], self.spent_before = shared.seconds, shared.spent_before
        # Policies are prepared on the host.
        statistics = replace(statistics, variables=at_hand(statistics.variables))
        self.statistics = statistics
        judged = self.images["reward"][0][0]
        self._training = ShortTraining(
            network, statistics, dataset, config, tuning, estimating, judged
        )
        self._runtimes = dict(RUNTIMES)
        self._batched = Batched(self._training, dataset.task)
        at_once = evaluates_at_once(jax.default_backend())
        give_back()
        self.choice = self._choose(quantized, at_once)
        give_back()
        self._has_judged = False
        self._at_once = at_once and self.bound is None and self.choice.runtime == REFERENCE

    def evaluate(self, policy: Policy) -> Evaluation:
        """Evaluate a policy; equal policies give equal accuracies."""
        if self._at_once:
            return self.evaluate_batch([policy])[0]
        start = time.perf_counter()
        judged = self._judged(policy, "reward", None, self.bound)
        if self.bound is not None and judged.exact:
            self.bound.take(judged)
        elif self.bound is not None and judged.finite:
            judged = judged._replace(quality=self.bound.estimate(judged.each))
        seconds = time.perf_counter() - start
        costs = self.costs.of(policy)
        images = self._trained_on + len(judged.each)
        return Evaluation(judged.quality, costs, seconds, not judged.finite, judged.exact, images)

    def evaluate_batch(self, policies: Sequence[Policy]) -> list[Evaluation]:
        """Evaluate policies in one call, for GPUs and TPUs: see ``pfrl.evaluation.batched``.

        The accuracies are those of evaluations one by one but for rounding, which may decide
        about an image, and after fine-tuning about some. All images are judged; every policy tells
        its share of the seconds, which all count as training.
        """
        start = time.perf_counter()
        new = {policy_key(policy, self.graph): policy for policy in policies}
        # Always as many as were asked for, so that equal ones do not compile for another number.
        filled = [*new.values(), *[policies[0]] * (len(policies) - len(new))]
        judged = self._batched(filled, self.images["reward"])
        spent = time.perf_counter() - start
        self.seconds["training"] += spent
        seconds = spent / len(new)
        found, images = dict(zip(new, judged, strict=False)), self.images_each
        return [
            Evaluation(each.quality, self.costs.of(policy), seconds, not each.finite, True, images)
            for policy in policies
            for each in [found[policy_key(policy, self.graph)]]
        ]

    def score(self, policy: Policy, images: str, steps: int | None = None) -> Judged:
        """How good a policy's network is on the 'reward' or the 'held_out' images."""
        judged = self._judged(policy, images, steps, None)
        give_back()
        return judged

    def network(self, policy: Policy, tuning: Tuning | None = None) -> Compressed:
        """The sliced network of a policy.

        A long fine-tuning compiles its train step for the sliced network, whose steps take less;
        in a short one the masked network is trained, for which nothing compiles again.

        Raises:
          Diverged: if the loss of the fine-tuning is no number.
        """
        if tuning is None:
            return self._sliced(policy, self._training.started(policy))
        if self._training.steps_of(tuning) < WORTH_COMPILING:
            return self._sliced(policy, self._training.tuned_for_long(policy, tuning))
        small = self._sliced(policy, self._training.started(policy))
        return self._training.tuned_apart(small, tuning)

    def identity(self, runtime: str = "") -> str:
        """Digest of all that decides about an evaluation by a runtime, but the policy."""
        variables = self.graph.source.variables
        return digest({**self._facts(), "runtime": runtime}, named([variables, self._looked_at]))

    def _judged(
        self, policy: Policy, images: str, steps: int | None, bound: Bound | None
    ) -> Judged:
        start = time.perf_counter()
        batches = None
        if steps is not None:
            rng = np.random.default_rng([self._seed, 3])
            batches = self.dataset.training_batches(self._config.batch, rng, steps)
        masked, finite = self._training.tuned(policy, batches)
        trained = time.perf_counter()
        self.seconds["training"] += trained - start
        judged = self._validated(policy, masked, images, bound)
        end = time.perf_counter()
        self.seconds["validation"] += end - trained
        return judged if finite else judged._replace(quality=0.0, finite=False)

    def _validated(
        self, policy: Policy, masked: Masked, images: str, bound: Bound | None
    ) -> Judged:
        try:
            # Without a name the judge is freed in here, which takes milliseconds.
            judged = validate(
                self._judge(policy, masked, self.choice.runtime),
                self.images[images],
                self.dataset.task,
                bound,
            )
        except FileError:
            # Training can move a grid to where the runtime cannot compute: such a file is no use.
            if not self._has_judged:
                raise
            return Judged(0.0, False, True)
        self._has_judged = True
        return judged

    def _judge(self, policy: Policy, masked: Masked, name: str) -> Judge:
        runtime, shape = self._runtimes[name], self.graph.input_shape
        if not runtime.masked:
            return runtime.judge(self._sliced(policy, masked), shape)
        predict, variables, knobs = self._training.predict, masked.variables, masked.knobs
        return runtime.judge(lambda x: predict(variables, x, knobs), shape)

    def _sliced(self, policy: Policy, masked: Masked) -> Compressed:
        """The part of the masked network that stays, with the numbers that it has now."""
        recipe, ranges = self.statistics.recipe, self.statistics.ranges(policy)
        return assemble(self.graph, policy, masked.prepared, recipe, ranges, masked.variables)

    def _choose(self, quantized: bool, at_once: bool) -> Choice:
        """The runtime of the configuration, or the fastest one for a network of medium size.

        Rounded networks are judged by XLA, which simulates them, or as files of integers.

        Args:
          quantized: whether numbers are rounded.
          at_once: whether an evaluation is one compiled call, in which XLA judges.
        """
        asked = self._config.validation
        if quantized and asked not in ("auto", REFERENCE) and not self._runtimes[asked].integers:
            asked = REFERENCE
        if asked != "auto" or at_once:
            return Choice(REFERENCE if asked == "auto" else asked, {})
        bits = 8 if quantized else FLOAT_BITS
        policy = Policy.uniform(self.graph, MEDIUM, bits, bits)
        masked, task = self._training.masked(policy), self.dataset.task
        judges: dict[str, Callable[[], Judge]] = {
            name: partial(self._judge, policy, masked, name)
            for name in sorted(self._runtimes, key=lambda name: name != REFERENCE)
            if self._runtimes[name].suits(task)
            and (name == REFERENCE or self._runtimes[name].integers == quantized)
        }
        images = self.images["reward"]
        return choice(
            self.graph,
            self.dataset,
            self.statistics.recipe,
            images,
            {name: self._runtimes[name] for name in judges},
            lambda: choose_runtime(judges, images, task, quantized),
        )
