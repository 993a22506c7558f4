"""Latency of a network, predicted from a table of its layers and some whole networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear

from pfrl.cost.budget import BudgetError
from pfrl.cost.latency_table import LatencyTable, LayerShape
from pfrl.graph import Graph, Layer

MOST = 4.0
"""Times what a layer takes alone that it may take among others; 2 was seen (MobileNet-v2)."""


@dataclass(frozen=True)
class NetworkLatency:
    """Milliseconds (batch 1, one thread) for channel counts by group.

    ``intercept + sum of factor · layer + penalties``. The layers come from a
    table; the rest is fitted to whole networks that were measured. Layers of a
    family have one factor (``LayerShape.family``), since what a layer takes
    among others differs from what it takes alone: all depthwise layers of
    MobileNet-v2, each measured alone, take twice as long as the whole network
    in ONNX Runtime (docs/results/performance.md). A group's penalty is due where its
    channels do not fill whole blocks of the runtime's kernels: additions and
    other operations between the layers then leave the blocked memory layout
    and enter it again, which no table of single layers can know.

    Attributes:
      graph: of the base network.
      table: of its layers.
      factors, intercept, penalties: as above; by family and by group.
      integers: the same of the network's files of integers; None where none are made.
    """

    graph: Graph
    table: LatencyTable
    factors: Mapping[str, float]
    intercept: float
    penalties: Mapping[str, float]
    integers: "NetworkLatency | None" = None

    def __call__(self, counts: Mapping[str, int]) -> float:
        uneven = sum(ms for group, ms in self.penalties.items() if self._is_uneven(group, counts))
        layers = self.layers_ms(counts)
        factored = sum(factor * layers[family] for family, factor in self.factors.items())
        return self.intercept + factored + uneven

    def layers_ms(self, counts: Mapping[str, int]) -> dict[str, float]:
        """The table's part, by family: the sum of its layers."""
        found: dict[str, float] = {}
        for layer in self.graph.layers:
            shape = layer_shape(layer, self.graph)
            # A grouped convolution's kernel counts the channels of one group.
            c_in = layer.c_in.at(counts) * (layer.groups if layer.kind == "grouped" else 1)
            ms = self.table.predict(shape, c_in, layer.c_out.at(counts))
            found[shape.family] = found.get(shape.family, 0.0) + ms
        return found

    def _is_uneven(self, group: str, counts: Mapping[str, int]) -> bool:
        return counts[group] % self.table.block != 0

    @classmethod
    def fitted(
        cls, graph: Graph, table: LatencyTable, samples: Sequence[tuple[Mapping[str, int], float]]
    ) -> "NetworkLatency":
        """Fit to measured networks ``(channel counts, milliseconds)``, the first one the base.

        Least squares on relative errors, of numbers that are not negative, nor
        factors above ``MOST``: where times are disturbed, layers that hardly differ
        from network to network would else stand for all that does not. The base counts
        as much as all others together, since predictions are read relative to it.
        """
        raw = cls(graph, table, {}, 0.0, dict.fromkeys(graph.groups, 0.0))
        layers = [raw.layers_ms(counts) for counts, _ in samples]
        families = list(layers[0])
        rows = [
            [1.0, *each.values(), *(raw._is_uneven(g, counts) for g in graph.groups)]
            for each, (counts, _) in zip(layers, samples, strict=True)
        ]
        measured = np.asarray([ms for _, ms in samples])
        weights = 1 / measured
        weights[0] *= max(len(samples) - 1, 1) ** 0.5
        most = [np.inf, *(MOST for _ in families), *(np.inf for _ in graph.groups)]
        matrix = np.asarray(rows, float) * weights[:, None]
        found = lsq_linear(matrix, measured * weights, (0, most), method="bvls")
        intercept, *others = map(float, found.x)
        factors = dict(zip(families, others[: len(families)], strict=True))
        penalties = dict(zip(graph.groups, others[len(families) :], strict=True))
        return cls(graph, table, factors, intercept, penalties)

    def to_json(self) -> dict[str, Any]:
        return {
            "factors": dict(self.factors),
            "intercept": self.intercept,
            "penalties": dict(self.penalties),
            "table": self.table.to_json(),
            "integers": None if self.integers is None else self.integers.to_json(),
        }

    @classmethod
    def from_json(cls, graph: Graph, value: Mapping[str, Any]) -> "NetworkLatency":
        integers = value.get("integers")
        return cls(
            graph,
            LatencyTable.from_json(value["table"]),
            {family: float(factor) for family, factor in value["factors"].items()},
            float(value["intercept"]),
            {group: float(value["penalties"][group]) for group in graph.groups},
            None if integers is None else cls.from_json(graph, integers),
        )


def layer_shape(layer: Layer, graph: Graph) -> LayerShape:
    """What the latency table knows a layer by.

    A dense layer that is applied at many places (tokens) is the 1×1 convolution
    that does the same; a convolution in one dimension has a width of 1.
    """
    full = graph.full_counts()
    c_in, c_out = layer.c_in.at(full), layer.c_out.at(full)
    if layer.kind == "dense":
        if layer.positions == 1:
            return LayerShape("dense", c_in=c_in, c_out=c_out)
        return LayerShape("conv", height=layer.positions, width=1, c_in=c_in, c_out=c_out)
    if len(layer.taps) > 2:
        raise BudgetError(
            f"layer '{layer.name}' is a convolution in {len(layer.taps)} dimensions, of which no"
            " latency is predicted; choose another metric, such as macs"
        )
    depthwise = layer.kind == "depthwise"
    height, width = (*layer.input_shape[:-1], 1)[:2]
    top_bottom, left_right = (*layer.padding, (0, 0))[:2]
    kernel, strides = (*layer.taps, 1)[:2], (*layer.strides, 1)[:2]
    return LayerShape(
        "depthwise" if depthwise else "conv",
        kernel=(kernel[0], kernel[1]),
        strides=(strides[0], strides[1]),
        padding=(top_bottom, left_right),
        groups=c_out if depthwise else layer.groups,
        height=height,
        width=width,
        c_in=c_out if depthwise else c_in * layer.groups,
        c_out=c_out,
    )
