"""Channel groups: the classes of atoms that a layer makes, put together where they are alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pfrl.graph.count import rows_of
from pfrl.graph.labelled.atoms import Atoms, Label
from pfrl.graph.labelled.labels import Labelled, Labels


class Member(NamedTuple):
    """Where a group's channels are: ``indices[u]`` are channel ``u``'s places on that axis."""

    parameter: str
    axis: int
    indices: np.ndarray
    """int ``[channels, places a channel]``"""


@dataclass(frozen=True)
class Group:
    """Channels that each can be removed, alike in what goes with them.

    Attributes:
      name: the first layer that produces them.
      size: number of channels.
      kind: 'channels', or 'heads' where each is a block of them: an attention
        head or a group of a grouped convolution.
      members: every slice of every array that goes with a channel.
      producers: layers whose outputs the channels are, in order.
      consumers: layers that read them.
    """

    name: str
    size: int
    kind: str
    members: tuple[Member, ...] = field(repr=False)
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


def unique(name: str, taken: Iterable[str]) -> str:
    """``name``, or ``name#2``, ``name#3``, ... if it is taken."""
    candidate, repeat = name, 1
    while candidate in taken:
        repeat += 1
        candidate = f"{name}#{repeat}"
    return candidate


def all_labels(programs: Iterable[Labelled]) -> list[np.ndarray]:
    """The label of every axis of every value, once each."""
    found: dict[int, np.ndarray] = {}
    for labelled in programs:
        for axes in labelled.values:
            found.update({id(label): label for label in axes.labels if label is not None})
        for nested in (*labelled.bodies.values(), *labelled.tangents.values()):
            found.update({id(label): label for label in all_labels([nested])})
    return list(found.values())


def find_channels(
    atoms: Atoms, made: Mapping[str, Sequence[Label]], labels: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Removable channels ``[size]`` (representative atoms) by group.

    A channel is a class of atoms that is not frozen and that a layer makes.
    Channels that occur equally often on the same axes of all values form a
    group, named after the first layer that makes it: so an axis that has one
    of them has all, and never becomes empty while one is kept.

    Args:
      atoms: single channels that would leave an axis empty are frozen in it.
      made: labels of the axes that every layer makes.
      labels: of all axes of all values.
    """
    while True:
        groups = _group(atoms, made, labels)
        single = [roots for roots in groups.values() if len(roots) == 1]
        if single:
            atoms.freeze(single, "the only one of its kind")
        uneven = _uneven(atoms, groups, labels)
        if uneven:
            atoms.freeze([np.array(sorted(uneven))], "an axis that would not stay a whole product")
        if not single and not uneven:
            return groups


def _group(
    atoms: Atoms, made: Mapping[str, Sequence[Label]], labels: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    signature = _signatures(atoms, labels)
    groups: dict[str, list[int]] = {}
    by_signature: dict[int, str] = {}
    seen = set()
    for layer, axes in made.items():
        for label in axes:
            rows = [] if label is None else atoms.rows(label)
            for leaf in dict.fromkeys(leaf for row in rows for leaf in row):
                if leaf not in seen:
                    seen.add(leaf)
                    key = int(signature[leaf])
                    if key not in by_signature:
                        by_signature[key] = unique(layer, groups)
                        groups[by_signature[key]] = []
                    groups[by_signature[key]].append(leaf)
    return {name: np.asarray(leaves) for name, leaves in groups.items()}


def _signatures(atoms: Atoms, labels: Sequence[np.ndarray]) -> np.ndarray:
    """uint64 by atom: a hash of how often it occurs on which axis."""
    signature = np.zeros(len(atoms), np.uint64)
    weights = np.random.default_rng(0).integers(1, 2**63, (len(labels), 2), dtype=np.uint64)
    compound = atoms.compound_roots()
    for label, (weight, power) in zip(labels, weights, strict=True):
        roots = atoms.roots(label)
        if compound and not compound.isdisjoint(roots.tolist()):
            roots = np.asarray([leaf for row in atoms.rows(label) for leaf in row], np.int64)
        leaves, counts = np.unique(roots, return_counts=True)
        # Not linear in the count: once on two axes is not twice on one.
        signature[leaves] += weight * (counts.astype(np.uint64) + power) ** np.uint64(3)
    return signature


def _uneven(
    atoms: Atoms, groups: Mapping[str, np.ndarray], labels: Sequence[np.ndarray]
) -> set[int]:
    """Channels on axes whose length is no function of the groups' counts alone.

    An index that goes with several channels needs all combinations of its
    groups' channels to be there equally often, and from different groups.
    """
    compound = atoms.compound_roots()
    if not compound:
        return set()
    group_of = group_index(atoms, groups)
    sizes = [len(roots) for roots in groups.values()]
    bad: set[int] = set()
    for label in labels:
        if compound.isdisjoint(atoms.roots(label).tolist()):
            continue
        by_groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for row in rows_of(atoms, label, group_of):
            by_groups.setdefault(tuple(int(group_of[leaf]) for leaf in row), []).append(row)
        for key, rows in by_groups.items():
            if len(key) < 2:
                continue
            _, counts = np.unique(np.asarray(rows), axis=0, return_counts=True)
            whole = len(counts) == np.prod([sizes[g] for g in key]) and len(set(counts)) == 1
            if not whole or len(set(key)) < len(key):
                bad.update(leaf for row in rows for leaf in row)
    return bad


def group_index(atoms: Atoms, groups: Mapping[str, np.ndarray]) -> np.ndarray:
    """By atom, the place of the group that it is a channel of, or -1."""
    index = np.full(len(atoms), -1)
    for place, roots in enumerate(groups.values()):
        index[roots] = place
    return index


def find_members(
    atoms: Atoms, variables: Mapping[str, Labels], groups: Mapping[str, np.ndarray]
) -> dict[str, tuple[Member, ...]]:
    """Every slice of every variable that goes with a group's channels."""
    group_of = group_index(atoms, groups)
    rank = np.zeros(len(atoms), np.int64)
    for roots in groups.values():
        rank[roots] = np.arange(len(roots))
    names = list(groups)
    members: dict[str, list[Member]] = {name: [] for name in names}
    for variable in sorted(variables):
        for axis, label in enumerate(variables[variable]):
            assert label is not None
            leaves, indices = _pairs(atoms, label, group_of)
            for place in np.unique(group_of[leaves]).tolist():
                mine = group_of[leaves] == place
                order = np.lexsort((indices[mine], rank[leaves[mine]]))
                table = indices[mine][order].reshape(len(groups[names[place]]), -1)
                members[names[place]].append(Member(variable, axis, table))
    return {name: tuple(found) for name, found in members.items()}


def _pairs(atoms: Atoms, label: np.ndarray, group_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every channel on an axis with its index there."""
    roots = atoms.roots(label)
    if atoms.compound_roots().isdisjoint(roots.tolist()):
        indices = np.flatnonzero(group_of[roots] >= 0)
        return roots[indices], indices
    rows = rows_of(atoms, label, group_of)
    pairs = [(leaf, index) for index, row in enumerate(rows) for leaf in row]
    leaves, indices = np.asarray(pairs, np.int64).reshape(-1, 2).T
    return leaves, indices
