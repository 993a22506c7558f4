"""MACs, parameters, packed bytes, BOPs and predicted latency of any assignment of the knobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pfrl.compression.policy import Policy
from pfrl.compression.recipe import PLAIN, Recipe
from pfrl.deploy.packed.storage import Storage
from pfrl.graph import Graph

METRICS = ("macs", "params", "bytes", "bops", "latency")
# Lowering any knob never raises these; measured latency has no such property.
MONOTONE = frozenset({"macs", "params", "bytes", "bops"})

Latency = Callable[[Mapping[str, int]], float]
"""Predicted milliseconds (batch 1, one thread) for channel counts by group."""


@dataclass
class Assignment:
    """A policy in the making: channels by group, bits and shares of zeros by layer."""

    counts: dict[str, int]
    weight_bits: dict[str, int]
    act_bits: dict[str, int]
    round_to: int = 1
    sparsity: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy, graph: Graph) -> "Assignment":
        return cls(policy.counts(graph), *_knobs(policy))

    def copy(self) -> "Assignment":
        return Assignment(dict(self.counts), *_knobs(self))

    def policy(self, graph: Graph) -> Policy:
        keep = {name: self.counts[name] / group.size for name, group in graph.groups.items()}
        return Policy(keep, *_knobs(self))


def _knobs(
    of: "Assignment | Policy",
) -> tuple[dict[str, int], dict[str, int], int, dict[str, float]]:
    """What an assignment and a policy have in common, as copies."""
    return dict(of.weight_bits), dict(of.act_bits), of.round_to, dict(of.sparsity)


@dataclass
class CostModel:
    """Costs of assignments on one graph.

    - ``macs``: multiply-accumulates of one example.
    - ``params``: trainable elements.
    - ``bytes``: all arrays as ``pfrl.deploy.packed.pack`` stores them (its file has a header
      besides): quantized, sparse or in float; see ``Storage``. Exact.
    - ``bops``: MACs times weight bits times activation bits; zeros count as all others.
    - ``latency``: predicted milliseconds; only with a ``latency`` model.

    Args:
      graph: of the base network.
      latency: a model of it.
      recipe: how kernels are made sparse, and rounded.
    """

    graph: Graph
    latency: Latency | None = None
    recipe: Recipe = PLAIN
    base: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self._storage = Storage(self.graph, self.recipe)
        self.base = self.of(Policy.uniform(self.graph))

    @property
    def metrics(self) -> tuple[str, ...]:
        return METRICS if self.latency else METRICS[:-1]

    def of(self, policy: Policy) -> dict[str, float]:
        """All costs of a policy."""
        assignment = Assignment.of(policy, self.graph)
        return {metric: self.cost(metric, assignment) for metric in self.metrics}

    def cost(self, metric: str, at: Assignment) -> float:
        """One cost of an assignment."""
        if metric == "macs":
            return self.graph.macs_at(at.counts)
        if metric == "params":
            return self.graph.params_at(at.counts)
        if metric == "bytes":
            stored = self._storage.stored(at.counts, at.weight_bits, at.sparsity)
            return sum(array.payload for array in stored.values())
        if metric == "bops":
            return sum(
                layer.macs_at(at.counts) * at.weight_bits[layer.name] * at.act_bits[layer.name]
                for layer in self.graph.layers
            )
        assert self.latency is not None, metric
        return self.latency(at.counts)
