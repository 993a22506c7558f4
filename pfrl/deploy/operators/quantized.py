"""The graph of a quantized network: the grids of its tensors and of its kernels.

What the network is rounded to in JAX is read off the same sites, so that a file that is written
of this graph rounds the same numbers to the same grids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from pfrl.compression.rounding import Quantizer, Rounding, own_arrays, site_bits
from pfrl.compression.sliced import Compressed, run_graph
from pfrl.deploy.operators.build import build
from pfrl.deploy.operators.graph import Channels, Node, OperatorGraph, View
from pfrl.deploy.operators.ops import LAYER, SITE
from pfrl.graph.layers import find_layers
from pfrl.methods.quantization.base import WEIGHT_QUANTIZERS
from pfrl.methods.quantization.coding import codes
from pfrl.methods.quantization.uniform import FLOAT_BITS

CODES = 255
"""The largest code of an activation."""
OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
"""Of a kernel, by operator."""
LARGEST, PAIRED = 127, 64
"""The largest code of a kernel, and of one whose products with codes of uint8 fit in pairs into 16
bits, in which some processors sum them up."""
LARGEST_BIAS = 2.0**30
"""Steps of a bias; what is left of 32 bits is for the sums that it is added to."""
NEAR = 1e-3
"""How far a kernel's integers may be off, from folding factors into it in floating point."""


class Grid(NamedTuple):
    """The values ``scale · (code - zero_point)``, for the codes from ``low`` to ``high``.

    Codes are those of uint8; a format with int8 subtracts 128 from them and from the zero point.
    """

    scale: float
    zero_point: int
    low: int = 0
    high: int = CODES

    def same_steps(self, other: "Grid | None") -> bool:
        return other is not None and (self.scale, self.zero_point) == other[:2]

    def code(self, value: float) -> int:
        """The nearest code of a number."""
        return int(np.clip(np.round(value / self.scale) + self.zero_point, self.low, self.high))


@dataclass(frozen=True, eq=False)
class Quantization:
    """What of a graph is on which grid.

    Attributes:
      sites: by number of a value of the graph (see ``OperatorGraph.values``).
      steps: by name of a constant kernel: of its symmetric grid of int8, one an output channel.
    """

    sites: Mapping[int, Grid]
    steps: Mapping[str, np.ndarray]


def build_quantized(
    small: Compressed, input_shape: Sequence[int], channels: Channels = "first"
) -> tuple[OperatorGraph, Quantization]:
    """The graph of a compressed network with rounded kernels, and its grids.

    Layers of 32 bits, and those whose kernels are on no uniform grid, have no steps. Tensors that
    nothing rounds have no grid.

    Args:
      small: from ``pfrl.compress``, trained or not.
      input_shape, channels: as of ``build``.
    """
    kernels = _Kernels(small)
    graph = build(kernels.marked, input_shape, channels)
    steps = {}
    for node in graph.nodes:
        if node.moves:
            steps[node.inputs[1]] = np.ones(len(graph.constants[node.inputs[1]]))
        elif node.layer is not None and node.op in OUTPUT_AXIS:
            found = kernels.steps(node, graph.constants.get(node.inputs[1]))
            if found is not None:
                steps[node.inputs[1]] = found
    return graph, _with_room_for_biases(graph, Quantization(_grids(small, graph), steps))


def _with_room_for_biases(graph: OperatorGraph, quantization: Quantization) -> Quantization:
    """Larger steps for kernels that are next to nothing beside their bias.

    A bias is counted in steps of the kernel's grid, in 32 bits. A channel that a normalisation has
    all but switched off (101 of 22,008 of EfficientNet-lite0 with ImageNet weights) has steps so
    small that its bias would be cut off; with larger ones its kernel is rounded to zeros.
    """
    copied, steps = graph.copy(), dict(quantization.steps)
    grids = settle(copied, quantization)
    for node in copied.nodes:
        if node.op in OUTPUT_AXIS and len(node.inputs) > 2 and node.inputs[1] in steps:
            kernel, grid = node.inputs[1], grids.get(node.inputs[0])
            if grid is not None:
                least = np.abs(graph.constants[node.inputs[2]]) / (grid.scale * LARGEST_BIAS)
                steps[kernel] = np.maximum(steps[kernel], least)
    return replace(quantization, steps=steps)


