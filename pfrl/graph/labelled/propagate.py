"""Carrying labels from a program's inputs to all its values, equation by equation."""

import math
from collections.abc import Iterable, Sequence

from pfrl.graph.labelled import contraction, elementwise, shuffle, structure
from pfrl.graph.labelled.atoms import Atoms
from pfrl.graph.labelled.labels import Axes, Labelled, Labels, Rule, unknown
from pfrl.graph.labelled.program import CUSTOM_JVP, Constant, Equation, Program

RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **structure.RULES,
    **shuffle.RULES,
    **contraction.RULES,
}
"""By primitive; one without a rule freezes what it touches."""
CONTRACTIONS = ("conv_general_dilated", "dot_general")


def propagate(
    program: Program,
    atoms: Atoms,
    inputs: Sequence[Axes],
    parameters: Iterable[int] = (),
    active: Iterable[int] = (),
) -> Labelled:
    """Carry labels through a program.

    Args:
      program: equations and inputs.
      atoms: what the labels refer to; it is changed.
      inputs: what is known of the program's inputs.
      parameters: inputs that are trainable. A contraction of one of them, or of
        something made of them alone, with an activation is a layer.
      active: inputs that are the network's.
    """
    result = Labelled(program, atoms, list(inputs))
    result.origins = {value: value for value in parameters}
    result.active = set(active)
    for number, equation in enumerate(program.equations):
        operands = result.operands(number, equation)
        if equation.name == CUSTOM_JVP:
            results = _custom_jvp(result, number, equation, operands)
        else:
            if equation.name in CONTRACTIONS:
                _note_layer(result, number, equation)
            rule = RULES.get(equation.name, unknown)
            results = rule(result, number, equation, operands)
        result.values.extend(results)
        _note_origin(result, equation)
    return result


def _note_layer(result: Labelled, number: int, equation: Equation) -> None:
    """A contraction of an activation with a parameter is a layer, of two activations a product."""
    inputs = equation.inputs
    active = [isinstance(x, int) and x in result.active for x in inputs[:2]]
    owned = [isinstance(x, int) and x in result.origins for x in inputs[:2]]
    for place in (0, 1):
        if owned[place] and active[1 - place]:
            result.kernels[number] = place
    if all(active):
        result.products.append(number)


def _note_origin(result: Labelled, equation: Equation) -> None:
    """What depends on the input; else, the largest of the parameters that it is made of."""
    values = [x for x in equation.inputs if isinstance(x, int)]
    if not result.active.isdisjoint(values):
        result.active.update(equation.outputs)
        return
    origins = [result.origins[x] for x in values if x in result.origins]
    if origins:
        # A kernel with a gain of each output is the kernel.
        largest = max(origins, key=lambda x: _elements(result.of(x)))
        result.origins.update(dict.fromkeys(equation.outputs, largest))


def _elements(labels: Labels) -> int:
    return math.prod(len(label) for label in labels if label is not None)


def _custom_jvp(
    result: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    """The function's own labels; a tangent goes with its primal."""
    assert equation.body is not None and equation.tangent is not None
    atoms = result.atoms
    body = propagate(equation.body, atoms, operands)
    outputs = [_output(body, output) for output in equation.body.outputs]
    tangent = propagate(equation.tangent, atoms, [*operands, *operands])
    for place, output in enumerate(equation.tangent.outputs):
        if not (isinstance(output, Constant) and output.value is None):
            for a, b in zip(outputs[place % len(outputs)].labels, tangent.of(output), strict=True):
                atoms.unite(a, b, "a derivative that cannot follow")
    result.bodies[number], result.tangents[number] = body, tangent
    result.unknown |= body.unknown | tangent.unknown
    return outputs


def _output(body: Labelled, output: int | Constant) -> Axes:
    return Axes(body.of(output)) if isinstance(output, Constant) else body.values[output]
