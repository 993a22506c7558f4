"""Low rank: one layer as two, with an axis of ``R`` channels between them, by singular values.

The best approximation of a matrix by one of rank ``R`` keeps its ``R`` largest singular
values (Eckart & Young 1936). How a layer's kernel is taken for a matrix is the kind:

- 'svd': inputs × outputs, of a dense layer or a 1 × 1 convolution.
- 'channel': all taps on the side of the inputs, so that the second layer is a 1 × 1
  convolution (Zhang et al. 2015, arXiv 1505.06798).
- 'spatial': the taps of the first axis on the side of the inputs, those of the second on
  that of the outputs: k × 1, then 1 × k (Jaderberg et al. 2014, arXiv 1405.3866; in closed
  form Tai et al. 2016, arXiv 1511.06067).

A layer is an equation and the place of its kernel among the operands, as in ``Labelled.kernels``.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from pfrl.graph.labelled.program import Equation
from pfrl.methods.low_rank.base import DECOMPOSITIONS, Decomposition
from pfrl.registry import register


class Cost(NamedTuple):
    """What a layer costs, up to a factor that all layers with its kernel have in common.

    Attributes:
      layer: its multiply-accumulates.
      rank: those of the two layers, for each channel between them.
      most: the rank at which they compute what it does.
    """

    layer: int
    rank: int
    most: int


def split_matrix(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """``U √S`` ``[K, R]`` and ``√S Vᵀ`` ``[R, M]`` of the ``R`` largest singular values.

    Column ``r`` of the one and row ``r`` of the other both have the norm ``√s_r``: the
    channels between are in the order of their L2 norms, and to remove the last ones of
    them is to truncate the decomposition further.

    Args:
      matrix: ``[K, M]``.
      rank: from 1 to the smaller of ``K`` and ``M``, at which the product is ``matrix``.
    """
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    root = np.sqrt(values[:rank])
    return left[:, :rank] * root, root[:, None] * right[:rank]


def split_kernel(
    kernel: np.ndarray, axes: Collection[int], rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """A convolution's kernel as two, the first of which slides along some axes alone.

    Args:
      kernel: ``[*taps, I, O]``.
      axes: those of the taps that the first kernel has; the second one has the others.
      rank: channels between them; see ``split_matrix``.

    Returns:
      ``[*taps, I, R]`` and ``[*taps, R, O]``, with a single tap along the other's axes.
    """
    *taps, reads, makes = kernel.shape
    order = sorted(range(len(taps)), key=lambda axis: axis not in axes)
    ours = [size if axis in axes else 1 for axis, size in enumerate(taps)]
    theirs = [1 if axis in axes else size for axis, size in enumerate(taps)]
    channels = len(axes)
    moved = kernel.transpose(*order[:channels], len(taps), *order[channels:], len(taps) + 1)
    first, second = split_matrix(moved.reshape(_product(ours) * reads, -1), rank)
    second = np.moveaxis(second.reshape(rank, *theirs, makes), 0, -2)
    return first.reshape(*ours, reads, rank), second


def obstacle(equation: Equation, place: int, kind: str) -> str | None:
    """Why a layer has no decomposition of a kind; None if it has one."""
    params = equation.params
    if equation.name == "dot_general":
        if params["dimension_numbers"][1][place]:
            return "it has kernels of its own for every place along an axis; leave it out"
        return DECOMPOSITIONS[kind].dense
    if params["feature_group_count"] > 1 or params["batch_group_count"] > 1:
        return "it is grouped or depthwise; leave it out"
    if any(factor > 1 for factor in params["lhs_dilation"]):
        return "it is transposed; leave it out"
    if place != 1:
        return "its kernel is what another array slides over; leave it out"
    return DECOMPOSITIONS[kind].obstacle(_window(equation, 1))


def cost(equation: Equation, place: int, kind: str) -> Cost:
    """What a layer costs, and what two would."""
    shape, order = equation.shapes[0][place], _order(equation, place)
    if equation.name == "dot_general":
        sizes, summed = [shape[axis] for axis in order], _summed(equation, place)
        reads, makes = _product(sizes[:summed]), _product(sizes[summed:])
        elements = _product(shape)
        positions = _product(equation.shapes[1][0]) // makes
        return Cost(positions * elements, positions * (reads + makes), min(reads, makes))
    taps, before, after = (_window(equation, which) for which in (1, 0, 2))
    axes = DECOMPOSITIONS[kind].first_axes(len(taps))
    reads, makes = shape[order[-2]], shape[order[-1]]
    between = [after[a] if a in axes else before[a] for a in range(len(taps))]
    reads *= _product(size for axis, size in enumerate(taps) if axis in axes)
    makes *= _product(size for axis, size in enumerate(taps) if axis not in axes)
    return Cost(
        _product(shape) * _product(after),
        reads * _product(between) + makes * _product(after),
        min(reads, makes),
    )


def as_matrix(equation: Equation, place: int, kernel: np.ndarray) -> np.ndarray:
    """A dense kernel as ``[K, M]``, one of a convolution as ``[*taps, I, O]``."""
    kernel = kernel.transpose(_order(equation, place))
    if equation.name == "dot_general":
        return kernel.reshape(_product(kernel.shape[: _summed(equation, place)]), -1)
    return kernel


def _order(equation: Equation, place: int) -> tuple[int, ...]:
    """The axes of a kernel: those that it sums over, taps first, and the others."""
    numbers = equation.params["dimension_numbers"]
    if equation.name == "dot_general":
        summed = numbers[0][place]
        free = (a for a in range(len(equation.shapes[0][place])) if a not in summed)
        return (*summed, *free)
    out, into, *space = numbers.rhs_spec
    return (*space, into, out)


def factors(
    equation: Equation, place: int, kind: str, kernel: np.ndarray, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """The kernels of the two operations, for a kernel as the layer takes it."""
    order, matrix = _order(equation, place), as_matrix(equation, place, kernel)
    if equation.name == "dot_general":
        sizes, summed = [kernel.shape[axis] for axis in order], _summed(equation, place)
        first, second = split_matrix(matrix, rank)
        return first.reshape(*sizes[:summed], rank), second.reshape(rank, *sizes[summed:])
    first, second = split_kernel(matrix, DECOMPOSITIONS[kind].first_axes(kernel.ndim - 2), rank)
    back = np.argsort(order)
    return first.transpose(back), second.transpose(back)


def operations(equation: Equation, place: int, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of the two operations, of the layer's own primitive, with its kernel's place.

    Strides, padding and dilation go with the taps of their axis.
    """
    params = equation.params
    numbers = params["dimension_numbers"]
    if equation.name == "dot_general":
        summed, rank = numbers[0], len(equation.shapes[0][1 - place])
        inner = rank - len(summed[1 - place])
        reads = tuple(range(len(summed[place])))
        # The channels between come first, if the kernel does, and else last.
        sides = [(summed[0], reads), ((inner,), (0,))]
        if place == 0:
            sides = [(reads, summed[1]), ((0,), (0,))]
        first, second = (params | {"dimension_numbers": (side, ((), ()))} for side in sides)
        return first, second
    space = len(numbers.rhs_spec) - 2
    axes = DECOMPOSITIONS[kind].first_axes(space)
    between = {"dimension_numbers": numbers._replace(out_spec=numbers.lhs_spec)}
    others = [axis for axis in range(space) if axis not in axes]
    return _sliding(params, axes) | between, _sliding(params, others)


