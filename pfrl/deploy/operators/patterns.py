"""What runtimes have one operator for, found in a graph of smaller operations.

Like the rules of ``operators.fuse`` a rule looks at a node and its neighbours and returns whether
it changed anything. ``pfrl.deploy.onnx`` applies those here, and ``pfrl.deploy.litert.patterns``,
which has more of LiteRT's own, shares what they are made of.
"""

import math
from collections.abc import Callable

import numpy as np

from pfrl.deploy.operators.graph import Node, OperatorGraph, View
from pfrl.deploy.operators.quantized import Grid


def apply(
    rule: "Callable[[GridView, Node], bool]", graph: OperatorGraph, grids: dict[str, Grid]
) -> None:
    """Applies a rule until it changes nothing; ``grids`` are by the names of rounded tensors."""
    changed = True
    while changed:
        view = GridView(graph, grids)
        changed = any(rule(view, node) for node in list(graph.nodes))


class GridView(View):
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


def softmax(view: GridView, node: Node) -> bool:
    """exp(x - max x) / Σ exp(x - max x) along the last axis."""
    if node.op != "Div":
        return False
    exp = view.producers.get(node.inputs[0])
    total = reduced(view, node.inputs[1], "ReduceSum")
    if (
        exp is None
        or exp.op != "Exp"
        or exp.output in view.grids
        or total != exp.output
        or view.uses[exp.output] != 2
    ):
        return False
    shifted = view.source(exp.inputs[0], "Sub")
    if shifted is None or reduced(view, shifted.inputs[1], "ReduceMax") != shifted.inputs[0]:
        return False
    return become(view, node, "Softmax", shifted.inputs[0])


def error_function(view: GridView, node: Node) -> bool:
    """erf(x √½) as erf(x / √2), of which ONNX Runtime makes its GELU."""
    scaled = view.source(node.inputs[0], "Mul") if node.op == "Erf" else None
    factor = None if scaled is None else scalar(view, scaled)
    if scaled is None or factor is None or not math.isclose(factor, math.sqrt(0.5), rel_tol=1e-6):
        return False
    divisor = view.graph.constant(np.float32(math.sqrt(2)))
    scaled.op, scaled.inputs = "Div", [scaled.inputs[0], divisor]
    return True


def reduced(view: GridView, name: str, op: str) -> str | None:
    """What was reduced along its last axis, which then was put back with size 1, to ``name``."""
    reshape = view.source(name, "Reshape")
    node = view.source(reshape.inputs[0], op) if reshape is not None else None
    if node is None:
        return None
    before = view.graph.shapes[node.inputs[0]]
    kept = view.graph.shapes[name] == (*before[:-1], 1)
    return node.inputs[0] if kept and node.attributes["axes"] == [len(before) - 1] else None


def scalar(view: GridView, node: Node) -> float | None:
    constant = view.constant(node)
    return float(constant.reshape(())) if constant is not None and constant.size == 1 else None


def become(view: GridView, node: Node, op: str, name: str) -> bool:
    """Makes ``node`` one operation on ``name``; what it was made of before goes if it is unused."""
    node.op, node.inputs, node.attributes = op, [name], {}
    graph, alive, kept = view.graph, {*view.graph.outputs}, []
    for each in reversed(graph.nodes):
        if each.output in alive:
            alive.update(each.inputs)
            kept.append(each)
    graph.nodes = kept[::-1]
    return True
