"""Channel shuffles: a reshape, a transposition and a reshape that only reorder one axis."""

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph.labelled.labels import Axes, Labelled, Rule
from pfrl.graph.labelled.program import FUSED, Constant, Equation, Program

NAME = "shuffle"


class Shuffle:
    """The three operations as one: index ``places[i]`` of an axis becomes index ``i``.

    Seen one by one they force the channels into a grid from which only whole
    rows or columns can go. As a reordering, every channel goes by itself.
    """

    multiple_results = False

    def __init__(self, split: tuple, permutation: tuple, axis: int, places: np.ndarray):
        self.split, self.permutation = split, permutation
        self.axis, self.places = axis, places

    def get_bind_params(self, params: dict[str, Any]) -> dict[str, Any]:
        """As of a primitive of JAX."""
        return params

    def bind(self, x: Any) -> jax.Array:
        """The whole axis reordered, as the program did it."""
        return jnp.transpose(jnp.reshape(x, self.split), self.permutation).reshape(x.shape)

    def bind_kept(self, x: Any, stays: np.ndarray) -> jax.Array:
        """The kept places (bool by old index) in their new order."""
        renumbered = np.cumsum(stays) - 1
        return jnp.take(x, renumbered[self.places[stays[self.places]]], self.axis, mode="clip")


def fuse_shuffles(program: Program) -> None:
    """Replace every channel shuffle by one equation; what it was made of becomes ``FUSED``."""
    uses = Counter(x for e in program.equations for x in e.inputs if isinstance(x, int))
    uses.update(x for x in program.outputs if isinstance(x, int))
    for last in program.equations:
        middle = _maker(program, last, "reshape", uses)
        first = middle and _maker(program, middle, "transpose", uses)
        if not first or first.name != "reshape" or first.shapes[0][0] != last.shapes[1][0]:
            continue
        assert middle is not None
        shuffle = _shuffle(
            first.shapes[0][0], first.shapes[1][0], tuple(middle.params["permutation"])
        )
        if shuffle is not None:
            last.name, last.primitive, last.params = NAME, shuffle, {}
            last.inputs, last.shapes = first.inputs, (first.shapes[0], last.shapes[1])
            first.name = middle.name = FUSED


def _maker(program: Program, equation: Equation, name: str, uses: Counter[int]) -> Equation | None:
    """What made the operand of an equation of that name, if nothing else reads it."""
    if equation.name != name:
        return None
    operand = equation.inputs[0]
    if isinstance(operand, Constant) or uses[operand] != 1:
        return None
    return program.made_by(operand)


def _shuffle(shape: tuple, split: tuple, permutation: tuple) -> Shuffle | None:
    """The shuffle of one axis that the operations amount to, or None."""
    head = 0
    while head < len(shape) and shape[head] == split[head] and permutation[head] == head:
        head += 1
    tail = 0
    extra = len(split) - len(shape)
    while (
        tail < len(shape) - head
        and shape[-1 - tail] == split[-1 - tail]
        and permutation[-1 - tail] == len(split) - 1 - tail
    ):
        tail += 1
    if len(shape) - head - tail != 1 or extra < 1 or not isinstance(shape[head], int):
        return None
    inner = split[head : len(split) - tail]
    order = [p - head for p in permutation[head : len(split) - tail]]
    places = np.arange(shape[head]).reshape(inner).transpose(order).ravel()
    return Shuffle(split, permutation, head, places)


def _rule(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    shuffle = equation.primitive
    labels = list(operands[0].labels)
    label = labels[shuffle.axis]
    labels[shuffle.axis] = None if label is None else label[shuffle.places]
    return [Axes(tuple(labels), operands[0].zero)]


def _fused(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """A value that nothing reads any more."""
    return [Axes((None,) * len(equation.shapes[1][0]))]


RULES: dict[str, Rule] = {NAME: _rule, FUSED: _fused}
