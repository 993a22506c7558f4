"""The array that a program adds right behind a layer: a bias, or what stands for one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.labelled.program import FUSED, Constant, Equation
from pfrl.graph.layers import kernel_name

KEEPING_ORDER = frozenset("reshape broadcast_in_dim squeeze convert_element_type copy".split())
"""Operations that, where they keep the number of elements, keep them in row-major order."""

Terms = dict[int, tuple[str, int]]
"""By value, a variable whose elements, in order, are a term of it, and with which sign."""


class Addend(NamedTuple):
    """The array that is added behind a layer, an element to each output channel.

    Attributes:
      variable: its name.
      scale, factors: what the layer's output is multiplied with until then, a number and
        the numbers of values; ``scale`` is negative where the array is subtracted.
    """

    variable: str
    scale: float
    factors: tuple[int, ...]


def find_addends(labelled: Labelled, names: Sequence[str]) -> dict[int, Addend]:
    """What is added behind each layer, by the layer's equation; those without are left out.

    From a layer's output the way leads through products with and additions of arrays that
    do not depend on the input, as long as nothing else reads the values on it, to the first
    addition of a variable: a bias, the mean that a normalisation subtracts
    (``(x - mean) · slope + bias``), or the bias in ``x · slope + (bias - mean · slope)``.
    A variable that something else uses, too, is none, and neither is what is added after
    axes were moved.

    Args:
      labelled: a program in evaluation mode.
      names: of the variables, sorted.
    """
    equations = [e for e in labelled.program.equations if e.name != FUSED]
    uses = Counter(v for e in equations for v in e.inputs if isinstance(v, int))
    # Statistics that come back as they went in are no use of them.
    results = (v for v in labelled.program.outputs if isinstance(v, int))
    uses.update(v for v in results if v >= labelled.program.inputs)
    readers = {v: e for e in equations for v in e.inputs if isinstance(v, int)}
    kernels = {kernel_name(labelled, names, number) for number in labelled.kernels}
    terms: Terms = {v: (name, 1) for v, name in enumerate(names) if name not in kernels}
    for equation in equations:
        if labelled.active.isdisjoint(equation.outputs):
            terms.update(_terms_of(equation, terms, uses))
    found = {}
    for number in labelled.kernels:
        addend = _behind(labelled, number, uses, readers, terms)
        if addend is not None:
            found[number] = addend
    owners = Counter(addend.variable for addend in found.values())
    return {
        number: addend
        for number, addend in found.items()
        if owners[addend.variable] == uses[names.index(addend.variable)]
    }


def _terms_of(equation: Equation, terms: Terms, uses: Counter[int]) -> Terms:
    """The terms of the results of an equation on values that do not depend on the input."""
    size = np.prod(equation.shapes[1][0], dtype=int)
    for place, value in enumerate(equation.inputs):
        same = np.prod(equation.shapes[0][place], dtype=int) == size
        if not (isinstance(value, int) and value in terms and same):
            continue
        (result, *others), (variable, sign) = equation.outputs, terms[value]
        if others or uses[result] != 1:
            return {}
        if equation.name in KEEPING_ORDER | {"add"} or (equation.name == "sub" and place == 0):
            return {result: (variable, sign)}
        if equation.name in ("sub", "neg"):
            return {result: (variable, -sign)}
    return {}


def _behind(
    labelled: Labelled,
    number: int,
    uses: Counter[int],
    readers: Mapping[int, Equation],
    terms: Terms,
) -> Addend | None:
    """What is added behind a layer."""
    (value,), unit = labelled.program.equations[number].outputs, _unit_shape(labelled, number)
    scale, factors = 1.0, []
    while uses[value] == 1 and value in readers:
        equation = readers[value]
        place = equation.inputs.index(value)
        (value,) = equation.outputs
        if equation.name in ("convert_element_type", "copy"):
            continue
        if equation.name not in ("add", "sub", "mul") or (equation.name == "sub" and place == 1):
            return None
        other, shape = equation.inputs[1 - place], equation.shapes[0][1 - place]
        if isinstance(other, Constant):
            if shape != ():
                return None
            scale *= float(other.value) if equation.name == "mul" else 1
        elif other in labelled.active or shape not in ((), unit):
            return None
        elif equation.name == "mul":
            factors.append(other)
        elif other in terms and shape == unit:
            variable, sign = terms[other]
            sign = sign if equation.name == "add" else -sign
            return Addend(variable, sign * scale, tuple(factors))
    return None


def _unit_shape(labelled: Labelled, number: int) -> tuple[int, ...]:
    """A layer's output shape with 1 along all axes but those of its output channels."""
    shape, channels = labelled.program.equations[number].shapes[1][0], output_axes(labelled, number)
    return tuple(size if axis in channels else 1 for axis, size in enumerate(shape))


def output_axes(labelled: Labelled, number: int) -> set[int]:
    """The axes of a layer's output along which its kernel's outputs lie."""
    equation = labelled.program.equations[number]
    numbers, rank = equation.params["dimension_numbers"], len(equation.shapes[1][0])
    if equation.name == "conv_general_dilated":
        return {numbers.out_spec[1]}
    # Of a dot product, first those that both have, then the left one's own, then the right one's.
    contract, batch = numbers
    shared = len(batch[0])
    left = len(equation.shapes[0][0]) - len(contract[0])
    own = range(shared, left) if labelled.kernels[number] == 0 else range(left, rank)
    return {*range(shared), *own}
