"""How many bytes an ONNX file has: of its parts, each behind its length."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from pfrl.compression.sliced import Compressed
from pfrl.deploy.onnx.export import to_onnx
from pfrl.deploy.size import Counts, FileSize, follows
from pfrl.graph.count import Count


class OnnxSize(FileSize[onnx.ModelProto]):
    """The size of the file that ``export_onnx`` writes."""

    def write(
        self, small: Compressed, input_shape: Sequence[int], metadata: Mapping[str, str]
    ) -> onnx.ModelProto:
        model = to_onnx(small, input_shape)
        helper.set_model_props(model, dict(metadata))
        return model

    def size(self, file: onnx.ModelProto) -> int:
        return file.ByteSize()

    def layout(
        self, files: Sequence[onnx.ModelProto], at: Sequence[Counts], known: Sequence[Count]
    ) -> "_Layout | None":
        return _Layout.of(files, at, known)


class _Tensor(NamedTuple):
    """A constant whose size follows the channels: its sizes, and the bytes of all else of it."""

    dims: tuple[tuple[int, Count], ...]
    each: int
    beside: int

    def bytes(self, counts: Counts) -> int:
        sizes = [times * count.at(counts) for times, count in self.dims]
        raw = self.each * int(np.prod(sizes, dtype=np.int64))
        return self.beside + sum(1 + _varint(size) for size in sizes) + _field(raw)


class _Node(NamedTuple):
    """An operation with a whole number that follows the channels."""

    number: tuple[int, Count]
    beside: int

    def bytes(self, counts: Counts) -> int:
        times, count = self.number
        return self.beside + _varint(times * count.at(counts))


class _Layout(NamedTuple):
    """A file as what follows the channels, and the bytes of all else.

    Attributes:
      parts: tensors and operations of the graph.
      graph: bytes of its other parts.
      beside: bytes of the file that are not of the graph.
    """

    parts: tuple[_Tensor | _Node, ...]
    graph: int
    beside: int

    def at(self, counts: Counts) -> int:
        """Bytes of the file."""
        whole = self.graph + sum(_field(part.bytes(counts)) for part in self.parts)
        return self.beside + _field(whole)

    @classmethod
    def of(
        cls, models: Sequence[onnx.ModelProto], at: Sequence[Counts], known: Sequence[Count]
    ) -> "_Layout | None":
        """Of files that differ by their channels alone; None if they differ by more."""
        first, *_ = models
        parts: list[_Tensor | _Node] = []
        fixed = first.graph.ByteSize()
        for tensors in _together([model.graph.initializer for model in models]):
            if len({tuple(tensor.dims) for tensor in tensors}) == 1:
                continue
            dims = [follows([t.dims[i] for t in tensors], at, known) for i in _axes(tensors)]
            tensor = tensors[0]
            if len({len(t.dims) for t in tensors}) > 1 or None in dims:
                return None
            each = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            part = _Tensor(tuple(d for d in dims if d), each, 0)
            beside = tensor.ByteSize() - part.bytes(at[0])
            parts.append(part._replace(beside=beside))
            fixed -= _field(tensor.ByteSize())
        for nodes in _together([model.graph.node for model in models]):
            for numbers in zip(*[[a.i for a in node.attribute] for node in nodes], strict=True):
                if len(set(numbers)) > 1:
                    number = follows(numbers, at, known)
                    if number is None:
                        return None
                    parts.append(_Node(number, nodes[0].ByteSize() - _varint(numbers[0])))
                    fixed -= _field(nodes[0].ByteSize())
        found = cls(tuple(parts), fixed, first.ByteSize() - _field(first.graph.ByteSize()))
        right = all(found.at(a) == m.ByteSize() for a, m in zip(at, models, strict=True))
        return found if right else None


def _together(kinds: Sequence) -> Iterator[tuple]:
    """The first, second, ... of all; none if there are not as many of each, or others."""
    names = {tuple(each.name for each in kind) for kind in kinds}
    return zip(*kinds, strict=True) if len(names) == 1 else iter(())


def _axes(tensors: Sequence[onnx.TensorProto]) -> range:
    return range(min(len(tensor.dims) for tensor in tensors))


def _varint(number: int) -> int:
    """Bytes of a whole number in a protocol buffer."""
    return max(1, (number.bit_length() + 6) // 7)


def _field(length: int) -> int:
    """Bytes of a part of so many: itself behind its length and its kind."""
    return 1 + _varint(length) + length