def _grids(small: Compressed, graph: OperatorGraph) -> dict[int, Grid]:
    if not small.quantized:
        return {}
    quantizer = Quantizer(small.graph, small.recipe)
    widths = quantizer.bit_widths(small.policy, small.ranges)
    bits = site_bits(small.graph, small.policy)
    found = {}
    for place, site in enumerate(small.graph.sites):
        if bits[site.name] < FLOAT_BITS:
            scale, zero, levels = quantizer.grid(small.variables, widths, place)
            found[site.name] = Grid(float(scale), int(zero), 0, int(levels))
    return {value: found[name] for value, name in graph.sites.items() if name in found}


class _Kernels:
    """The kernels of a network as they are rounded; by layer the codes, and their steps."""

    def __init__(self, small: Compressed):
        self.small = small
        self.kernel_of = {layer.name: layer.kernel for layer in small.graph.layers}
        self.rounding = small.rounding(small.variables)
        self.direct = _direct(small)
        self.found: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def marked(self, x: jax.Array) -> Any:
        """The network in evaluation mode, kernels rounded, its layers and sites by their names."""
        small = self.small
        names = [site.name for site in small.graph.sites]
        rounding = Rounding(
            self.rounded,
            lambda place, value: checkpoint_name(value, SITE + names[place]),
            lambda layer, value: checkpoint_name(value, LAYER + layer),
        )
        labelled, _ = small.graph.program(x, False)
        removed = small.graph.removed_atoms(labelled, small.kept)
        own = {name: small.variables[name] for name in small.graph.source.variables}
        return run_graph(small.graph, own, x, False, removed, rounding)[0]

    def rounded(self, layer: str, kernel: Any) -> Any:
        """In NumPy, where the kernel is a variable as it is: JAX would compile for every shape."""
        bits, recipe = self.small.policy.weight_bits[layer], self.small.recipe
        if self.rounding is None or bits >= FLOAT_BITS:
            return kernel
        quantizer, name = WEIGHT_QUANTIZERS[recipe.weights], self.kernel_of[layer]
        if quantizer.steps is None or layer not in self.direct:
            return self.rounding.kernel(layer, kernel)
        values, own = np.asarray(self.small.variables[name]), own_arrays(self.small.variables, name)
        integers, steps = codes(quantizer, values, own, bits, np.ones(values.shape, bool))
        integers = integers.astype(np.float32) - 2 ** (bits - 1)
        self.found[layer] = integers, steps
        return (integers * steps).astype(values.dtype)

    def steps(self, node: Node, kernel: np.ndarray | None) -> np.ndarray | None:
        """Of a kernel that factors may have been folded into since, one an output channel."""
        if kernel is None or node.layer not in self.found:
            return None
        integers, steps = self.found[node.layer]
        axis = OUTPUT_AXIS[node.op]
        outputs = kernel.shape[axis]
        others = tuple(i for i in range(kernel.ndim) if i != axis)
        if outputs == len(steps):
            largest = np.abs(integers).reshape(-1, len(steps)).max(0)
            own = np.abs(kernel).max(others) / np.maximum(largest, 1)
            # Channels of zeros may have any step. Training lets theirs grow until no runtime can
            # rescale it and the bias is rounded away.
            some = own[largest > 0] if largest.any() else np.minimum(steps, 1).astype(np.float64)
            found = np.where(largest > 0, own, some.min())
        elif outputs % len(steps) == 0:  # several axes of outputs, the last of which has the steps
            found = np.tile(steps.astype(np.float64), outputs // len(steps))
        else:
            return None
        whole = kernel / np.expand_dims(found, others)
        if np.abs(whole - np.round(whole)).max() > NEAR or np.abs(whole).max() > LARGEST + 0.5:
            return None
        # The same values in finer steps, so that a bias is rounded to finer ones too.
        return found / max(PAIRED // max(round(np.abs(whole).max()), 1), 1)


def _direct(small: Compressed) -> set[str]:
    """Layers whose kernels are variables as they are."""
    labelled, names = small.graph.evaluation(), sorted(small.graph.source.variables)
    found = set()
    for number, layer in find_layers(labelled, names).items():
        operand = labelled.program.equations[number].inputs[labelled.kernels[number]]
        if isinstance(operand, int) and operand < len(names):
            found.add(layer)
    return found


MOVING = frozenset(
    "Reshape Transpose Flatten Slice Gather Expand Identity MaxPool ReduceMax Relu Clip".split()
)
"""Operators whose results are on the grid of what they read."""
_SUMS = frozenset({"Add", "Mul", "AveragePool", "GlobalAveragePool"})


def settle(graph: OperatorGraph, quantization: Quantization) -> dict[str, Grid]:
    """The grid of every tensor that is on one, by name.

    The graph is changed: an activation that clips and a rounding behind it are one rounding, to
    fewer codes.
    """
    own = {
        name: quantization.sites[value]
        for name, value in graph.values.items()
        if value in quantization.sites
    }
    _clips_become_codes(graph, own)
    found = {graph.source: own[graph.source]} if graph.source in own else {}
    for node in graph.nodes:
        grid = own.get(node.output) or _inherited(graph, node, found)
        if grid is not None:
            found[node.output] = grid
    for node in reversed(graph.nodes):  # what is only moved before it is rounded
        (source, *_), grid = node.inputs, found.get(node.output)
        if node.op in ("Reshape", "Transpose", "Flatten", "Identity") and grid is not None:
            uses = sum(source in other.inputs for other in graph.nodes)
            if source not in found and uses == 1 and source not in (graph.source, *graph.outputs):
                found[source] = grid
    return found


def _inherited(graph: OperatorGraph, node: Node, found: Mapping[str, Grid]) -> Grid | None:
    grids = [found.get(name) for name in node.inputs if name and name not in graph.constants]
    first = grids[0] if grids else None
    moves = node.op in MOVING or node.moves
    moves |= node.op == "Concat" or (node.op == "Pad" and node.attributes["value"] == 0)
    if not moves or first is None or not all(first.same_steps(each) for each in grids):
        return None
    return first._replace(low=0, high=CODES)


def _clips_become_codes(graph: OperatorGraph, own: dict[str, Grid]) -> None:
    view = View(graph)
    for node in list(graph.nodes):
        if node.op not in ("Relu", "Clip") or node.output not in own:
            continue
        source = view.producers.get(node.inputs[0])
        if source is None or view.uses[node.inputs[0]] > 1 or node.inputs[0] in own:
            continue
        grid = own[node.output]
        low = 0.0 if node.op == "Relu" else node.attributes.get("min", -np.inf)
        high = np.inf if node.op == "Relu" else node.attributes.get("max", np.inf)
        bounds = {"low": grid.code(low), "high": grid.code(high)}
        own[node.output] = grid._replace(**bounds)
        graph.nodes.remove(node)
        source.output = node.output


def is_integer(
    graph: OperatorGraph, node: Node, grids: Mapping[str, Grid], quantization: Quantization
) -> bool:
    """Whether an operation computes with integers: all that it reads and makes is on grids.

    A dense layer may make floats: its sums are scaled anyway.
    """
    read = [name for name in node.inputs if name and name not in graph.constants]
    if not all(name in grids for name in read):
        return False
    if node.op in OUTPUT_AXIS:
        made = node.output in grids or node.op in ("Gemm", "MatMul")
        return made and node.inputs[1] in quantization.steps
    if node.output not in grids:
        return False
    if node.op in _SUMS:
        return len(read) == len(node.inputs)
    return node.op in (*MOVING, "Concat", "Pad")