def _sliding(params: dict[str, Any], axes: Collection[int]) -> dict[str, Any]:
    """A convolution's parameters, sliding along some axes alone."""
    still = {"window_strides": 1, "padding": (0, 0), "rhs_dilation": 1}
    return params | {
        name: tuple(own if a in axes else rest for a, own in enumerate(params[name]))
        for name, rest in still.items()
    }


def _summed(equation: Equation, place: int) -> int:
    """How many axes of a dense kernel are summed over."""
    return len(equation.params["dimension_numbers"][0][place])


def _window(equation: Equation, which: int) -> Sequence[int]:
    """Sizes along the axes of the window: of the input (0), the kernel (1) or the output (2)."""
    shape = equation.shapes[1][0] if which == 2 else equation.shapes[0][which]
    return [shape[axis] for axis in equation.params["dimension_numbers"][which][2:]]


def _product(sizes: Any) -> int:
    return int(np.prod(list(sizes), dtype=int))


def _window_of_one(taps: Sequence[int]) -> str | None:
    if _product(taps) > 1:
        return f"it has a window of {' x '.join(map(str, taps))}; choose 'channel' or 'spatial'"
    return None


def _two_axes(taps: Sequence[int]) -> str | None:
    if len(taps) != 2:
        return f"it slides along {len(taps)} axes, expected 2; choose 'channel'"
    return None


def _all_axes(axes: int) -> tuple[int, ...]:
    return tuple(range(axes))


register("decomposition", "svd", Decomposition(_all_axes, _window_of_one, dense=None))
register("decomposition", "channel", Decomposition(_all_axes, lambda taps: None))
register("decomposition", "spatial", Decomposition(lambda axes: (0,), _two_axes))
