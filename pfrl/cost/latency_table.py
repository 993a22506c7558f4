"""Latency of single layers as a function of their channel counts, measured in a runtime.

What stands between the layers of a network is left to ``pfrl.cost.latency``.
Every layer is measured alone, as Conv + Relu or Gemm + Relu, on a grid
of channel counts, and the grid is interpolated bilinearly, with regard to how
the runtime's kernels take channels: which grids there are and where a count stands in them says
the runtime (``pfrl.deploy.runtimes.base.FileRuntime``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from pfrl.cpu.processor import instruction_set
from pfrl.deploy.operators.graph import Channels, OperatorGraph
from pfrl.deploy.operators.quantized import OUTPUT_AXIS, Quantization
from pfrl.deploy.operators.quantized import Grid as Codes
from pfrl.deploy.runtimes.base import FileRuntime, LayerChannels, file_runtime
from pfrl.deploy.timing import STEADY, interleave, together
from pfrl.graph.labelled.program import BATCH

STEP = 0.02
"""Of all grids in layers of integers, whose numbers do not matter."""

TURN_SECONDS = 0.003
"""How long a layer runs at a time: many short turns see the machine in all its moods."""
FEWEST_TURNS = 8


@dataclass(frozen=True)
class LayerShape:
    """What decides about a layer's latency; the channel counts are those of the base network."""

    kind: Literal["conv", "depthwise", "dense"]
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    """((top, bottom), (left, right))"""
    groups: int = 1
    height: int = 1
    """Of the input, in pixels; 1 for dense layers."""
    width: int = 1
    c_in: int = 1
    c_out: int = 1

    @property
    def family(self) -> str:
        """Layers that depend alike on what surrounds them: depthwise, pointwise (taps of 1×1) and
        all others, of which dense layers are few and small."""
        if self.kind == "depthwise":
            return "depthwise"
        return "pointwise" if self.kind == "conv" and self.kernel == (1, 1) else "others"


class Grid(NamedTuple):
    """Milliseconds ``ms[i][o]`` at ``c_in[i]`` input and ``c_out[o]`` output channels."""

    c_in: tuple[int, ...]
    c_out: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]

    def at(self, c_in: float, c_out: float) -> float:
        """Bilinear between the points, linear beyond them, never below 0."""
        columns = [_line(self.c_in, column, c_in) for column in zip(*self.ms, strict=True)]
        return max(0.0, _line(self.c_out, columns, c_out))


def _line(points: Sequence[int], values: Sequence[float], x: float) -> float:
    if len(points) == 1:
        return values[0]
    right = min(max(1, int(np.searchsorted(points, x))), len(points) - 1)
    x0, x1 = points[right - 1], points[right]
    return values[right - 1] + (values[right] - values[right - 1]) * (x - x0) / (x1 - x0)


class LayerGrids(NamedTuple):
    """A layer's latencies where channels fill the runtime's kernels and, if ever, where not."""

    fast: Grid
    slow: Grid | None


