"""What LiteRT has one operator for, found in a graph of smaller operations.

Like the rules of ``operators.fuse`` a rule looks at a node and its neighbours and returns whether
it changed anything. After them a node may have the attribute ``activation``, one that LiteRT's
operators apply to their results, and there are nodes Gelu, HardSwish and Softmax. A MatMul may
have a bias.
"""

import math

import numpy as np

from pfrl.deploy.operators.graph import Node, OperatorGraph
from pfrl.deploy.operators.patterns import GridView, apply, become, scalar, softmax
from pfrl.deploy.operators.quantized import CODES, Grid

_ACTIVE = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "AveragePool")
_ACTIVATIONS = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def find_patterns(graph: OperatorGraph, grids: dict[str, Grid] | None = None) -> OperatorGraph:
    """Applies the rules to ``graph``, in place, until none changes anything.

    Args:
      graph: with channels last.
      grids: by name of a tensor the grid that it is rounded to; a tensor of one is not folded
        away, and what becomes another one's name is changed here too.
    """
    grids = {} if grids is None else grids
    for rule in (_neutral, _gelu, _hard_swish, softmax, _bias, _activation):
        apply(rule, graph, grids)
    return graph


def find_biases(graph: OperatorGraph, grids: dict[str, Grid]) -> None:
    """Applies the one rule by which numbers change: a layer's bias is rounded as its sums are."""
    apply(_bias, graph, grids)


def bounds(node: Node) -> tuple[float, float] | None:
    """Between which numbers a Relu or Clip keeps its input; None for other nodes."""
    if node.op == "Relu":
        return 0.0, math.inf
    if node.op != "Clip":
        return None
    return node.attributes.get("min", -math.inf), node.attributes.get("max", math.inf)


def _neutral(view: GridView, node: Node) -> bool:
    """x * 1 and x + 0 where both are on one grid, such as what is left of a mean's divisor."""
    number = scalar(view, node) if node.op in ("Mul", "Add") else None
    grid = view.grids.get(node.output)
    if number is None or grid is None or not grid.same_steps(view.grids.get(node.inputs[0])):
        return False
    if np.float32(number) != (1.0 if node.op == "Mul" else 0.0) or grid[2:] != (0, CODES):
        return False
    if node.output in view.graph.outputs:
        return False
    for other in view.graph.nodes:
        other.inputs = [node.inputs[0] if name == node.output else name for name in other.inputs]
    view.graph.nodes.remove(node)
    return True


def _activation(view: GridView, node: Node) -> bool:
    kind = _ACTIVATIONS.get(bounds(node) or (0.0, 0.0))
    source = view.source(node.inputs[0], *_ACTIVE)
    if kind is None or source is None or "activation" in source.attributes:
        return False
    if source.op == "MatMul" and view.constant(source) is None:
        return False
    source.attributes["activation"] = kind
    return view.absorb(node, source)


def _bias(view: GridView, node: Node) -> bool:
    """x @ kernel + c: LiteRT's FULLY_CONNECTED has a bias for any number of axes."""
    if node.op != "Add" or (source := view.source(node.inputs[0], "MatMul")) is None:
        return False
    kernel, shift = view.constant(source), view.constant(node)
    if kernel is None or shift is None or len(source.inputs) > 2:
        return False
    if kernel.ndim != 2 or shift.shape[-1:] != (shift.size,) or shift.size != kernel.shape[1]:
        return False
    source.inputs.append(view.graph.constant(shift.reshape(-1)))
    return view.absorb(node, source)


def _gelu(view: GridView, node: Node) -> bool:
    """x / 2 (1 + erf(x / √2)), arXiv 1606.08415, whichever product comes first."""
    if node.op != "Mul":
        return False
    outer = scalar(view, node)
    product = node if outer is None else view.source(node.inputs[0], "Mul")
    if product is None or scalar(view, product) is not None:
        return False
    factor, names = 1.0 if outer is None else outer, []
    for name in product.inputs:
        scaled = view.source(name, "Mul")
        number = None if scaled is None else scalar(view, scaled)
        if scaled is not None and number is not None:
            factor, name = factor * number, scaled.inputs[0]
        names.append(name)
    for x, gate in (names, names[::-1]):
        gated = _error_gate(view, gate)
        if factor and gated == (x, 0.5 / factor):
            return become(view, node, "Gelu", x)
    return False


def _error_gate(view: GridView, name: str) -> tuple[str, float] | None:
    """The x and the c of c + c erf(x / √2), or of c - c erf(-x / √2); None for anything else."""
    whole = view.source(name, "Add")
    c = None if whole is None else scalar(view, whole)
    if whole is None or not c:
        return None
    factor, inner = 1 / c, view.source(whole.inputs[0], "Erf", "Mul")
    if inner is not None and inner.op == "Mul":
        factor = (scalar(view, inner) or 0.0) / c
        inner = view.source(inner.inputs[0], "Erf")
    scaled = None if inner is None else view.source(inner.inputs[0], "Mul", "Div")
    number = None if scaled is None else scalar(view, scaled)
    if scaled is None or not number or abs(factor) != 1.0:
        return None
    factor *= number if scaled.op == "Mul" else 1 / number
    return (scaled.inputs[0], c) if math.isclose(factor, math.sqrt(0.5), rel_tol=1e-6) else None


def _hard_swish(view: GridView, node: Node) -> bool:
    """x min(max(x + 3, 0), 6) / 6, arXiv 1905.02244."""
    if node.op != "Mul":
        return False
    for name, gate in (node.inputs, node.inputs[::-1]):
        sixth = view.source(gate, "Mul")
        if sixth is None or not math.isclose(scalar(view, sixth) or 0.0, 1 / 6, rel_tol=1e-6):
            continue
        clip = view.source(sixth.inputs[0], "Clip")
        if clip is None or bounds(clip) != (0.0, 6.0):
            continue
        shifted = view.source(clip.inputs[0], "Add")
        if shifted is None or not _is(view, shifted, 3.0) or shifted.inputs[0] != name:
            continue
        return become(view, node, "HardSwish", name)
    return False


def _is(view: GridView, node: Node, number: float) -> bool:
    found = scalar(view, node)
    return found is not None and float(np.float32(found)) == number
