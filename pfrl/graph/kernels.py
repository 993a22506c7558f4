"""Kernels as matrices, and the rows of inputs that they are multiplied with."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph import Graph
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.labelled.program import FUSED, Equation
from pfrl.graph.layers import find_layers

REARRANGING = frozenset("reshape transpose squeeze rev broadcast_in_dim slice split copy".split())
"""Operations that move a kernel's elements to other places and change none of them."""


class Kernel(NamedTuple):
    """A kernel as matrices ``[G, K, M]``, which layers multiply their inputs with.

    There are ``G`` groups of a convolution (or entries of the batch axes of a dense
    kernel), else 1, of ``K`` inputs (taps times channels) and ``M`` outputs each.

    Attributes:
      layers: the layers that use it.
      variable: its name among the variables.
      places: int32 ``[G, K, M]``, where each element is in the flattened variable.
      inputs: the atoms of the axes that make up ``K``, each ``[size]`` or, where
        nothing can be removed (taps), the size alone.
    """

    layers: tuple[str, ...]
    variable: str
    places: np.ndarray
    inputs: tuple[np.ndarray | int, ...]

    def gone(self, removed: np.ndarray) -> np.ndarray:
        """bool ``[K]``: the inputs that go when the atoms ``removed`` (bool) do."""
        gone = np.zeros(1, bool)
        for axis in self.inputs:
            mine = np.zeros(axis, bool) if isinstance(axis, int) else removed[axis]
            gone = (gone[:, None] | mine).ravel()
        return gone


def find_kernels(graph: Graph, labelled: Labelled) -> list[Kernel]:
    """The kernels that can lose inputs, once each, in order of their first layer.

    Left out are those that are used otherwise than as kernels, or in two arrangements:
    a change for one use would spoil the other.

    Args:
      graph: of the network.
      labelled: one of its programs, whose atoms ``Kernel.inputs`` are.
    """
    names = sorted(graph.source.variables)
    layers = find_layers(labelled, names)
    losing = {layer.kernel for layer in graph.layers if layer.c_in.groups}
    found: list[Kernel] = []
    for number, place, variable, places in _uses(labelled, names, losing):
        equation = labelled.program.equations[number]
        places = _matrices(equation, place, places)
        for i, kernel in enumerate(found):
            if kernel.variable == variable and np.array_equal(kernel.places, places):
                found[i] = kernel._replace(layers=(*kernel.layers, layers[number]))
                break
        else:
            inputs = _input_axes(labelled, equation, place)
            found.append(Kernel((layers[number],), variable, places, inputs))
    return [
        kernel
        for kernel in found
        if any(not isinstance(axis, int) for axis in kernel.inputs)
        and _disjoint([other.places for other in found if other.variable == kernel.variable])
    ]


def _disjoint(places: list[np.ndarray]) -> bool:
    """Whether no element occurs twice."""
    every = np.concatenate([part.ravel() for part in places])
    return len(np.unique(every)) == len(every)


def _uses(
    labelled: Labelled, names: list[str], losing: set[str]
) -> list[tuple[int, int, str, np.ndarray]]:
    """The layers of every kernel that is used in layers alone.

    Returns:
      equation number, the kernel's place among the operands, the variable, and
      the place of every element of the operand in the flattened variable.
    """
    values = {
        number: (name, np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape))
        for number, (name, shape) in enumerate(
            zip(names, labelled.program.shapes[: len(names)], strict=True)
        )
        if name in losing
    }
    uses, otherwise = [], set()
    for number, equation in enumerate(labelled.program.equations):
        if equation.name == FUSED:
            continue
        for place, operand in enumerate(equation.inputs):
            if not isinstance(operand, int) or operand not in values:
                continue
            name, places = values[operand]
            moved = _rearranged(equation, places)
            if moved is not None:
                values.update({v: (name, p) for v, p in zip(equation.outputs, moved, strict=True)})
            elif _is_kernel(labelled, number, place):
                uses.append((number, place, name, places))
            else:
                otherwise.add(name)
    return [use for use in uses if use[2] not in otherwise]


def _is_kernel(labelled: Labelled, number: int, place: int) -> bool:
    """Whether an operand is the kernel of a layer that ``_matrices`` can take apart."""
    params = labelled.program.equations[number].params
    return labelled.kernels.get(number) == place and params.get("batch_group_count", 1) == 1


def _rearranged(equation: Equation, places: np.ndarray) -> list[np.ndarray] | None:
    """The places in the results of an operation that only moves elements; else None."""
    if equation.name == "convert_element_type":
        return [places]
    if equation.name not in REARRANGING:
        return None
    results = equation.primitive.bind(jnp.asarray(places), **equation.params)
    return [np.asarray(r) for r in (results if equation.primitive.multiple_results else [results])]