@dataclass(frozen=True)
class LatencyTable:
    """Latencies of the layers of a network, with what they were measured on."""

    layers: Mapping[LayerShape, LayerGrids]
    overhead_ms: float
    """Time of a run that computes nothing; it has been subtracted from every layer."""
    block: int
    """Channels that the runtime's kernels compute at a time."""
    threads: int
    batch: int
    runtime_version: str
    instruction_set: str
    integers: bool = False
    """Whether the layers compute with integers."""
    runtime: str = "onnx"
    """Name of a ``FileRuntime``."""

    def predict(self, shape: LayerShape, c_in: int, c_out: int) -> float:
        """Milliseconds of the layer with so many channels left, without the overhead of a run.

        Args:
          shape: the layer in the base network, one that was measured.
          c_in: input channels, from 1 to the base network's.
          c_out: output channels, likewise; a depthwise layer's are its input channels.

        Raises:
          ValueError: if the layer was not measured, or has fewer channels.
        """
        if shape not in self.layers:
            raise ValueError(f"{shape} is not in the latency table; measure it with measure_table")
        if not (1 <= c_in <= shape.c_in and 1 <= c_out <= shape.c_out):
            raise ValueError(
                f"got {c_in} input and {c_out} output channels; the layer has "
                f"1 to {shape.c_in} and 1 to {shape.c_out}"
            )
        fast, slow = self.layers[shape]
        runtime, uneven = file_runtime(self.runtime), slow is not None
        place = runtime.place(shape.kind, c_in, c_out, self.block, uneven)
        grid = slow if slow is not None and place.uneven else fast
        return grid.at(place.c_in, min(place.c_out, shape.c_out))

    def to_json(self) -> dict[str, Any]:
        """Plain data, to be kept with a run."""
        plain = {key: value for key, value in vars(self).items() if key != "layers"}
        layers = [
            {
                "shape": asdict(shape),
                "fast": grids.fast._asdict(),
                "slow": grids.slow._asdict() if grids.slow else None,
            }
            for shape, grids in self.layers.items()
        ]
        return {**plain, "layers": layers}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "LatencyTable":
        """The table that ``to_json`` described.

        Raises:
          ValueError: if ``value`` is not such a description.
        """
        try:
            layers = {
                LayerShape(**_tuples(layer["shape"])): LayerGrids(
                    Grid(**_tuples(layer["fast"])),
                    Grid(**_tuples(layer["slow"])) if layer["slow"] else None,
                )
                for layer in value["layers"]
            }
            return LatencyTable(**{**value, "layers": layers})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a latency table ({error}); measure it again") from error


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def measure_table(
    shapes: Iterable[LayerShape],
    *,
    points: Sequence[float] = (0.125, 0.25, 0.5, 0.75, 1.0),
    threads: int = 1,
    batch: int = 1,
    seconds: float = 12.0,
    seed: int = 0,
    integers: bool = False,
    runtime: str = "onnx",
) -> LatencyTable:
    """Measures single layers in a runtime, all of them in turns.

    Args:
      shapes: the layers; equal ones are measured once.
      points: shares of the base network's channel counts that make the grid,
        rounded to what the runtime's kernels compute at a time.
      threads: threads inside an operation.
      batch: images in a run.
      seconds: time spent on measuring at most, besides making the models, unless
        ``FEWEST_TURNS`` of every model take longer; all being steady ends it.
      seed: of weights, images and order.
      integers: of 8 bits, between floats that are rounded first and turned back last.
      runtime: name of a ``FileRuntime``.

    The time of a run that computes nothing is subtracted from every layer, so
    that a sum of layers counts it once. What a layer alone pays for bringing its
    input and output into the kernels' memory layout stays in.
    """
    rng, where = np.random.default_rng(seed), file_runtime(runtime)
    distinct = list(dict.fromkeys(shapes))
    axes = [
        where.grids(LayerChannels(s.kind, s.groups, s.c_in, s.c_out), points, integers)
        for s in distinct
    ]
    files = [where.emitted(_nothing(), Quantization({}, {}))]
    for shape, grids in zip(distinct, axes, strict=True):
        files += [
            layer_file(where, shape, c_in, c_out, rng, integers)
            for ins, outs in grids
            for c_in in ins
            for c_out in outs
        ]
    sessions = [where.opened(file, threads) for file in files]
    runs = [session.bound(session.random_images(batch, rng)) for session in sessions]
    rounds, _ = interleave(
        lambda: runs,
        seconds,
        rng,
        round_seconds=TURN_SECONDS,
        fewest_rounds=FEWEST_TURNS,
        precision=STEADY,
        steady=together,
    )
    times = iter(np.percentile(rounds, 25, axis=0).tolist())  # turns that nothing disturbed
    overhead = next(times)
    layers = {}
    for shape, lanes in zip(distinct, axes, strict=True):
        grids = [
            Grid(i, o, tuple(tuple(max(0.0, next(times) - overhead) for _ in o) for _ in i))
            for i, o in lanes
        ]
        layers[shape] = LayerGrids(grids[0], grids[1] if len(grids) > 1 else None)
    return LatencyTable(
        layers,
        overhead,
        where.block(),
        threads,
        batch,
        where.version(),
        instruction_set(),
        integers,
        runtime,
    )


def _nothing() -> OperatorGraph:
    graph = OperatorGraph()
    graph.shapes["x"] = (BATCH, 1)
    return _activated(graph, "x")


def layer_file(
    runtime: FileRuntime,
    shape: LayerShape,
    c_in: int,
    c_out: int,
    rng: np.random.Generator,
    integers: bool,
) -> bytes:
    """A file of the layer with so many channels, and its ReLU; weights are noise."""
    graph = _layer_graph(shape, c_in, c_out, rng, runtime.channels)
    if not integers:
        return runtime.emitted(graph, Quantization({}, {}))
    (layer, _), kernel = graph.nodes, graph.constants[graph.nodes[0].inputs[1]]
    graph.constants[layer.inputs[1]] = STEP * np.clip(np.round(kernel / STEP), -64, 64)
    steps = np.full(kernel.shape[OUTPUT_AXIS[layer.op]], STEP)
    graph.values = {graph.source: 0, graph.outputs[0]: 1}
    sites = {0: Codes(STEP, 128), 1: Codes(STEP, 0)}
    return runtime.emitted(graph, Quantization(sites, {layer.inputs[1]: steps}))


def _layer_graph(
    shape: LayerShape, c_in: int, c_out: int, rng: np.random.Generator, channels: Channels
) -> OperatorGraph:
    graph = OperatorGraph()
    bias = graph.constant(rng.standard_normal(c_out))
    if shape.kind == "dense":
        kernel = graph.constant(rng.standard_normal((c_in, c_out)))
        graph.shapes["x"] = (BATCH, c_in)
        return _activated(graph, graph.node("Gemm", ["x", kernel, bias], (BATCH, c_out)))
    groups = c_out if shape.kind == "depthwise" else shape.groups
    c_in = c_out if shape.kind == "depthwise" else c_in
    kernel = graph.constant(rng.standard_normal((c_out, c_in // groups, *shape.kernel)))
    space = (shape.height, shape.width)
    sides = zip(space, shape.padding, shape.kernel, shape.strides, strict=True)
    sizes = [(size + sum(pads) - taps) // stride + 1 for size, pads, taps, stride in sides]
    last = channels == "last"
    graph.shapes["x"] = (BATCH, *space, c_in) if last else (BATCH, c_in, *space)
    name = graph.node(
        "Conv",
        ["x", kernel, bias],
        (BATCH, *sizes, c_out) if last else (BATCH, c_out, *sizes),
        kernel_shape=list(shape.kernel),
        strides=list(shape.strides),
        dilations=[1, 1],
        pads=[low for low, _ in shape.padding] + [high for _, high in shape.padding],
        group=groups,
    )
    return _activated(graph, name)


def _activated(graph: OperatorGraph, name: str) -> OperatorGraph:
    graph.source, graph.outputs = "x", [graph.node("Relu", [name], graph.shapes[name])]
    return graph
