"""A compression problem whose best policy brute force finds: a real graph, an invented accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import jax
import numpy as np
from flax import nnx

from envs import Runtime
from pfrl.cost import CostModel
from pfrl.evaluate import Evaluation
from pfrl.graph import Graph, trace
from pfrl.policy import Policy
from tests.tiny import made, shape

WIDTH = 16
WEIGHTS = {"a": 1, "b": 8, "c": 2, "d": 5}
"""What the channels of the groups are worth."""


class Chain(nnx.Module):
    """Five dense layers: [N, 4] to 3 logits over the groups a, b, c and d of 16 channels.

    MACs are 4a + ab + bc + cd + 3d, so that a channel's price depends on its neighbours.
    """

    def __init__(self, rngs: nnx.Rngs):
        self.a = nnx.Linear(4, WIDTH, rngs=rngs)
        self.b = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.c = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.d = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.e = nnx.Linear(WIDTH, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in (self.a, self.b, self.c, self.d):
            x = jax.nn.relu(layer(x))
        return self.e(x)


def chain_graph() -> Graph:
    return trace(made(Chain), shape(1, 4))


def toy_accuracy(counts: Mapping[str, int]) -> float:
    """Concave in every count, 1 for the whole network."""
    worth = sum(w * (counts[group] / WIDTH) ** 0.5 for group, w in WEIGHTS.items())
    return worth / sum(WEIGHTS.values())


@dataclass(frozen=True)
class ToyTask:
    """The chain; ``diverges`` makes every evaluation one whose training diverged."""

    diverges: bool = False

    def open(self) -> Runtime:
        graph = chain_graph()
        costs = CostModel(graph)

        def evaluate(policy: Policy) -> Evaluation:
            accuracy = 0.0 if self.diverges else toy_accuracy(policy.counts(graph))
            return Evaluation(accuracy, costs.of(policy), 0.0, self.diverges)

        return Runtime(graph, costs, evaluate, 1.0)


def optimum(metric: str, limit: float, smallest: int) -> float:
    """The best accuracy of all counts from ``smallest`` to 16, by trying them all."""
    costs = {
        "macs": lambda a, b, c, d: 4 * a + a * b + b * c + c * d + 3 * d,
        # A bias for every channel and every logit.
        "params": lambda a, b, c, d: 5 * a + a * b + b + b * c + c + c * d + d + 3 * d + 3,
    }
    everything = np.array(list(product(range(smallest, WIDTH + 1), repeat=4))).T
    fits = costs[metric](*everything) <= limit
    return max(
        toy_accuracy(dict(zip(WEIGHTS, counts, strict=True))) for counts in everything[:, fits].T
    )
