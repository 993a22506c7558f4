"""How many bytes a LiteRT file has: of lists of numbers, each at a place that it is aligned to."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pfrl.compression.sliced import Compressed
from pfrl.deploy.litert.emit import emit
from pfrl.deploy.litert.export import graph_of
from pfrl.deploy.litert.flatbuffer import ALIGNMENT, IDENTIFIER, Written, alignment, shares
from pfrl.deploy.size import Counts, FileSize, follows
from pfrl.graph.count import Count

LENGTH = 4
"""Bytes of the length that a list begins with, and of the file's first offset."""


class LiteRTSize(FileSize[Written]):
    """The size of the file that ``export_litert`` writes."""

    def write(
        self, small: Compressed, input_shape: Sequence[int], metadata: Mapping[str, str]
    ) -> Written:
        graph, quantization = graph_of(small, input_shape)
        return emit(graph, metadata, quantization)

    def size(self, file: Written) -> int:
        return len(file.content)

    def layout(
        self, files: Sequence[Written], at: Sequence[Counts], known: Sequence[Count]
    ) -> "_Layout | None":
        return _Layout.of(files, at, known)


class _List(NamedTuple):
    """A list of numbers: what is written before it, bytes of a number, how many there are."""

    between: int
    each: int
    dims: tuple[tuple[int, Count], ...]


class _Layout(NamedTuple):
    """A file, which is written from its end to its beginning: lists, and what is between them.

    What is between them has as many bytes wherever it is, as it is aligned to four.

    Attributes:
      lists: in the order of writing.
      rest: bytes that are written after the last one, but the head of the file.
    """

    lists: tuple[_List, ...]
    rest: int

    def at(self, counts: Counts) -> int:
        """Bytes of the file."""
        size, known = 0, set()
        for between, each, dims in self.lists:
            count = math.prod(times * channels.at(counts) for times, channels in dims)
            size += between
            if shares(each, count):
                if count in known:
                    continue
                known.add(count)
            size += -(size + each * count) % alignment(each, count) + each * count + LENGTH
        size, head = size + self.rest, LENGTH + len(IDENTIFIER)
        return size + -(size + head) % ALIGNMENT + head

    @classmethod
    def of(
        cls, files: Sequence[Written], at: Sequence[Counts], known: Sequence[Count]
    ) -> "_Layout | None":
        """Of files that differ by their channels alone; None if they differ by more."""
        first, *_ = files
        if len({(len(file.lists), file.rest) for file in files}) > 1:
            return None
        shapes = [iter(file.shapes) for file in files]
        parts, end = [], 0
        for alike in zip(*[file.lists for file in files], strict=True):
            sizes = [(each.count,) for each in alike]
            if alike[0].each == 1:
                sizes = [next(shape) for shape in shapes]
            if len({len(each) for each in sizes}) > 1:
                return None
            dims = [follows(numbers, at, known) for numbers in zip(*sizes, strict=True)]
            between = alike[0].begun - end
            parts.append(_List(between, alike[0].each, tuple(dim for dim in dims if dim)))
            if None in dims:
                return None
            end = alike[0].ended
        found = cls(tuple(parts), first.rest)
        right = all(found.at(a) == len(f.content) for a, f in zip(at, files, strict=True))
        return found if right else None
