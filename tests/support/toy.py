"""A compression problem whose best policy brute force finds: a real graph, an invented accuracy."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from envs import Runtime
from pfrl.compression.policy import Policy
from pfrl.cost import CostModel
from pfrl.evaluation.evaluator import Evaluation
from pfrl.graph import Graph, trace
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


@dataclass(frozen=True)
class ToyTask:
    """The comb, evaluated by ``toy_accuracy``."""

    def open(self) -> Runtime:
        graph = comb_graph()
        costs = CostModel(graph)

        def evaluate(policy: Policy) -> Evaluation:
            counts = policy.counts(graph)
            shares = np.asarray([counts[name] / g.size for name, g in graph.groups.items()])
            return Evaluation(float(toy_accuracy(shares)), costs.of(policy), 0.0, False)

        return Runtime(graph, costs, evaluate, 1.0)


def optimum(channels: float, keep_min: float) -> float:
    """The best accuracy with at most so many channels in all, by trying all counts."""
    choices = [[k for k in range(1, size + 1) if k >= keep_min * size] for size in SIZES]
    counts = np.stack(np.meshgrid(*choices, indexing="ij"), -1).reshape(-1, len(SIZES))
    return float(toy_accuracy(counts[counts.sum(-1) <= channels] / SIZES).max())
