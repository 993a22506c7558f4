"""Labels through operations that move, cut and join axes."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from pfrl.graph.labelled.atoms import Atoms, Label
from pfrl.graph.labelled.axes import reshape_labels, unchanged
from pfrl.graph.labelled.labels import Axes, Labelled, Rule, unknown
from pfrl.graph.labelled.program import Constant, Equation, Operand, Program
from pfrl.graph.labelled.reshaping import axis_groups


def reshape(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    """See ``pfrl.graph.labelled.axes.reshape_labels``."""
    before, after = equation.shapes[0][0], equation.shapes[1][0]
    operand = operands[0]
    labels = reshape_labels(labelled.atoms, operand.labels, before, after)
    head, tail = unchanged(before, after)
    shift = len(after) - len(before)
    zero = {axis for axis in operand.zero if axis < head}
    zero |= {axis + shift for axis in operand.zero if axis >= len(before) - tail}
    if any(label is not None for label in labels[head : len(after) - tail]):
        # A place on a new axis goes with a place on one of those that it is made of: zero, if all
        # of them are.
        groups = axis_groups(before[head : len(before) - tail], after[head : len(after) - tail])
        for old, new in groups:
            known = [head + axis for axis in old if operand.labels[head + axis] is not None]
            if operand.zero.issuperset(known):
                zero.update(head + axis for axis in new if labels[head + axis] is not None)
    return [Axes(labels, frozenset(zero))]


def transpose(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    return [_take_axes(operands[0], equation.params["permutation"])]


def squeeze(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    labels = operands[0].labels
    gone = {axis % len(labels) for axis in equation.params["dimensions"]}
    labelled.atoms.freeze([labels[a] for a in gone], "the only place of its axis")
    return [_take_axes(operands[0], [a for a in range(len(labels)) if a not in gone])]


def _take_axes(axes: Axes, order: Sequence[int]) -> Axes:
    zero = frozenset(place for place, axis in enumerate(order) if axis in axes.zero)
    return Axes(tuple(axes.labels[axis] for axis in order), zero)


def rev(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    turned = equation.params["dimensions"]
    labels = [
        label[::-1] if label is not None and axis in turned else label
        for axis, label in enumerate(operands[0].labels)
    ]
    return [Axes(tuple(labels), operands[0].zero)]


def slice_(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    cuts = [slice(*cut) for cut in zip(starts, limits, strides, strict=True)]
    labels = [
        None if label is None else label[cut]
        for label, cut in zip(operands[0].labels, cuts, strict=True)
    ]
    return [Axes(tuple(labels), operands[0].zero)]


def split(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    axis, ends = equation.params["axis"], np.cumsum(equation.params["sizes"])
    results = []
    for end, size in zip(ends.tolist(), equation.params["sizes"], strict=True):
        labels = list(operands[0].labels)
        label = labels[axis]
        labels[axis] = None if label is None else label[end - size : end]
        results.append(Axes(tuple(labels), operands[0].zero))
    return results


def pad(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """Padding adds fresh indices to a labelled axis: they go with whatever they meet later."""
    labels: list[Label] = []
    for label, (low, high, interior) in zip(
        operands[0].labels, equation.params["padding_config"], strict=True
    ):
        if label is None or (low, high, interior) == (0, 0, 0):
            labels.append(label)
        elif low >= 0 and high >= 0 and interior == 0:
            new = labelled.atoms.new
            labels.append(np.concatenate([new(low), label, new(high)]))
        else:
            labelled.atoms.freeze([label], "padding between its places")
            labels.append(None)
    filled = equation.inputs[1]
    zero = operands[0].zero if isinstance(filled, Constant) and filled.value == 0 else frozenset()
    return [Axes(tuple(labels), zero)]


def concatenate(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    along = equation.params["dimension"]
    labels: list[Label] = []
    for axis in range(len(operands[0].labels)):
        parts = [operand.labels[axis] for operand in operands]
        if axis != along:
            united = parts[0]
            for part in parts[1:]:
                united = labelled.atoms.unite(united, part, "a concatenation with fixed places")
            labels.append(united)
        elif all(part is None for part in parts):
            labels.append(None)
        else:
            sizes = [shape[axis] for shape in equation.shapes[0]]
            frozen = [np.full(size, Atoms.FROZEN) for size in sizes]
            labels.append(
                np.concatenate([
                    other if part is None else part
                    for part, other in zip(parts, frozen, strict=True)
                ])
            )  # fmt: skip
    zero = frozenset.intersection(*(operand.zero for operand in operands))
    # What has no label on an axis loses nothing there.
    bare = frozenset(
        axis
        for axis in range(len(labels))
        if all(axis in o.zero or o.labels[axis] is None for o in operands)
    )
    return [Axes(tuple(labels), zero | bare)]


def dynamic_slice(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    """Axes that are taken whole pass; the others lose their label."""
    sizes, before = equation.params["slice_sizes"], equation.shapes[0][0]
    labels = _whole_axes(labelled, operands[0].labels, before, sizes)
    return [Axes(labels, operands[0].zero)]


def dynamic_update_slice(
    labelled: Labelled, number: int, equation: Equation, operands: list[Axes]
) -> list[Axes]:
    """Axes that are written whole are united; the others lose their labels."""
    before, sizes = equation.shapes[0][:2]
    reason = "it is written in part"
    first = _whole_axes(labelled, operands[0].labels, before, sizes, reason)
    second = _whole_axes(labelled, operands[1].labels, before, sizes, reason)
    labels = tuple(labelled.atoms.unite(a, b, reason) for a, b in zip(first, second, strict=True))
    return [Axes(labels, operands[0].zero & operands[1].zero)]


def _whole_axes(
    labelled: Labelled,
    labels: Sequence[Label],
    before: Sequence,
    sizes: Sequence,
    reason: str = "a slice whose place is computed",
) -> tuple[Label, ...]:
    kept: list[Label] = []
    for label, whole, size in zip(labels, before, sizes, strict=True):
        if whole != size:
            labelled.atoms.freeze([label], reason)
        kept.append(label if whole == size else None)
    return tuple(kept)


def gather(labelled: Labelled, number: int, equation: Equation, operands: list[Axes]) -> list[Axes]:
    """Axes that are taken whole pass; one that is indexed by a fixed list is reordered.

    The list is computed at tracing time and kept in ``labelled.gathered``, so
    that it can be made anew for the sliced operand.
    """
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    operand, before = operands[0], equation.shapes[0][0]
    if numbers.operand_batching_dims or len(operands[1].labels) == 0:
        return unknown(labelled, number, equation, operands)
    labelled.atoms.freeze(operands[1].labels, "indices of a gather")
    window = [a for a in range(len(before)) if a not in numbers.collapsed_slice_dims]
    out_rank = len(equation.shapes[1][0])
    labels: list[Label] = [None] * out_rank
    zero = set()
    for place, axis in zip(numbers.offset_dims, window, strict=True):
        if sizes[axis] == before[axis] and axis not in numbers.start_index_map:
            labels[place] = operand.labels[axis]
            zero |= {place for _ in operand.zero & {axis}}
        else:
            labelled.atoms.freeze([operand.labels[axis]], "a gather that cuts it")
    batch = [a for a in range(out_rank) if a not in numbers.offset_dims]
    for axis in numbers.collapsed_slice_dims:
        label = operand.labels[axis]
        if label is None:
            continue
        indices = None
        if numbers.start_index_map == (axis,) and len(batch) == 1:
            indices = constant_value(labelled.program, equation.inputs[1])
        if indices is None or indices.min() < 0 or indices.max() >= before[axis]:
            labelled.atoms.freeze([label], "a gather by computed indices")
            continue
        labelled.gathered[number] = indices[:, 0]
        labels[batch[0]] = label[indices[:, 0]]
        zero |= {batch[0] for _ in operand.zero & {axis}}
    return [Axes(tuple(labels), frozenset(zero))]


def constant_value(program: Program, operand: Operand) -> np.ndarray | None:
    """A value that depends on no input of the program, or None."""
    if isinstance(operand, Constant):
        return np.asarray(operand.value)
    equation = program.made_by(operand)
    if equation is None or equation.body is not None:
        return None
    inputs: list[Any] = [constant_value(program, each) for each in equation.inputs]
    if any(each is None for each in inputs):
        return None
    # A network may be traced again within a trace of its caller.
    with jax.ensure_compile_time_eval():
        results = equation.bind(inputs)
    return np.asarray(results[equation.outputs.index(operand)])


RULES: dict[str, Rule] = {
    "reshape": reshape,
    "transpose": transpose,
    "squeeze": squeeze,
    "rev": rev,
    "slice": slice_,
    "split": split,
    "pad": pad,
    "concatenate": concatenate,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
}
