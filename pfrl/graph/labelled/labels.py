"""Labels carried through a program: which index of which axis belongs to which atom."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pfrl.graph.labelled.atoms import Atoms, Label
from pfrl.graph.labelled.program import Constant, Equation, Operand, Program

Labels = tuple[Label, ...]
"""One label an axis."""


class Axes(NamedTuple):
    """What is known of a value.

    Attributes:
      labels: one an axis.
      zero: axes at whose removed indices the value is zero when parameters are
        masked instead of sliced. Only such an axis can be summed over: then
        masked equals sliced.
    """

    labels: Labels
    zero: frozenset[int] = frozenset()


@dataclass
class Labelled:
    """A program with the labels of all its values.

    Attributes:
      program: the program.
      atoms: the union-find that the labels refer to.
      values: by value number.
      constants: labels of constant operands, by the number of their equation and their place.
      conv_groups: label of the groups of a grouped convolution, by its number.
      gathered: places that a gather with a fixed list takes, by its number.
      tangents, bodies: labelled programs of functions with their own derivative,
        by the number of their equation.
      origins: for a value made of trainable parameters alone, the largest of them.
      active: values that depend on the network's input.
      kernels: for every equation that is a layer, the place of its kernel among the operands.
      products: equations that multiply two activations.
      heads: labels of axes along which whole heads or groups lie.
      unknown: names of the primitives that had no rule.
    """

    program: Program
    atoms: Atoms
    values: list[Axes]
    constants: dict[tuple[int, int], Labels] = field(default_factory=dict)
    conv_groups: dict[int, Label] = field(default_factory=dict)
    gathered: dict[int, np.ndarray] = field(default_factory=dict)
    tangents: dict[int, "Labelled"] = field(default_factory=dict)
    bodies: dict[int, "Labelled"] = field(default_factory=dict)
    origins: dict[int, int] = field(default_factory=dict)
    active: set[int] = field(default_factory=set)
    kernels: dict[int, int] = field(default_factory=dict)
    products: list[int] = field(default_factory=list)
    heads: list[Label] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)

    def of(self, operand: Operand) -> Labels:
        """An operand's labels; those of a constant are not known here, and None."""
        if isinstance(operand, Constant):
            return (None,) * np.ndim(operand.value)
        return self.values[operand].labels

    def operands(self, number: int, equation: Equation) -> list[Axes]:
        """What is known of an equation's operands.

        A captured array follows a removal: it is sliced as whatever it meets,
        so all its axes get atoms of their own.
        """
        found = []
        for place, operand in enumerate(equation.inputs):
            if not isinstance(operand, Constant):
                found.append(self.values[operand])
                continue
            labels = tuple(fresh(self.atoms, size) for size in np.shape(operand.value))
            self.constants[number, place] = labels
            zero = frozenset(range(len(labels)) if labels and is_zero(operand.value) else ())
            found.append(Axes(labels, zero))
        return found


Rule = Callable[[Labelled, int, Equation, list[Axes]], list[Axes]]
"""``(labelled, equation number, equation, operands) -> results``."""


def fresh(atoms: Atoms, size: Any) -> Label:
    """New atoms for an axis; none for a symbolic one or one of a single place."""
    return atoms.new(size) if isinstance(size, int) and size > 1 else None


def is_zero(value: Any) -> bool:
    """Whether a constant is zero everywhere."""
    array = np.asarray(value) if hasattr(value, "__array__") else value
    return getattr(array, "dtype", np.dtype(object)).kind in "biuf" and not np.any(array)


def freeze(labelled: Labelled, labels: Labels, reason: str) -> None:
    """No index of these axes is ever removed."""
    labelled.atoms.freeze(labels, reason)


def unknown(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    """What freezes all that it touches: that is always safe, guessing never is."""
    for operand in operands:
        freeze(labelled, operand.labels, f"the primitive '{equation.name}'")
    if any(
        label is not None and not isinstance(source, Constant)
        for source, operand in zip(equation.inputs, operands, strict=True)
        for label in operand.labels
    ):
        labelled.unknown.add(equation.name)
    return [Axes((None,) * len(shape)) for shape in equation.shapes[1]]
