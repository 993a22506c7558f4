"""A compression problem whose best policy brute force finds: a real graph, an invented accuracy."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from envs import OpenedTask, Task
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.cost import CostModel
from pfrl.evaluation.base import Evaluator
from pfrl.evaluation.config import Evaluation
from pfrl.evaluation.recorded import Recorded
from pfrl.graph import Graph, trace
from pfrl.tasks.judging import Judged
from tests.support.tiny import made, shape

SIZES = (16, 8, 8, 8, 16, 8)
"""Channels of the groups."""
WORTH = (1, 6, 1, 6, 2, 1)
"""What they are worth to the accuracy."""


class Comb(nnx.Module):
    """[N, 4] to 3 logits: dense layers side by side, concatenated, and one behind them.

    A channel of any group costs 4 + 3 MACs, and as many parameters and a bias.
    """

    def __init__(self, rngs: nnx.Rngs):
        self.teeth = nnx.List([nnx.Linear(4, size, rngs=rngs) for size in SIZES])
        self.back = nnx.Linear(sum(SIZES), 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.back(jnp.concatenate([jax.nn.relu(tooth(x)) for tooth in self.teeth], -1))


def comb_graph() -> Graph:
    return trace(made(Comb), shape(1, 4))


def toy_accuracy(shares: np.ndarray) -> np.ndarray:
    """Of keep shares ``[..., G]``: concave in each, 1 for the whole network."""
    return np.sqrt(shares) @ np.asarray(WORTH) / sum(WORTH)


class Invented(Evaluator):
    """An evaluator whose evaluations are a function's."""

    def __init__(self, graph: Graph, evaluation_of: Callable[[Policy], Evaluation]):
        super().__init__()
        self.graph, self._evaluation_of = graph, evaluation_of

    def evaluate(self, policy):
        return self._evaluation_of(policy)

    def score(self, policy, images, steps=None):
        return Judged(self.evaluate(policy).accuracy, True, True)

    def network(self, policy, tuning=None):
        return compress(self.graph.source, policy, graph=self.graph)


def opened(
    graph: Graph, costs: CostModel, evaluation_of: Callable[[Policy], Evaluation]
) -> OpenedTask:
    """What a task with an invented evaluator opens, of accuracy 1 without compression."""
    return OpenedTask(graph, costs, Recorded(Invented(graph, evaluation_of)), 1.0)


@dataclass(frozen=True)
class ToyTask(Task):
    """The comb, evaluated by ``toy_accuracy``."""

    def open(self) -> OpenedTask:
        graph = comb_graph()
        costs = CostModel(graph)

        def evaluate(policy: Policy) -> Evaluation:
            counts = policy.counts(graph)
            shares = np.asarray([counts[name] / g.size for name, g in graph.groups.items()])
            return Evaluation(float(toy_accuracy(shares)), costs.of(policy), 0.0, False)

        return opened(graph, costs, evaluate)


@dataclass(frozen=True)
class Signed(Task):
    """The toy, whose evaluations say in which process they were made."""

    def open(self) -> OpenedTask:
        graph, costs, evaluator, _ = ToyTask().open()

        def evaluate(policy: Policy) -> Evaluation:
            return evaluator.evaluate(policy)._replace(seconds=float(os.getpid()))

        return opened(graph, costs, evaluate)


def optimum(channels: float, keep_min: float) -> float:
    """The best accuracy with at most so many channels in all, by trying all counts."""
    choices = [[k for k in range(1, size + 1) if k >= keep_min * size] for size in SIZES]
    counts = np.stack(np.meshgrid(*choices, indexing="ij"), -1).reshape(-1, len(SIZES))
    return float(toy_accuracy(counts[counts.sum(-1) <= channels] / SIZES).max())
