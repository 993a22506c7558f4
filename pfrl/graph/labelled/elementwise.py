"""Labels through operations that work place by place, and through generators of arrays."""

import numpy as np

from pfrl.graph.labelled.atoms import Label
from pfrl.graph.labelled.labels import Axes, Labelled, Rule, fresh
from pfrl.graph.labelled.program import Constant, Equation, Operand

# f(0) = 0, or f(0, 0) = 0.
ZERO_TO_ZERO = frozenset(
    "add sub neg sign floor ceil round abs expm1 log1p sqrt cbrt sin tan asin atan sinh tanh "
    "asinh atanh erf erf_inv square convert_element_type copy copy_p stop_gradient real imag "
    "reduce_precision add_any or xor".split()
)
ELEMENTWISE = ZERO_TO_ZERO | frozenset(
    "mul div max min pow rem atan2 nextafter eq ne lt le gt ge eq_to le_to lt_to and not exp exp2 "
    "log rsqrt cos acos cosh acosh logistic erfc integer_pow is_finite clamp select_n lgamma "
    "digamma bessel_i0e bessel_i1e igamma igammac shift_left shift_right_logical "
    "shift_right_arithmetic population_count clz bitcast_convert_type nan_to_num square "
    "regularized_incomplete_beta polygamma zeta random_gamma_grad conj complex".split()
)
GENERATORS = frozenset({"iota", "random_bits", "random_gamma"})
"""Arrays of a given shape out of nothing or a key: made whole, and sliced afterwards."""

KEYS = frozenset(
    "random_wrap random_unwrap random_seed random_fold_in random_split random_clone threefry2x32 "
    "rng_bit_generator".split()
)
"""What makes keys of random generators, of which nothing is ever removed."""


def elementwise(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    """Operands are united axis by axis where they have the result's length; others are spread."""
    shape = equation.shapes[1][0]
    whole = [
        axes.labels
        for axes, before in zip(operands, equation.shapes[0], strict=True)
        if before == shape
    ]
    if len(whole) == len(operands) - sum(not before for before in equation.shapes[0]) == 1:
        labels = whole[0]
    else:
        labels = _meet(labelled, equation, operands, shape)
    return [Axes(labels, _zero_axes(equation, operands, shape)) for _ in equation.outputs]


def _meet(
    labelled: Labelled, equation: Equation, operands: list[Axes], shape: tuple
) -> tuple[Label, ...]:
    labels: list[Label] = []
    for axis, size in enumerate(shape):
        meeting = [
            axes.labels[axis]
            for axes, before in zip(operands, equation.shapes[0], strict=True)
            if len(before) == len(shape) and before[axis] == size
        ]
        label = meeting[0] if meeting else fresh(labelled.atoms, size)
        for other in meeting[1:]:
            if other is not label:
                reason = _reason(labelled, equation)
                label = labelled.atoms.unite(label, other, reason)
        labels.append(label)
    return tuple(labels)


def _reason(labelled: Labelled, equation: Equation) -> str:
    active = [x for x in equation.inputs if isinstance(x, int) and x in labelled.active]
    if len(active) < 2:
        return "it meets the network's input or an array that is fixed"
    return "it meets places that cannot be removed"


def _zero_axes(equation: Equation, operands: list[Axes], shape: tuple) -> frozenset[int]:
    """Axes at whose removed indices the result is zero if the operands are where they are."""
    name = equation.name
    each = [
        frozenset(range(len(shape)))
        if scalar_zero(source)
        # An operand that is spread along an axis has one value for all its places.
        else frozenset(axis for axis in operand.zero if before[axis] == shape[axis])
        for source, operand, before in zip(
            equation.inputs, operands, equation.shapes[0], strict=True
        )
    ]
    if name in ("mul", "and"):
        return frozenset().union(*each)
    if name in ZERO_TO_ZERO:
        return frozenset.intersection(*each)
    if name == "select_n":
        return frozenset.intersection(*each[1:])
    if name == "div":
        return each[0] - each[1]  # 0 / 0 is no number
    if name == "rem":
        return each[0]
    if name in ("max", "min"):
        return _zero_of_bound(equation, each)
    if name == "integer_pow" and equation.params["y"] > 0:
        return each[0]
    if name == "clamp":
        low, high = (_scalar(equation.inputs[place]) for place in (0, 2))
        inside = low is not None and high is not None and low <= 0 <= high
        return each[1] if inside else frozenset()
    return frozenset()


def _zero_of_bound(equation: Equation, each: list[frozenset[int]]) -> frozenset[int]:
    """max(0, c) is 0 for c up to 0, and min(0, c) for c from 0."""
    for place in (0, 1):
        bound = _scalar(equation.inputs[1 - place])
        if bound is not None and (bound <= 0 if equation.name == "max" else bound >= 0):
            return each[place]
    return each[0] & each[1]


def _scalar(operand: Operand) -> float | None:
    if isinstance(operand, Constant) and np.ndim(operand.value) == 0:
        return float(operand.value)
    return None


def scalar_zero(operand: Operand) -> bool:
    """Whether an operand is the number 0."""
    if not isinstance(operand, Constant) or np.ndim(operand.value) != 0:
        return False
    return getattr(operand.value, "dtype", np.dtype(float)).kind in "biuf" and operand.value == 0


def barrier(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    """Every operand passes as it is."""
    return operands


def generator(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    """Atoms of its own on every axis: it is sliced as whatever it meets."""
    for operand in operands:
        labelled.atoms.freeze(operand.labels, "the key of a random generator")
    labels: list[tuple[Label, ...]] = [
        tuple(fresh(labelled.atoms, size) for size in shape) for shape in equation.shapes[1]
    ]
    return [Axes(found) for found in labels]


def key(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """A key has no channels."""
    for operand in operands:
        labelled.atoms.freeze(operand.labels, "the key of a random generator")
    return [Axes((None,) * len(shape)) for shape in equation.shapes[1]]


def broadcast(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    """New axes get atoms of their own; their length follows whatever they meet."""
    shape, dims = equation.params["shape"], equation.params["broadcast_dimensions"]
    operand, before = operands[0], equation.shapes[0][0]
    source = {axis: place for place, axis in enumerate(dims)}
    labels: list[Label] = []
    zero = set()
    for axis, size in enumerate(shape):
        place = source.get(axis)
        if place is not None and before[place] == size:
            labels.append(operand.labels[place])
            zero |= {axis} & {axis for _ in operand.zero & {place}}
        else:
            labels.append(fresh(labelled.atoms, size))
    if scalar_zero(equation.inputs[0]):
        zero = set(range(len(shape)))
    return [Axes(tuple(labels), frozenset(zero))]


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(GENERATORS, generator),
    **dict.fromkeys(KEYS, key),
    "broadcast_in_dim": broadcast,
    "optimization_barrier": barrier,
}
