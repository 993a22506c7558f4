"""Latency of a network, predicted from a table of its layers and some whole networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from pfrl.cost.budget import BudgetError
from pfrl.cost.latency_table import LatencyTable, LayerShape
from pfrl.graph import Graph, Layer


@dataclass(frozen=True)
class NetworkLatency:
    """Milliseconds (batch 1, one thread) for channel counts by group.

    ``intercept + factor · (overhead + sum of the layers) + penalties``. The
    layers come from a table; the rest is fitted to whole networks that were
    measured. A group's penalty is due where its channels do not fill whole
    blocks of the runtime's kernels: additions and other operations between the
    layers then leave the blocked memory layout and enter it again, which no
    table of single layers can know.

    Attributes:
      graph: of the base network.
      table: of its layers.
      factor, intercept, penalties: as above; the penalties by group.
      integers: the same of the network's files of integers; None where none are made.
    """

    graph: Graph
    table: LatencyTable
    factor: float
    intercept: float
    penalties: Mapping[str, float]
    integers: "NetworkLatency | None" = None

    def __call__(self, counts: Mapping[str, int]) -> float:
        uneven = sum(ms for group, ms in self.penalties.items() if self._is_uneven(group, counts))
        return self.intercept + self.factor * self.layers_ms(counts) + uneven

    def layers_ms(self, counts: Mapping[str, int]) -> float:
        """The table's part: overhead of a run and sum of the layers."""
        return self.table.network(
            (
                layer_shape(layer, self.graph),
                # A grouped convolution's kernel counts the channels of one group.
                layer.c_in.at(counts) * (layer.groups if layer.kind == "grouped" else 1),
                layer.c_out.at(counts),
            )
            for layer in self.graph.layers
        )

    def _is_uneven(self, group: str, counts: Mapping[str, int]) -> bool:
        return counts[group] % self.table.block != 0

    @classmethod
    def fitted(
        cls, graph: Graph, table: LatencyTable, samples: Sequence[tuple[Mapping[str, int], float]]
    ) -> "NetworkLatency":
        """Fit to measured networks ``(channel counts, milliseconds)``, the first one the base.

        Non-negative least squares on relative errors; the base counts as much
        as all others together, since predictions are read relative to it.
        """
        raw = cls(graph, table, 1.0, 0.0, dict.fromkeys(graph.groups, 0.0))
        rows = [
            [1.0, raw.layers_ms(counts), *(raw._is_uneven(g, counts) for g in graph.groups)]
            for counts, _ in samples
        ]
        measured = np.asarray([ms for _, ms in samples])
        weights = 1 / measured
        weights[0] *= max(len(samples) - 1, 1) ** 0.5
        solution, _ = nnls(np.asarray(rows, float) * weights[:, None], measured * weights)
        intercept, factor, *penalties = map(float, solution)
        return cls(graph, table, factor, intercept, dict(zip(graph.groups, penalties, strict=True)))

    def to_json(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
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
            float(value["factor"]),
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
