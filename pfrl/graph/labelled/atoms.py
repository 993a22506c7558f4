"""Atoms: the indices of channel axes, united where they can only be removed together."""

from collections.abc import Iterable, Sequence

import numpy as np

Label = np.ndarray | None
"""The atom of every index of an axis ``[size]``; None for an axis that nothing is removed from."""


class Atoms:
    """Union-find over integers, all at once in numpy, with two more states of a class.

    A class can be *frozen*: never removed. And it can be *compound*: it has
    factors, which are atoms themselves, and goes when any of them goes. So an
    index of an axis that holds heads times features goes with its head or with
    its feature.

    Atom 0 is frozen from the start; whatever unites with it stays.
    """

    FROZEN = 0

    def __init__(self) -> None:
        self._size = 1
        self._parent = np.zeros(1 << 12, np.int64)
        self._frozen = np.zeros(1 << 12, bool)
        self._frozen[0] = True
        self._reason = np.zeros(1 << 12, np.int64)
        self._reasons = ["", "a fixed place beside it"]
        self._reason[0] = 1
        self._factors: dict[int, tuple[int, ...]] = {}
        self._flat = False

    def __len__(self) -> int:
        return self._size

    def new(self, size: int) -> np.ndarray:
        """``size`` fresh atoms, each a class of its own."""
        start, self._size = self._size, self._size + size
        while self._size > len(self._parent):
            self._parent = np.concatenate([self._parent, np.zeros_like(self._parent)])
            self._frozen = np.concatenate([self._frozen, np.zeros_like(self._frozen)])
            self._reason = np.concatenate([self._reason, np.zeros_like(self._reason)])
        label = np.arange(start, self._size)
        self._parent[start : self._size] = label
        self._flat = False
        return label

    def compound(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        """An atom for every row of ``factors``, each ``[n]``, that goes when one of them goes."""
        label = self.new(len(factors[0]))
        for atom, *row in zip(label.tolist(), *(f.tolist() for f in factors), strict=True):
            self._factors[atom] = tuple(row)
        return label

    def copy(self) -> "Atoms":
        """An independent copy, in which all atoms keep their numbers."""
        other = Atoms()
        other._size = self._size
        other._parent, other._frozen = self._parent.copy(), self._frozen.copy()
        other._reason, other._reasons = self._reason.copy(), list(self._reasons)
        other._factors = dict(self._factors)
        return other

    def roots(self, label: np.ndarray) -> np.ndarray:
        """Representatives of the classes of a label's atoms, ``[size]``."""
        roots = self._parent[label]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[label] = roots
        return roots

    def compound_roots(self) -> set[int]:
        """Representatives of all compound classes."""
        return {root for root in self._factors if self._parent[root] == root}

    def find(self, atom: int) -> int:
        """The representative of one atom's class."""
        root = atom
        while self._parent[root] != root:
            root = int(self._parent[root])
        return root

    def leaves(self, atom: int) -> tuple[int, ...]:
        """The classes without factors that an atom goes with, in the order of the factors."""
        root = self.find(atom)
        if root not in self._factors:
            return (root,)
        found: dict[int, None] = {}
        for factor in self._factors[root]:
            found.update(dict.fromkeys(self.leaves(factor)))
        return tuple(found)

    def rows(self, label: np.ndarray) -> list[tuple[int, ...]]:
        """For every index of an axis the removable classes that it goes with; none if frozen."""
        known: dict[int, tuple[int, ...]] = {}
        for root in dict.fromkeys(self.roots(label).tolist()):
            known[root] = tuple(leaf for leaf in self.leaves(root) if not self._frozen[leaf])
        return [known[root] for root in self.roots(label).tolist()]

    def is_frozen(self, atom: int) -> bool:
        """Whether an atom's class is frozen; a compound one, if all its factors are."""
        return all(self._frozen[leaf] for leaf in self.leaves(atom))

    def are_removable(self, label: np.ndarray) -> bool:
        """Whether every atom of a label is a class of its own, without factors, and not frozen."""
        alone = bool((self._parent[label] == label).all()) and not self._frozen[label].any()
        return alone and self._factors.keys().isdisjoint(label.tolist())

    def all_frozen(self, label: np.ndarray) -> bool:
        """Whether all of a label's plain classes are frozen."""
        return bool(self._frozen[self.roots(label)].all())

    def reason(self, atom: int) -> str:
        """Why an atom's class is frozen; empty if it is not."""
        for leaf in self.leaves(atom):
            if self._frozen[leaf]:
                return self._reasons[self._reason[leaf]]
        return ""

    def members(self, roots: Iterable[int]) -> np.ndarray:
        """bool by atom: whether it goes when the classes ``roots`` go."""
        gone = np.zeros(self._size, bool)
        gone[np.fromiter(roots, np.int64)] = True
        for root in self._factors:
            if self._parent[root] == root:
                gone[root] = any(gone[leaf] for leaf in self.leaves(root))
        if not self._flat:
            self.roots(np.arange(self._size))  # Makes every class's representative a parent.
            self._flat = True
        return gone[self._parent[: self._size]]

    def freeze(self, labels: Iterable[Label], reason: str = "") -> None:
        """No index of these axes is ever removed."""
        for label in labels:
            if label is None or len(label) == 0:
                continue
            roots = self.roots(label)
            if self._factors:
                leaves = {leaf for r in set(roots.tolist()) for leaf in self.leaves(r)}
                roots = np.fromiter(leaves, np.int64)
            self._mark(roots[~self._frozen[roots]], reason)

    def _mark(self, roots: np.ndarray, reason: str) -> None:
        if len(roots) == 0:
            return
        if reason not in self._reasons:
            self._reasons.append(reason)
        self._frozen[roots] = True
        self._reason[roots] = self._reasons.index(reason)

    def unite(self, first: Label, second: Label, reason: str = "") -> Label:
        """Two axes that are indexed together; the label that the result carries.

        An axis without a label freezes the other one, for the given reason.
        """
        if first is None or second is None:
            self.freeze((first, second), reason)
            return None
        if first is second:
            return first
        a, b = self.roots(first), self.roots(second)
        apart = a != b
        if not apart.any():
            return first
        a, b = a[apart], b[apart]
        if self._factors and not self._factors.keys().isdisjoint((*a.tolist(), *b.tolist())):
            for x, y in zip(a.tolist(), b.tolist(), strict=True):
                self._unite_one(x, y)
        else:
            self._link(a, b)
        return first

    def _link(self, a: np.ndarray, b: np.ndarray) -> None:
        """Unite plain classes pair by pair; the oldest atom stays the representative."""
        both = np.concatenate([a, b])
        frozen = both[self._frozen[both]]
        while len(a):
            low, high = np.minimum(a, b), np.maximum(a, b)
            # Where a class is in several pairs one of them is written, and the others come again.
            self._parent[high] = low
            self._flat = False
            a, b = self.roots(low), self.roots(high)
            a, b = a[a != b], b[a != b]
        if len(frozen):
            roots = self.roots(frozen)
            new = ~self._frozen[roots]
            self._reason[roots[new]] = self._reason[frozen[new]]
            self._frozen[roots] = True

    def _unite_one(self, x: int, y: int) -> None:
        x, y = self.find(x), self.find(y)
        if x == y:
            return
        if x not in self._factors:
            x, y = y, x
        if x not in self._factors:
            self._link(np.array([x]), np.array([y]))
        elif y not in self._factors:
            if y in self.leaves(x):
                # y goes with y or with something else, so these are one.
                self._collapse(x)
                self._unite_one(x, y)
                return
            if self._frozen[y]:
                self.freeze([np.array(self.leaves(x))], self.reason(y))
            self._replace(x, y, self._factors[x])
        else:
            mine, others = self._factors[x], self._factors[y]
            if len(mine) == len(others):
                self._replace(x, y, mine)
                for p, q in zip(mine, others, strict=True):
                    self._unite_one(p, q)
            elif set(self.leaves(x)) == set(self.leaves(y)):
                self._replace(x, y, mine)
            else:
                self._collapse(x)
                self._collapse(y)
                self._unite_one(x, y)

    def _replace(self, x: int, y: int, factors: tuple[int, ...]) -> None:
        """Make two classes one compound class."""
        low, high = min(x, y), max(x, y)
        self._factors.pop(high, None)
        self._parent[high] = low
        self._flat = False
        self._frozen[low] = False
        self._factors[low] = factors

    def _collapse(self, x: int) -> None:
        """Make a compound class and all it goes with one plain class: coarser, and always sound."""
        x = self.find(x)
        leaves = self.leaves(x)
        if self._factors.pop(x, None) is None:
            return
        self._frozen[x] = False
        for leaf in leaves:
            self._unite_one(x, leaf)
