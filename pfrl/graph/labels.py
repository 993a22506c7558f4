"""Labels carried through a program: which index of which axis belongs to which atom.

Each rule takes an equation and the labels of its operands and returns the
labels of its results, uniting or freezing atoms on its way. A primitive without
a rule freezes all that it touches: that is always safe, guessing never is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pfrl.graph.atoms import Atoms, Label
from pfrl.graph.program import CUSTOM_JVP, Constant, Equation, Program

Labels = tuple[Label, ...]
"""One label an axis."""

# One result per element from the operands' elements at the same place.
ELEMENTWISE = frozenset(
    "add sub mul div max min pow rem atan2 nextafter eq ne lt le gt ge and or xor not neg sign "
    "floor ceil round abs exp exp2 expm1 log log1p sqrt rsqrt cbrt sin cos tan asin acos atan sinh "
    "cosh tanh asinh acosh atanh logistic erf erfc erf_inv integer_pow square is_finite clamp "
    "select_n convert_element_type copy copy_p stop_gradient real imag reduce_precision "
    "optimization_barrier add_any".split()
)
REDUCTIONS = frozenset(
    "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax "
    "argmin".split()
)
WINDOWS = frozenset("reduce_window_max reduce_window_min reduce_window_sum".split())
# Zero in, zero out, index by index, whatever else is an operand.
ZERO_KEEPING = frozenset(
    "mul convert_element_type copy reshape transpose squeeze neg abs sqrt stop_gradient".split()
)


@dataclass
class Labelled:
    """A program with the labels of all its values.

    Attributes:
      program: the program.
      atoms: the union-find that the labels refer to.
      labels: by value number.
      zero: values that are zero at every removed index when parameters are
        masked; only a contraction with such an operand drops nothing else.
      tangents: labelled tangent programs by the number of their equation.
      bodies: labelled bodies of the same equations.
      kernels: for every equation that is a layer, the operand that is its kernel.
      unknown: names of the primitives that had no rule.
    """

    program: Program
    atoms: Atoms
    labels: list[Labels]
    zero: set[int]
    tangents: dict[int, "Labelled"] = field(default_factory=dict)
    bodies: dict[int, "Labelled"] = field(default_factory=dict)
    kernels: dict[int, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def of(self, operand: int | Constant) -> Labels:
        """An operand's labels; constants are frozen."""
        if isinstance(operand, Constant):
            return (None,) * np.ndim(operand.value)
        return self.labels[operand]


Rule = Callable[[Equation, Labelled, list[Labels]], list[Labels]]


def propagate(
    program: Program, atoms: Atoms, inputs: list[Labels], zero: set[int], parameters: set[int]
) -> Labelled:
    """Carry labels from the inputs through a program.

    Args:
      inputs: labels of the program's inputs.
      zero: inputs that are zero at removed indices.
      parameters: inputs that are trainable; an operation with one of them and
        an activation is a layer.
    """
    result = Labelled(program, atoms, list(inputs), set(zero))
    parameters = set(parameters)
    for number, equation in enumerate(program.equations):
        operands = [result.of(operand) for operand in equation.inputs]
        values = [operand for operand in equation.inputs if isinstance(operand, int)]
        if equation.name == CUSTOM_JVP:
            outputs = _custom_jvp(number, equation, result, operands)
        else:
            if equation.name in ("conv_general_dilated", "dot_general"):
                _note_layer(number, equation, result, parameters)
            rule = RULES.get(equation.name, _unknown)
            outputs = rule(equation, result, operands)
        result.labels.extend(outputs)
        if equation.name in ZERO_KEEPING and any(value in result.zero for value in values):
            result.zero.update(equation.outputs)
        if equation.name in ("convert_element_type", "copy") and parameters.issuperset(values):
            parameters.update(equation.outputs if values else ())
    return result


def _note_layer(number: int, equation: Equation, result: Labelled, parameters: set[int]) -> None:
    """A contraction of an activation with a parameter is a layer; the parameter is its kernel."""
    kernels = [x for x in equation.inputs if isinstance(x, int) and x in parameters]
    if len(kernels) == 1:
        result.kernels[number] = kernels[0]


def _fresh(atoms: Atoms, size: object) -> Label:
    """New atoms for an axis along which all values are equal; none for a symbolic or single one."""
    return atoms.new(size) if isinstance(size, int) and size > 1 else None


