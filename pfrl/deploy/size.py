"""How many bytes the file of a policy's network has, before there is one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

import numpy as np

from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Prepared
from pfrl.compression.recipe import PLAIN, Recipe
from pfrl.compression.rounding import site_bits
from pfrl.compression.sliced import Compressed, assemble
from pfrl.deploy.operators.quantized import MOVING, build_quantized
from pfrl.graph import Graph
from pfrl.graph.count import Count
from pfrl.methods.quantization.uniform import FLOAT_BITS

File = TypeVar("File")
Counts = Mapping[str, int]
Bits = tuple[tuple[int, int], ...]
"""Of the weights and of the input of every layer, as far as a file tells them apart."""
MOST_MODELS = 8
"""Files from which it is read what their sizes depend on; two are enough as a rule."""
POSITIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax"})
"""Operators whose results are never below zero; ..."""
KEEPS_SIGN = MOVING | {"Concat", "Add", "Mul", "AveragePool", "GlobalAveragePool", "Pad"}
"""... and those whose results are not where nothing is that they read."""
PROBES = 6
"""Further assignments by which two counts are told apart, without files."""


class Layout(Protocol):
    """A file as what follows the channels, and all else."""

    def at(self, counts: Counts) -> int:
        """Bytes of the file with so many channels."""
        ...


class FileSize(ABC, Generic[File]):
    """The exact size of the file that is written for any policy, as a function.

    Two files are made for all policies that round the same layers; from these it is read which
    sizes follow which channels, and what any other file has is computed without making it. Of a
    network that shuffles channels it may be off by the bytes of a shuffle, which is left out of a
    file where the channels that are kept need none.

    Args:
      graph: of the base network.
      recipe: how kernels are rounded.
      metadata: that the file carries along.
    """

    def __init__(
        self,
        graph: Graph,
        recipe: Recipe = PLAIN,
        metadata: Mapping[str, str] = MappingProxyType({}),
    ):
        self._graph, self._recipe, self._metadata = graph, recipe, dict(metadata)
        self._candidates = list(
            dict.fromkeys(count for axes in graph.axes.values() for count in axes if count.terms)
        )
        self._layout = lru_cache(maxsize=64)(self._found)
        self._direct = lru_cache(maxsize=1024)(self._made)

    @abstractmethod
    def write(
        self, small: Compressed, input_shape: Sequence[int], metadata: Mapping[str, str]
    ) -> File:
        """The file of a network, before it is on a disk."""

    @abstractmethod
    def size(self, file: File) -> int:
        """Its bytes."""

    @abstractmethod
    def layout(
        self, files: Sequence[File], at: Sequence[Counts], known: Sequence[Count]
    ) -> Layout | None:
        """Of files that differ by their channels alone; None if they differ by more.

        Args:
          files: two or more.
          at: channels of each.
          known: all that the channels of an axis may be.
        """

    def __call__(
        self, counts: Counts, weight_bits: Mapping[str, int], act_bits: Mapping[str, int]
    ) -> int:
        """Bytes of the file.

        Args:
          counts: channels of every group.
          weight_bits, act_bits: of every layer.

        Raises:
          ExportError: if the network cannot be written as such a file.
        """
        names = [layer.name for layer in self._graph.layers]
        bits = tuple((_class(weight_bits[name], 8), _class(act_bits[name], 7)) for name in names)
        alone = frozenset(
            name for name, group in self._graph.groups.items() if counts[name] == 1 < group.size
        )
        layout = self._layout(bits, alone)
        return self._direct(bits, tuple(counts.items())) if layout is None else layout.at(counts)

    def _found(self, bits: Bits, alone: frozenset[str]) -> Layout | None:
        """How files of these bits are laid out; None if some size follows no count.

        Args:
          alone: groups of one channel, which may be read by other operators than more are.
        """
        full = {
            name: 1 if name in alone else group.size for name, group in self._graph.groups.items()
        }
        tried = [full]
        for counts in self._assignments(alone):
            if len(tried) > 1 and self._told_apart(tried, alone):
                break
            tried.append(counts)
        return self.layout([self._file(bits, each) for each in tried], tried, self._candidates)

    def _assignments(self, alone: frozenset[str], seed: int = 0) -> Iterator[dict[str, int]]:
        rng = np.random.default_rng(seed)
        for _ in range(MOST_MODELS - 1):
            yield {
                name: 1 if name in alone else int(rng.integers(min(2, group.size), group.size + 1))
                for name, group in self._graph.groups.items()
            }

    def _told_apart(self, tried: Sequence[Counts], alone: frozenset[str]) -> bool:
        """Whether counts that are multiples of each other, or of 1, in all of these always are."""
        probes = list(self._assignments(alone, seed=1))[:PROBES]
        alike: dict[bytes, bytes] = {}
        for count in (Count(1), *self._candidates):
            seen, always = (_ratios(count, each) for each in (tried, [*tried, *probes]))
            if alike.setdefault(seen, always) != always:
                return False
        return True

    def _made(self, bits: Bits, counts: tuple[tuple[str, int], ...]) -> int:
        return self.size(self._file(bits, dict(counts)))

    def _file(self, bits: Bits, counts: Counts) -> File:
        """The file of such bits and channels, with whatever numbers."""
        graph = self._graph
        names = [layer.name for layer in graph.layers]
        keep = {name: counts[name] / group.size for name, group in graph.groups.items()}
        weights, inputs = zip(*bits, strict=True)
        policy = Policy(
            keep, dict(zip(names, weights, strict=True)), dict(zip(names, inputs, strict=True))
        )
        kept = {name: np.arange(counts[name]) for name in graph.groups}
        ranges = {site.name: (0.0, 1.0) for site in graph.sites} if _rounded(bits) else {}
        prepared = Prepared(kept, graph.source.variables, {})
        small = assemble(graph, policy, prepared, self._recipe, ranges)
        if ranges:  # a ReLU on a grid that goes below zero is an operation of its own
            below = _below_zero(small, graph)
            ranges = {n: (-1.0 if n in below else 0.0, high) for n, (_, high) in ranges.items()}
            small = replace(small, ranges=ranges)
        return self.write(small, graph.input_shape, self._metadata)


def _below_zero(small: Compressed, graph: Graph) -> set[str]:
    """Sites that are rounded and on whose grid some tensor can be negative, by what makes it."""
    operators, _ = build_quantized(small, graph.input_shape)
    floats = {name: a for name, a in operators.constants.items() if a.dtype.kind == "f"}
    positive = {name for name, values in floats.items() if (values >= 0).all()}
    for node in operators.nodes:
        read = [n for n in node.inputs if n in floats or (n and n not in operators.constants)]
        low = node.attributes.get("min", -np.inf) if node.op == "Clip" else -np.inf
        kept = node.op in KEEPS_SIGN and all(name in positive for name in read)
        if kept or node.op in POSITIVE or low >= 0:
            positive.add(node.output)
    found = {
        operators.sites[value]
        for name, value in operators.values.items()
        if value in operators.sites and name not in positive
    }
    bits = site_bits(graph, small.policy)
    rounded = [site for site in graph.sites if bits[site.name] < FLOAT_BITS]
    grids = {site.grid for site in rounded if site.name in found}
    return {site.name for site in rounded if site.grid in grids}


def follows(
    numbers: Sequence[int], at: Sequence[Counts], known: Sequence[Count]
) -> tuple[int, Count] | None:
    """What a size is: so many times which count; None if it follows none.

    Args:
      numbers: the size in some files.
      at: channels of each.
      known: counts that it may follow.
    """
    if len(set(numbers)) == 1:
        return 1, Count(numbers[0])
    for count in known:
        times, rest = divmod(numbers[0], max(count.at(at[0]), 1))
        if rest == 0 and all(times * count.at(a) == n for a, n in zip(at, numbers, strict=True)):
            return times, count
    return None


def _ratios(count: Count, at: Sequence[Counts]) -> bytes:
    """The same for counts that are multiples of each other in all of these."""
    numbers = np.array([count.at(counts) for counts in at])
    return (numbers // max(np.gcd.reduce(numbers), 1)).tobytes()


def _class(bits: int, fewer: int) -> int:
    """Bits as far as a file tells them apart: a byte holds all up to 8; of activations with fewer
    there is an operation that clips."""
    return bits if bits in (8, FLOAT_BITS) else fewer


def _rounded(bits: Bits) -> bool:
    return any(width != FLOAT_BITS for pair in bits for width in pair)