def _matrices(equation: Equation, place: int, kernel: np.ndarray) -> np.ndarray:
    """An operand that is a kernel as ``[G, K, M]``, rows in the order of ``rows_at``."""
    numbers = equation.params["dimension_numbers"]
    if equation.name == "conv_general_dilated":
        out, into, *space = numbers.rhs_spec
        groups = equation.params["feature_group_count"]
        kernel = kernel.transpose(*space, into, out)
        reads = int(np.prod(kernel.shape[:-1]))
        return np.ascontiguousarray(kernel.reshape(reads, groups, -1).transpose(1, 0, 2))
    contract, batch = (sides[place] for sides in numbers)
    free = [a for a in range(kernel.ndim) if a not in contract and a not in batch]
    groups = int(np.prod([kernel.shape[a] for a in batch], dtype=int))
    reads = int(np.prod([kernel.shape[a] for a in contract], dtype=int))
    return kernel.transpose(*batch, *contract, *free).reshape(groups, reads, -1)


def _input_axes(labelled: Labelled, equation: Equation, place: int) -> tuple[np.ndarray | int, ...]:
    """The axes that make up the ``K`` of ``_matrices``; see ``Kernel.inputs``."""
    labels, shape = labelled.of(equation.inputs[place]), equation.shapes[0][place]
    numbers = equation.params["dimension_numbers"]
    if equation.name == "conv_general_dilated":
        _, into, *space = numbers.rhs_spec
        label = labels[into]
        taps = int(np.prod([shape[a] for a in space], dtype=int))
        return taps, shape[into] if label is None else label
    axes: list[np.ndarray | int] = []
    for axis in numbers[0][place]:
        label = labels[axis]
        axes.append(shape[axis] if label is None else label)
    return tuple(axes)


def positions_of(labelled: Labelled, number: int) -> tuple[int, int]:
    """``(examples, positions of each)`` at which a layer reads its input.

    The first axis of a dense layer's input that is not summed over is taken for
    the examples, the others for positions.
    """
    equation = labelled.program.equations[number]
    if equation.name == "conv_general_dilated":
        batch, _, *space = equation.params["dimension_numbers"].out_spec
        shape = equation.shapes[1][0]
        return shape[batch], int(np.prod([shape[a] for a in space], dtype=int))
    other = 1 - labelled.kernels[number]
    first, *rest = [*_free_sizes(equation, other), 1]
    return first, int(np.prod(rest, dtype=int))


def _free_sizes(equation: Equation, other: int) -> list[int]:
    """Lengths of the axes of an activation over which a dot product neither sums nor runs."""
    contract, batch = (sides[other] for sides in equation.params["dimension_numbers"])
    shape = equation.shapes[0][other]
    return [size for a, size in enumerate(shape) if a not in contract and a not in batch]


def rows_at(labelled: Labelled, number: int, x: jax.Array, chosen: jax.Array) -> jax.Array:
    """What a layer reads at the chosen positions ``[examples, P]``: ``[G, examples · P, K]``."""
    equation = labelled.program.equations[number]
    if equation.name == "conv_general_dilated":
        return _windows(equation, x, chosen)
    other = 1 - labelled.kernels[number]
    contract, batch = (sides[other] for sides in equation.params["dimension_numbers"])
    free = [a for a in range(x.ndim) if a not in contract and a not in batch]
    examples, places = positions_of(labelled, number)
    groups = int(np.prod([x.shape[a] for a in batch], dtype=int))
    x = x.transpose(*batch, *free, *contract).reshape(groups, examples, places, -1)
    x = x[:, jnp.arange(examples)[:, None], chosen]
    return x.reshape(groups, -1, x.shape[-1])


def _windows(equation: Equation, x: jax.Array, chosen: jax.Array) -> jax.Array:
    """``rows_at`` of a convolution: with its padding, strides and dilations."""
    params, numbers = equation.params, equation.params["dimension_numbers"]
    batch, features, *space = numbers.lhs_spec
    kernel, output = equation.shapes[0][1], equation.shapes[1][0]
    x = x.transpose(batch, *space, features)
    borders = zip(params["padding"], params["lhs_dilation"], strict=True)
    config = [(low, high, factor - 1) for (low, high), factor in borders]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    starts = jnp.unravel_index(chosen, tuple(output[a] for a in numbers.out_spec[2:]))
    rank = len(space)
    index = [jnp.arange(x.shape[0]).reshape(-1, *[1] * (rank + 1))]
    for axis, start in enumerate(starts):
        taps = kernel[numbers.rhs_spec[2 + axis]]
        offsets = jnp.arange(taps) * params["rhs_dilation"][axis]
        offsets = offsets.reshape([taps if a == axis else 1 for a in range(rank)])
        first = start.reshape(*chosen.shape, *[1] * rank) * params["window_strides"][axis]
        index.append(first + offsets)
    patches = x[tuple(index)]
    groups = params["feature_group_count"]
    taps = int(np.prod(patches.shape[2:-1], dtype=int))
    patches = patches.reshape(chosen.size, taps, groups, -1).transpose(2, 0, 1, 3)
    return patches.reshape(groups, chosen.size, -1)