def _unknown(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    for labels in operands:
        result.atoms.freeze(labels)
    if any(label is not None for labels in operands for label in labels):
        result.unknown.add(equation.name)
    return [(None,) * len(shape) for shape in equation.shapes[1]]


def _elementwise(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    """Operands are united axis by axis where they have the result's size; the others are spread."""
    shape = equation.shapes[1][0]
    atoms, united = result.atoms, []
    for axis, size in enumerate(shape):
        meeting = [
            labels[axis]
            for operand, labels, before in zip(
                equation.inputs, operands, equation.shapes[0], strict=True
            )
            if len(before) == len(shape) and before[axis] == size and not is_uniform(operand)
        ]
        label = meeting[0] if meeting else _fresh(atoms, size)
        for other in meeting[1:]:
            label = atoms.unite(label, other)
        united.append(label)
    return [tuple(united) for _ in equation.outputs]


def is_uniform(operand: int | Constant) -> bool:
    """A captured array whose elements are all equal binds no axis: it could be a scalar."""
    if not isinstance(operand, Constant) or np.ndim(operand.value) == 0:
        return False
    value = np.asarray(operand.value)
    return value.size > 0 and bool((value == value.flat[0]).all())


def _broadcast(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    shape, dims = equation.params["shape"], equation.params["broadcast_dimensions"]
    labels: list[Label] = [None] * len(shape)
    source = dict(zip(dims, zip(operands[0], equation.shapes[0][0], strict=True), strict=True))
    for axis, size in enumerate(shape):
        label, before = source.get(axis, (None, 1))
        stays = axis in source and before == size
        labels[axis] = label if stays else _fresh(result.atoms, size)
    return [tuple(labels)]


def _reshape(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    """Leading and trailing axes that stay keep their labels; what lies between is one block.

    A block keeps the label of one axis if the others carry none: merged, the
    atom of every index is that of its place on the labelled axis; split, the
    label must depend on one of the new axes alone. Everything else freezes.
    """
    before, after = equation.shapes[0][0], equation.shapes[1][0]
    labels = operands[0]
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    inner = labels[head : len(labels) - tail]
    sizes = before[head : len(before) - tail]
    target = after[head : len(after) - tail]
    middle = _reshape_block(result.atoms, inner, sizes, target)
    return [(*labels[:head], *middle, *labels[len(labels) - tail :])]


def _reshape_block(atoms: Atoms, labels: Labels, sizes: tuple, target: tuple) -> Labels:
    labelled = [axis for axis, label in enumerate(labels) if label is not None]
    frozen: Labels = (None,) * len(target)
    if not labelled:
        return frozen
    numeric = all(isinstance(size, int) for size in (*sizes, *target))
    if len(labelled) > 1 or not numeric:
        atoms.freeze(labels)
        return frozen
    axis = labelled[0]
    place = np.arange(int(np.prod(sizes))).reshape(sizes)
    flat = np.moveaxis(
        np.broadcast_to(np.asarray(labels[axis]), np.moveaxis(place, axis, -1).shape), -1, axis
    )
    block = flat.reshape(target)
    wide = [axis for axis, size in enumerate(target) if size > 1]
    for axis in wide:
        others = tuple(a for a in range(len(target)) if a != axis)
        line = block[tuple(slice(None) if a == axis else 0 for a in range(len(target)))]
        if (block == np.expand_dims(line, others)).all():
            return tuple(line if a == axis else None for a in range(len(target)))
    atoms.freeze(labels)
    return frozen


def _transpose(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    return [tuple(operands[0][axis] for axis in equation.params["permutation"])]


def _squeeze(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    gone = {axis % len(operands[0]) for axis in equation.params["dimensions"]}
    return [tuple(label for axis, label in enumerate(operands[0]) if axis not in gone)]


def _reduce(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    """Reducing over channels is a function of all of them: those axes freeze."""
    axes = set(equation.params["axes"])
    result.atoms.freeze(label for axis, label in enumerate(operands[0]) if axis in axes)
    return [tuple(label for axis, label in enumerate(operands[0]) if axis not in axes)]


def _window(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    """Pooling: an axis with a window of one place passes, the others freeze."""
    params, labels = equation.params, []
    for axis, label in enumerate(operands[0]):
        passes = (
            params["window_dimensions"][axis] == 1
            and params["window_strides"][axis] == 1
            and tuple(params["padding"][axis]) == (0, 0)
        )
        if not passes:
            result.atoms.freeze([label])
        labels.append(label if passes else None)
    return [tuple(labels)]


def _pad(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    """Padding adds fresh indices to a labelled axis: they go with whatever they meet later."""
    labels = []
    for label, (low, high, interior) in zip(
        operands[0], equation.params["padding_config"], strict=True
    ):
        if label is None or (low, high, interior) == (0, 0, 0):
            labels.append(label)
        elif low >= 0 and high >= 0 and interior == 0:
            labels.append(np.concatenate([result.atoms.new(low), label, result.atoms.new(high)]))
        else:
            result.atoms.freeze([label])
            labels.append(None)
    return [tuple(labels)]


def _slice(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    labels = []
    for label, start, limit, stride in zip(operands[0], starts, limits, strides, strict=True):
        if label is not None and stride != 1:
            result.atoms.freeze([label])
            label = None
        labels.append(None if label is None else label[start:limit])
    return [tuple(labels)]


def _concatenate(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    along = equation.params["dimension"]
    labels: list[Label] = []
    for axis in range(len(operands[0])):
        parts = [operand[axis] for operand in operands]
        if axis != along:
            united = parts[0]
            for part in parts[1:]:
                united = result.atoms.unite(united, part)
            labels.append(united)
        elif all(part is None for part in parts):
            labels.append(None)
        else:
            sizes = [shape[axis] for shape in equation.shapes[0]]
            labels.append(np.concatenate([
                np.full(size, Atoms.FROZEN) if part is None else part
                for part, size in zip(parts, sizes, strict=True)
            ]))  # fmt: skip
    return [tuple(labels)]


def _contract(result: Labelled, equation: Equation, first: Label, second: Label) -> None:
    """Two axes summed over together: removable only if masking makes a factor zero."""
    result.atoms.unite(first, second)
    if result.zero.isdisjoint(x for x in equation.inputs if isinstance(x, int)):
        result.atoms.freeze((first, second))


def _dot(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    (lhs_sum, rhs_sum), (lhs_batch, rhs_batch) = equation.params["dimension_numbers"]
    lhs, rhs = operands
    for a, b in zip(lhs_sum, rhs_sum, strict=True):
        _contract(result, equation, lhs[a], rhs[b])
    batch = [result.atoms.unite(lhs[a], rhs[b]) for a, b in zip(lhs_batch, rhs_batch, strict=True)]
    free_lhs = [lhs[a] for a in range(len(lhs)) if a not in (*lhs_sum, *lhs_batch)]
    free_rhs = [rhs[a] for a in range(len(rhs)) if a not in (*rhs_sum, *rhs_batch)]
    return [(*batch, *free_lhs, *free_rhs)]


def _conv(equation: Equation, result: Labelled, operands: list[Labels]) -> list[Labels]:
    """Input features meet the kernel's, output features are the kernel's; a depthwise
    convolution with one output an input unites both; other groupings freeze."""
    numbers, groups = equation.params["dimension_numbers"], equation.params["feature_group_count"]
    lhs, kernel = operands
    (batch, features, *space), (out, inner, *taps) = numbers.lhs_spec, numbers.rhs_spec
    result.atoms.freeze([lhs[batch], *(lhs[a] for a in space), *(kernel[a] for a in taps)])
    kernel_shape = equation.shapes[0][1]
    if groups == 1 and equation.params["batch_group_count"] == 1:
        _contract(result, equation, lhs[features], kernel[inner])
        channels = kernel[out]
    elif kernel_shape[inner] == 1 and kernel_shape[out] == groups:
        channels = result.atoms.unite(lhs[features], kernel[out])
    else:
        result.atoms.freeze([lhs[features], kernel[inner], kernel[out]])
        channels = None
    labels: list[Label] = [None] * len(lhs)
    labels[numbers.out_spec[1]] = channels
    return [tuple(labels)]


def _custom_jvp(
    number: int, equation: Equation, result: Labelled, operands: list[Labels]
) -> list[Labels]:
    """The function's own labels; a tangent goes with its primal."""
    assert equation.body is not None and equation.tangent is not None
    atoms = result.atoms
    body = propagate(equation.body, atoms, operands, set(), set())
    outputs = [body.of(output) for output in equation.body.outputs]
    tangent = propagate(equation.tangent, atoms, [*operands, *operands], set(), set())
    for place, output in enumerate(equation.tangent.outputs):
        if not (isinstance(output, Constant) and output.value is None):
            for a, b in zip(outputs[place % len(outputs)], tangent.of(output), strict=True):
                atoms.unite(a, b)
    result.bodies[number], result.tangents[number] = body, tangent
    result.unknown |= body.unknown | tangent.unknown
    return outputs


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(WINDOWS, _window),
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "pad": _pad,
    "slice": _slice,
    "concatenate": _concatenate,
    "dot_general": _dot,
    "conv_general_dilated": _conv,
}
