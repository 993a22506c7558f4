"""Lengths and sizes as functions of how many channels every group keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pfrl.graph.labelled.atoms import Atoms, Label


@dataclass(frozen=True)
class Count:
    """A polynomial in the channel counts: ``fixed`` and a sum of products.

    Attributes:
      fixed: the part that no group changes.
      terms: ``(places, groups)``: so many places for every combination of a
        channel of each of the groups (heads times what is inside a head).
    """

    fixed: int
    terms: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def at(self, counts: Mapping[str, int]) -> int:
        result = self.fixed
        for places, groups in self.terms:
            for group in groups:
                places *= counts[group]
            result += places
        return result

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that it depends on, in order."""
        return tuple(dict.fromkeys(group for _, groups in self.terms for group in groups))

    def __mul__(self, other: Count) -> Count:
        product: Counter[tuple[str, ...]] = Counter()
        for places, groups in (*self.terms, (self.fixed, ())):
            for more, others in (*other.terms, (other.fixed, ())):
                product[(*groups, *others)] += places * more
        fixed = product.pop((), 0)
        return Count(fixed, tuple((n, groups) for groups, n in product.items() if n))


def total(counts: Iterable[Count]) -> Count:
    """The sum of any number of counts; terms of the same groups become one."""
    fixed, terms = 0, Counter[tuple[str, ...]]()
    for count in counts:
        fixed += count.fixed
        for places, groups in count.terms:
            terms[tuple(sorted(groups))] += places
    return Count(fixed, tuple((n, groups) for groups, n in terms.items() if n))


def product(counts: Iterable[Count]) -> Count:
    """The product of any number of counts."""
    result = Count(1)
    for count in counts:
        result = result * count
    return result


def count_axis(
    atoms: Atoms, label: Label, size: int, group_of: np.ndarray, sizes: Mapping[str, int]
) -> Count:
    """The length of an axis.

    Args:
      label: of the axis ``[size]``.
      group_of: by atom, the place in ``sizes`` of the group that it is a channel of, or -1.
      sizes: channels of every group.
    """
    if label is None:
        return Count(size)
    names = list(sizes)
    roots = atoms.roots(label)
    if atoms.compound_roots().isdisjoint(roots.tolist()):
        found, rows = np.unique(group_of[roots], return_counts=True)
        keys = [(names[g],) if g >= 0 else () for g in found]
        kinds = Counter(dict(zip(keys, rows.tolist(), strict=True)))
    else:
        kinds = Counter(
            tuple(names[group_of[leaf]] for leaf in row) for row in rows_of(atoms, label, group_of)
        )
    fixed = kinds.pop((), 0)
    terms = []
    for groups, count in kinds.items():
        terms.append((count // int(np.prod([sizes[g] for g in groups])), groups))
    return Count(fixed, tuple(terms))


def rows_of(atoms: Atoms, label: np.ndarray, group_of: np.ndarray) -> list[tuple[int, ...]]:
    """For every index of an axis the channels that it goes with."""
    roots = atoms.roots(label)
    known = {
        root: tuple(leaf for leaf in atoms.leaves(root) if group_of[leaf] >= 0)
        for root in dict.fromkeys(roots.tolist())
    }
    return [known[root] for root in roots.tolist()]
