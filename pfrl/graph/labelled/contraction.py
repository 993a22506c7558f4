"""Labels through operations that sum or scan over axes: contractions, reductions, windows."""

from pfrl.graph.labelled.atoms import Label
from pfrl.graph.labelled.axes import split_label
from pfrl.graph.labelled.labels import Axes, Labelled, Rule, freeze
from pfrl.graph.labelled.program import Equation


def _contract(labelled: Labelled, first: tuple[Axes, int], second: tuple[Axes, int]) -> None:
    """Two axes summed over together: removable only if masking makes a factor zero."""
    (lhs, a), (rhs, b) = first, second
    labelled.atoms.unite(lhs.labels[a], rhs.labels[b], "a product with a fixed array")
    if a not in lhs.zero and b not in rhs.zero:
        freeze(labelled, (lhs.labels[a], rhs.labels[b]), "a sum that feels what is not there")


def dot(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """Axes that are summed over or run along are united; the others pass."""
    (lhs_sum, rhs_sum), (lhs_batch, rhs_batch) = equation.params["dimension_numbers"]
    lhs, rhs = operands[:2]
    for a, b in zip(lhs_sum, rhs_sum, strict=True):
        _contract(labelled, (lhs, a), (rhs, b))
    labels: list[Label] = []
    zero = []
    for a, b in zip(lhs_batch, rhs_batch, strict=True):
        labels.append(labelled.atoms.unite(lhs.labels[a], rhs.labels[b], "a product with it"))
        labelled.heads.append(labels[-1])
        zero.append(a in lhs.zero or b in rhs.zero)
    for axes, used in ((lhs, (*lhs_sum, *lhs_batch)), (rhs, (*rhs_sum, *rhs_batch))):
        for axis, label in enumerate(axes.labels):
            if axis not in used:
                labels.append(label)
                zero.append(axis in axes.zero)
    return [Axes(tuple(labels), frozenset(a for a, z in enumerate(zero) if z))]


def conv(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """Input features meet the kernel's, output features are the kernel's.

    With ``feature_group_count`` G the input's features are an axis ``[G, I]``
    and the kernel's outputs ``[G, O / G]``: whole groups go together, and every
    group loses the same places inside, so that they stay equal in size.
    """
    numbers, groups = equation.params["dimension_numbers"], equation.params["feature_group_count"]
    lhs, kernel = operands
    (batch, features, *space), (out, inner, *taps) = numbers.lhs_spec, numbers.rhs_spec
    freeze(labelled, tuple(lhs.labels[a] for a in space), "an axis that a convolution slides over")
    freeze(labelled, tuple(kernel.labels[a] for a in taps), "an axis of a convolution's window")
    channels = kernel.labels[out]
    zero = out in kernel.zero
    if equation.params["batch_group_count"] != 1:
        reason = "a convolution with groups of examples"
        freeze(labelled, (*lhs.labels, *kernel.labels), reason)
        channels = None
    elif groups == 1:
        _contract(labelled, (lhs, features), (kernel, inner))
    else:
        labelled.conv_groups[number] = _grouped(labelled, equation, lhs, kernel)
    labels: list[Label] = [None] * len(lhs.labels)
    labels[numbers.out_spec[0]] = lhs.labels[batch]
    labels[numbers.out_spec[1]] = channels
    return [Axes(tuple(labels), frozenset({numbers.out_spec[1]} if zero else ()))]


def _grouped(labelled: Labelled, equation: Equation, lhs: Axes, kernel: Axes) -> Label:
    """Tie a grouped convolution's axes together; returns the label of the groups."""
    numbers, groups = equation.params["dimension_numbers"], equation.params["feature_group_count"]
    out, inner = numbers.rhs_spec[:2]
    features = numbers.lhs_spec[1]
    reads = equation.shapes[0][1][inner]
    makes = equation.shapes[0][1][out] // groups
    atoms, reason = labelled.atoms, "a grouped convolution"
    own, channel = _split(labelled, lhs.labels[features], groups, reads, reason)
    other, _ = _split(labelled, kernel.labels[out], groups, makes, reason)
    group = atoms.unite(own, other, reason)
    if reads > 1:
        atoms.unite(channel, kernel.labels[inner], reason)
        if inner not in kernel.zero and features not in lhs.zero:
            freeze(labelled, (channel, kernel.labels[inner]), "a sum that feels what is not there")
        labelled.heads.append(group)
    else:
        freeze(labelled, (kernel.labels[inner],), "the only place of its axis")
    return group


def _split(
    labelled: Labelled, label: Label, groups: int, size: int, reason: str
) -> tuple[Label, Label]:
    """``[groups · size]`` as ``(groups, size)``."""
    if size == 1:
        return label, None
    first, second = split_label(labelled.atoms, label, (groups, size), reason)
    return first, second


def reduce(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """A sum passes where what is removed is zero; its divisor in a mean is a literal, and stays.

    Every other reduction over channels is a function of all of them, and freezes them.
    """
    axes = {axis % len(operands[0].labels) for axis in equation.params["axes"]}
    operand = operands[0]
    for axis in axes:
        if not (equation.name == "reduce_sum" and axis in operand.zero):
            freeze(labelled, (operand.labels[axis],), f"'{equation.name}' over it")
    stay = [axis for axis in range(len(operand.labels)) if axis not in axes]
    keeps = equation.name in ("reduce_sum", "reduce_max", "reduce_min")
    zero = frozenset(place for place, axis in enumerate(stay) if keeps and axis in operand.zero)
    return [Axes(tuple(operand.labels[axis] for axis in stay), zero) for _ in equation.outputs]


def window(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """Pooling: an axis with a window of one place passes, the others freeze."""
    params, labels = equation.params, []
    for axis, label in enumerate(operands[0].labels):
        passes = (
            params["window_dimensions"][axis] == 1
            and params["window_strides"][axis] == 1
            and tuple(params["padding"][axis]) == (0, 0)
        )
        if not passes:
            freeze(labelled, (label,), "a window that slides over it")
        labels.append(label if passes else None)
    return [Axes(tuple(labels), operands[0].zero)]


def scan(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """A running reduction: a running sum skips what is zero, the others feel every place."""
    axis, operand = equation.params["axis"], operands[0]
    if not (equation.name == "cumsum" and axis in operand.zero):
        freeze(labelled, (operand.labels[axis],), f"'{equation.name}' over it")
    return [Axes(operand.labels, operand.zero - {axis})]


def sort(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """The sorted axis freezes; along the others the operands are united."""
    axis = equation.params["dimension"]
    labels = list(operands[0].labels)
    for operand in operands:
        freeze(labelled, (operand.labels[axis],), "'sort' over it")
        for place, label in enumerate(operand.labels):
            labels[place] = labelled.atoms.unite(labels[place], label, "'sort' beside it")
    return [Axes(tuple(labels)) for _ in equation.outputs]


def top_k(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    freeze(labelled, operands[0].labels[-1:], "'top_k' over it")
    return [Axes((*operands[0].labels[:-1], None)) for _ in equation.outputs]


REDUCTIONS = (
    "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin"
)
RULES: dict[str, Rule] = {
    "dot_general": dot,
    "conv_general_dilated": conv,
    "sort": sort,
    "top_k": top_k,
    **dict.fromkeys(REDUCTIONS.split(), reduce),
    **dict.fromkeys("reduce_window_max reduce_window_min reduce_window_sum".split(), window),
    **dict.fromkeys("cumsum cumprod cummax cummin cumlogsumexp".split(), scan),
}
