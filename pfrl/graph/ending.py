"""How a network ends."""

import jax

from pfrl.graph.labelled.program import Equation
from pfrl.graph.tracing import Graph


def ends_in_softmax(graph: Graph) -> bool:
    """Whether a network's only output ``[N, K]`` is a softmax over its classes."""
    labelled, tree = graph.program(graph.example, False)
    program = labelled.program
    outputs = jax.tree.leaves(jax.tree.unflatten(tree, program.outputs)[0])
    makers = {number: each for each in program.equations for number in each.outputs}

    def maker(operand: object, *names: str) -> Equation | None:
        found = makers.get(operand) if isinstance(operand, int) else None
        return found if found is not None and found.name in names else None

    quotient = maker(outputs[0], "div") if len(outputs) == 1 else None
    if quotient is None or len(quotient.shapes[1][0]) != 2:
        return False
    power, total = quotient.inputs
    while spread := maker(total, "broadcast_in_dim", "reshape"):
        total = spread.inputs[0]
    sums = maker(total, "reduce_sum")
    if sums is None or sums.inputs != [power] or sums.params["axes"] != (1,):
        return False
    return maker(power, "exp") is not None
