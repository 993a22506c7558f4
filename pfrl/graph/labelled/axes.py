"""Labels of axes that are split, merged and reshaped."""

from collections.abc import Sequence

import numpy as np

from pfrl.graph.labelled.atoms import Atoms, Label


def split_label(atoms: Atoms, label: Label, sizes: Sequence[int], reason: str) -> tuple[Label, ...]:
    """An axis ``[prod(sizes)]`` as axes of ``sizes``, row-major.

    Where the label changes along one of them only, that axis carries it. Else
    every axis along which it changes gets atoms of its own, and an index of the
    old axis goes when one of its coordinates goes: heads and what is inside a head.
    """
    nothing: tuple[Label, ...] = (None,) * len(sizes)
    if label is None or atoms.all_frozen(label):
        return nothing
    block = atoms.roots(label).reshape(sizes)
    varying = [
        axis
        for axis, size in enumerate(sizes)
        if size > 1 and not (block == block.take([0], axis)).all()
    ]
    if not varying:
        # All indices go together or not at all, and an axis never loses all of them.
        if label.size > 1 or max(sizes, default=1) > 1:
            atoms.freeze([label], reason)
            return nothing
        return (label, *nothing[1:])
    place = np.arange(len(label)).reshape(sizes)
    parts: list[Label] = list(nothing)
    if len(varying) == 1:
        line = tuple(slice(None) if a == varying[0] else 0 for a in range(len(sizes)))
        parts[varying[0]] = label[place[line]]
        return tuple(parts)
    for axis in varying:
        parts[axis] = atoms.new(sizes[axis])
    atoms.unite(label, merge_labels(atoms, parts, sizes))
    return tuple(parts)


def merge_labels(atoms: Atoms, labels: Sequence[Label], sizes: Sequence[int]) -> Label:
    """Axes of ``sizes`` as one axis, row-major; an index goes when one of its coordinates goes."""
    labelled = [axis for axis, label in enumerate(labels) if label is not None]
    if not labelled:
        return None
    coordinates = np.indices(sizes).reshape(len(sizes), -1)
    factors = [np.asarray(labels[axis])[coordinates[axis]] for axis in labelled]
    return factors[0] if len(factors) == 1 else atoms.compound(factors)


def reshape_labels(
    atoms: Atoms, labels: Sequence[Label], before: Sequence, after: Sequence
) -> tuple[Label, ...]:
    """Labels after a row-major reshape of ``before`` to ``after``.

    Axes at either end that stay keep their labels. Between them both shapes are
    cut into the smallest blocks whose sizes agree, and every block is split
    into the common refinement of both and merged again.
    """
    head, tail = unchanged(before, after)
    inner = labels[head : len(labels) - tail]
    sizes = tuple(before[head : len(before) - tail])
    target = tuple(after[head : len(after) - tail])
    middle = _block(atoms, inner, sizes, target)
    return (*labels[:head], *middle, *labels[len(labels) - tail :])


def unchanged(before: Sequence, after: Sequence) -> tuple[int, int]:
    """How many axes at the front and at the back a reshape leaves as they are."""
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return head, tail


def _block(atoms: Atoms, labels: Sequence[Label], sizes: tuple, target: tuple) -> tuple[Label, ...]:
    nothing: tuple[Label, ...] = (None,) * len(target)
    if all(label is None for label in labels):
        return nothing
    reason = "a reshape that mixes it with other axes"
    if not all(isinstance(size, int) for size in (*sizes, *target)):
        atoms.freeze(labels, reason)
        return nothing
    fine = refinement(sizes, target)
    if fine is None:
        atoms.freeze(labels, reason)
        return nothing
    pieces: list[Label] = []
    at = 0
    for label, size in zip(labels, sizes, strict=True):
        if size == 1:
            atoms.freeze([label], "the only place of its axis")
            continue
        count = _pieces(fine[at:], size)
        pieces += split_label(atoms, label, fine[at : at + count], reason)
        at += count
    merged: list[Label] = []
    at = 0
    for size in target:
        count = _pieces(fine[at:], size)
        merged.append(merge_labels(atoms, pieces[at : at + count], fine[at : at + count]))
        at += count
    return tuple(merged)


def refinement(first: Sequence[int], second: Sequence[int]) -> list[int] | None:
    """The coarsest sizes of which both shapes' axes (above 1) are products, or None."""
    ends = {int(np.prod(shape[: i + 1])) for shape in (first, second) for i in range(len(shape))}
    fine, last = [], 1
    for end in sorted(ends - {1}):
        if end % last:
            return None
        fine.append(end // last)
        last = end
    return fine


def _pieces(fine: Sequence[int], size: int) -> int:
    """How many leading elements of ``fine`` multiply to ``size``."""
    count, product = 0, 1
    while product < size:
        product *= fine[count]
        count += 1
    return count
