"""Atoms: the indices of channel axes, united where they can only be removed together."""

from collections.abc import Iterable

import numpy as np

Label = np.ndarray | None
"""The atom of every index of an axis ``[size]``; None for an axis that nothing is removed from."""


class Atoms:
    """Union-find over integers with one more state: a class can be frozen.

    Atom 0 is frozen from the start; whatever unites with it stays.
    """

    FROZEN = 0

    def __init__(self) -> None:
        self._parent = [0]
        self._frozen = [True]

    def new(self, size: int) -> np.ndarray:
        """``size`` fresh atoms, each a class of its own."""
        start = len(self._parent)
        self._parent.extend(range(start, start + size))
        self._frozen.extend([False] * size)
        return np.arange(start, start + size)

    def copy(self, size: int | None = None) -> "Atoms":
        """A copy; with ``size`` of the first atoms only, since none points to a newer one."""
        other = Atoms()
        other._parent, other._frozen = self._parent[:size], self._frozen[:size]
        return other

    def find(self, atom: int) -> int:
        """The representative of an atom's class."""
        parent = self._parent
        root = atom
        while parent[root] != root:
            root = parent[root]
        while parent[atom] != root:
            parent[atom], atom = root, parent[atom]
        return root

    def roots(self, label: np.ndarray) -> np.ndarray:
        """Representatives of a label's atoms, ``[size]``."""
        return np.fromiter((self.find(int(atom)) for atom in label), np.int64, len(label))

    def members(self, roots: set[int]) -> np.ndarray:
        """bool by atom: whether its class is one of ``roots``."""
        return np.fromiter(
            (self.find(atom) in roots for atom in range(len(self._parent))),
            bool,
            len(self._parent),
        )

    def is_frozen(self, atom: int) -> bool:
        return self._frozen[self.find(atom)]

    def freeze(self, labels: Iterable[Label]) -> None:
        """No index of these axes is ever removed."""
        for label in labels:
            if label is not None:
                for atom in label:
                    self._frozen[self.find(int(atom))] = True

    def unite(self, first: Label, second: Label) -> Label:
        """Two axes that are indexed together; the label that the result carries.

        An axis without a label freezes the other one.
        """
        if first is None or second is None:
            self.freeze((first, second))
            return None
        if first is second or np.array_equal(first, second):
            return first
        for a, b in zip(first, second, strict=True):
            root_a, root_b = self.find(int(a)), self.find(int(b))
            if root_a != root_b:
                # The older atom stays the representative, so that a class keeps one name.
                low, high = min(root_a, root_b), max(root_a, root_b)
                self._parent[high] = low
                self._frozen[low] = self._frozen[low] or self._frozen[high]
        return first
