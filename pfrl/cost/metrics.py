"""MACs, parameters, packed bytes, BOPs and predicted latency of any assignment of the knobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pfrl.graph import Graph, Layer
from pfrl.policy import Policy

METRICS = ("macs", "params", "bytes", "bops", "latency")
# Lowering any knob never raises these; measured latency has no such property.
MONOTONE = frozenset({"macs", "params", "bytes", "bops"})

Latency = Callable[[Mapping[str, int]], float]
"""Predicted milliseconds (batch 1, one thread) for channel counts by group."""


@dataclass
class Assignment:
    """A policy in the making: channels by group, bits by layer."""

    counts: dict[str, int]
    weight_bits: dict[str, int]
    act_bits: dict[str, int]
    round_to: int = 1

    @classmethod
    def of(cls, policy: Policy, graph: Graph) -> "Assignment":
        return cls(
            policy.counts(graph), dict(policy.weight_bits), dict(policy.act_bits), policy.round_to
        )

    def copy(self) -> "Assignment":
        return Assignment(
            dict(self.counts), dict(self.weight_bits), dict(self.act_bits), self.round_to
        )

    def policy(self, graph: Graph) -> Policy:
        keep = {name: self.counts[name] / group.size for name, group in graph.groups.items()}
        return Policy(keep, dict(self.weight_bits), dict(self.act_bits), self.round_to)


@dataclass
class CostModel:
    """Costs of assignments on one graph.

    - ``macs``: multiply-accumulates of one example.
    - ``params``: trainable elements.
    - ``bytes``: kernels at their bit widths, each padded to whole bytes, with a
      float32 scale per output channel if quantized (in float32 where that is
      smaller; at the largest width if several layers share one), and every
      other array of the network in float32. An exact function of the policy.
    - ``bops``: MACs times weight bits times activation bits.
    - ``latency``: predicted milliseconds; only with a ``latency`` model.
    """

    graph: Graph
    latency: Latency | None = None
    base: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
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
            return self._bytes(at)
        if metric == "bops":
            return sum(
                layer.macs_at(at.counts) * at.weight_bits[layer.name] * at.act_bits[layer.name]
                for layer in self.graph.layers
            )
        assert self.latency is not None, metric
        return self.latency(at.counts)

    def _bytes(self, at: Assignment) -> int:
        total = 0
        kernels: dict[str, list[Layer]] = {}
        for layer in self.graph.layers:
            kernels.setdefault(layer.kernel, []).append(layer)
        for layers in kernels.values():
            elements = layers[0].kernel_elements_at(at.counts)
            bits = max(at.weight_bits[layer.name] for layer in layers)
            quantized = -(-elements * bits // 8) + 4 * layers[0].c_out.at(at.counts)
            total += min(quantized, 4 * elements)
        for name, axes in self.graph.axes.items():
            if name not in kernels:
                total += 4 * int(np.prod([count.at(at.counts) for count in axes], dtype=int))
        return total
