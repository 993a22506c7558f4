"""Latency of a network, predicted from a table of its layers and a measurement of the base."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pfrl.cost.latency_table import LatencyTable, LayerShape
from pfrl.graph import Graph, Layer


@dataclass(frozen=True)
class NetworkLatency:
    """Milliseconds (batch 1, one thread) for channel counts by group.

    ``(overhead + sum of the layers) · factor``, where the factor makes the
    prediction exact for the base network: what stands between the layers
    (additions, padding, the session itself) is taken to shrink as they do.
    """

    graph: Graph
    table: LatencyTable
    factor: float

    def __call__(self, counts: Mapping[str, int]) -> float:
        return self.factor * self._sum(counts)

    def _sum(self, counts: Mapping[str, int]) -> float:
        return self.table.network(
            (layer_shape(layer, self.graph), layer.c_in.at(counts), layer.c_out.at(counts))
            for layer in self.graph.layers
        )

    @classmethod
    def fitted(cls, graph: Graph, table: LatencyTable, base_ms: float) -> "NetworkLatency":
        """The model whose prediction of the unpruned network is the measured ``base_ms``."""
        raw = cls(graph, table, 1.0)
        return cls(graph, table, base_ms / raw(graph.full_counts()))

    def to_json(self) -> dict[str, Any]:
        return {"factor": self.factor, "table": self.table.to_json()}

    @classmethod
    def from_json(cls, graph: Graph, value: Mapping[str, Any]) -> "NetworkLatency":
        return cls(graph, LatencyTable.from_json(value["table"]), float(value["factor"]))


def layer_shape(layer: Layer, graph: Graph) -> LayerShape:
    """What the latency table knows a layer by."""
    full = graph.full_counts()
    c_in, c_out = layer.c_in.at(full), layer.c_out.at(full)
    if layer.kind == "dense":
        return LayerShape("dense", c_in=c_in, c_out=c_out)
    depthwise = layer.kind == "depthwise"
    height, width = layer.input_shape[:2]
    top_bottom, left_right = layer.padding
    return LayerShape(
        "depthwise" if depthwise else "conv",
        kernel=(layer.taps[0], layer.taps[1]),
        strides=(layer.strides[0], layer.strides[1]),
        padding=(top_bottom, left_right),
        groups=c_out if depthwise else 1,
        height=height,
        width=width,
        c_in=c_out if depthwise else c_in,
        c_out=c_out,
    )
