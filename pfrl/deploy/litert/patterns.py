"""What LiteRT has one operator for, found in a graph of smaller operations.

Like the rules of ``operators.fuse`` a rule looks at a node and its neighbours and returns whether
it changed anything. After them a node may have the attribute ``activation``, one that LiteRT's
operators apply to their results, and there are nodes Gelu, HardSwish and Softmax. A MatMul may
have a bias.
"""

import math
from collections.abc import Callable

import numpy as np

from pfrl.deploy.operators.graph import Node, OperatorGraph, View
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
    for rule in (_neutral, _gelu, _hard_swish, _softmax, _bias, _activation):
        _apply(rule, graph, grids)
    return graph


def find_biases(graph: OperatorGraph, grids: dict[str, Grid]) -> None:
    """Applies the one rule by which numbers change: a layer's bias is rounded as its sums are."""
    _apply(_bias, graph, grids)


def _apply(
    rule: "Callable[[_View, Node], bool]", graph: OperatorGraph, grids: dict[str, Grid]
) -> None:
    changed = True
    while changed:
        view = _View(graph, grids)
        changed = any(rule(view, node) for node in list(graph.nodes))


class _View(View):
    """A view in which what is rounded stands for itself."""

    def __init__(self, graph: OperatorGraph, grids: dict[str, Grid]):
        super().__init__(graph)
        self.grids = grids

    def source(self, name: str, *ops: str) -> Node | None:
        return None if name in self.grids else super().source(name, *ops)

    def absorb(self, node: Node, source: Node) -> bool:
        """Takes out ``node``, whose result ``source`` makes from now on."""
        if not self.bypass(node, source.output):
            return False
        if node.output in self.grids:
            self.grids[source.output] = self.grids[node.output]
        return True


def bounds(node: Node) -> tuple[float, float] | None:
    """Between which numbers a Relu or Clip keeps its input; None for other nodes."""
    if node.op == "Relu":
        return 0.0, math.inf
    if node.op != "Clip":
        return None
    return node.attributes.get("min", -math.inf), node.attributes.get("max", math.inf)


def _neutral(view: _View, node: Node) -> bool:
    """x * 1 and x + 0 where both are on one grid, such as what is left of a mean's divisor."""
    number = _number(view, node) if node.op in ("Mul", "Add") else None
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


def _activation(view: _View, node: Node) -> bool:
    kind = _ACTIVATIONS.get(bounds(node) or (0.0, 0.0))
    source = view.source(node.inputs[0], *_ACTIVE)
    if kind is None or source is None or "activation" in source.attributes:
        return False
    if source.op == "MatMul" and view.constant(source) is None:
        return False
    source.attributes["activation"] = kind
    return view.absorb(node, source)


def _bias(view: _View, node: Node) -> bool:
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


def _gelu(view: _View, node: Node) -> bool:
    """(x / 2) (1 + erf(x / √2)), arXiv 1606.08415."""
    if node.op != "Mul":
        return False
    for half, rest in (node.inputs, node.inputs[::-1]):
        halved, one = view.source(half, "Mul"), view.source(rest, "Add")
        if halved is None or one is None or not _is(view, one, 1.0) or not _is(view, halved, 0.5):
            continue
        sign, inner = 1.0, view.source(one.inputs[0], "Erf", "Mul")
        if inner is not None and inner.op == "Mul":
            factor = _number(view, inner)
            sign, inner = factor or 0.0, view.source(inner.inputs[0], "Erf")
        scaled = view.source(inner.inputs[0], "Mul") if inner is not None else None
        factor = None if scaled is None else _number(view, scaled)
        if scaled is None or factor is None or scaled.inputs[0] != halved.inputs[0]:
            continue
        if not math.isclose(sign * factor, math.sqrt(0.5), rel_tol=1e-6) or abs(sign) != 1.0:
            continue
        return _become(view, node, "Gelu", halved.inputs[0])
    return False


def _hard_swish(view: _View, node: Node) -> bool:
    """x min(max(x + 3, 0), 6) / 6, arXiv 1905.02244."""
    if node.op != "Mul":
        return False
    for name, gate in (node.inputs, node.inputs[::-1]):
        sixth = view.source(gate, "Mul")
        if sixth is None or not math.isclose(_number(view, sixth) or 0.0, 1 / 6, rel_tol=1e-6):
            continue
        clip = view.source(sixth.inputs[0], "Clip")
        if clip is None or bounds(clip) != (0.0, 6.0):
            continue
        shifted = view.source(clip.inputs[0], "Add")
        if shifted is None or not _is(view, shifted, 3.0) or shifted.inputs[0] != name:
            continue
        return _become(view, node, "HardSwish", name)
    return False


def _softmax(view: _View, node: Node) -> bool:
    """exp(x - max x) / Σ exp(x - max x) along the last axis."""
    if node.op != "Div":
        return False
    exp = view.producers.get(node.inputs[0])
    total = _reduced(view, node.inputs[1], "ReduceSum")
    if (
        exp is None
        or exp.op != "Exp"
        or exp.output in view.grids
        or total != exp.output
        or view.uses[exp.output] != 2
    ):
        return False
    shifted = view.source(exp.inputs[0], "Sub")
    if shifted is None or _reduced(view, shifted.inputs[1], "ReduceMax") != shifted.inputs[0]:
        return False
    return _become(view, node, "Softmax", shifted.inputs[0])


def _reduced(view: _View, name: str, op: str) -> str | None:
    """What was reduced along its last axis, which then was put back with size 1, to ``name``."""
    reshape = view.source(name, "Reshape")
    node = view.source(reshape.inputs[0], op) if reshape is not None else None
    if node is None:
        return None
    before = view.graph.shapes[node.inputs[0]]
    kept = view.graph.shapes[name] == (*before[:-1], 1)
    return node.inputs[0] if kept and node.attributes["axes"] == [len(before) - 1] else None


def _number(view: _View, node: Node) -> float | None:
    constant = view.constant(node)
    return float(constant.reshape(())) if constant is not None and constant.size == 1 else None


def _is(view: _View, node: Node, number: float) -> bool:
    found = _number(view, node)
    return found is not None and float(np.float32(found)) == number


def _become(view: _View, node: Node, op: str, name: str) -> bool:
    """Makes ``node`` one operation on ``name``; what it was made of before goes if it is unused."""
    node.op, node.inputs, node.attributes = op, [name], {}
    graph, alive, kept = view.graph, {*view.graph.outputs}, []
    for each in reversed(graph.nodes):
        if each.output in alive:
            alive.update(each.inputs)
            kept.append(each)
    graph.nodes = kept[::-1]
    return True
